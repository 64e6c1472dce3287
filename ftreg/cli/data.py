"""`ftreg data`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli import options
from ftreg.cli.command import command
from ftreg.errors import UsageError

app = typer.Typer(help="Versioned datasets.", no_args_is_help=True)

Root = Annotated[Path, typer.Option(help="Folder of datasets.")]
Version = Annotated[str, typer.Argument(help="Dataset version, name@N.", show_default=False)]
_ROOT = Path("sample_datasets")


@app.command("list")
@command
def list_versions(root: Root = _ROOT, as_json: options.AsJson = False) -> None:
    """List the dataset versions below a folder.

    Example: ftreg data list
    """
    from ftreg.data import list_refs, load_dataset
    from ftreg.report.terminal import rows_view

    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    cards = [load_dataset(ref, root=root).card for ref in list_refs(root)]
    rows = [
        {
            "version": f"{card.name}@{card.version}",
            "rows": ", ".join(f"{name} {split.rows}" for name, split in card.splits.items()),
            "license": card.license,
            "cohorts": ", ".join(card.cohorts),
        }
        for card in cards
    ]
    options.show(as_json, value={"datasets": rows}, text=rows_view("Dataset versions", rows))


@app.command()
@command
def show(version: Version, root: Root = _ROOT, as_json: options.AsJson = False) -> None:
    """Show a dataset version's card, and the sizes of its cohorts.

    Example: ftreg data show ferry-desk@1
    """
    from ftreg.data import load_dataset
    from ftreg.data.cohorts import cohort_sizes
    from ftreg.report.terminal import card_view

    dataset = load_dataset(version, root=root)
    sizes = {name: cohort_sizes(dataset, name) for name in dataset.card.splits}
    options.show(
        as_json,
        value={**dataset.card.model_dump(), "digest": dataset.card.digest, "cohort_sizes": sizes},
        text=card_view(dataset.card, sizes),
    )


@app.command()
@command
def verify(version: Version, root: Root = _ROOT) -> None:
    """Check a dataset version: the bytes against the card's digests, then every row.

    Example: ftreg data verify code-summary@2
    """
    from ftreg.data import load_dataset

    dataset = load_dataset(version, root=root)
    for name in dataset.card.splits:
        typer.echo(f"{version} {name}: {len(dataset.split(name))} rows, as the card says")


@app.command()
@command
def build(
    versions: Annotated[list[str], typer.Argument(help="Versions, name@N.", show_default=False)],
    root: Root = _ROOT,
) -> None:
    """Make the files of dataset versions from their recipes, and verify them byte by byte.

    Example: ftreg data build code-summary@1 code-summary@2
    """
    from ftreg.data.build import build_version

    for version in versions:
        made = build_version(version, root=root)
        typer.echo(f"{version}: {'built and verified' if made else 'here already, verified'}")
