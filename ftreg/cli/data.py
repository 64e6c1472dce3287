"""`ftreg data`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ftreg.cli import data_versions
from ftreg.cli.data_import import import_rows
from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.groups import group
from ftreg.errors import UsageError
from ftreg.records.samples import PRINTED_SCHEMA

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.datasets import (
        ListedDataset,
        PrintedDatasets,
        PrintedVerification,
    )

app = group("Versioned datasets.")

Root = Annotated[Path, typer.Option(help="Folder of datasets.")]
Version = Annotated[
    str,
    typer.Argument(
        help="Dataset version, name@N.", show_default=False, autocompletion=completion.datasets
    ),
]
_ROOT = Path("sample_datasets")
_FIELDS: tuple[Literal["input", "reference", "context"], ...] = ("input", "reference", "context")


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
    rows: list[ListedDataset] = [
        {
            "version": f"{card.name}@{card.version}",
            "rows": {name: split.rows for name, split in card.splits.items()},
            "license": card.license,
            "cohorts": card.cohorts,
        }
        for card in cards
    ]
    shown = [
        {
            **row,
            "rows": ", ".join(f"{name} {count}" for name, count in row["rows"].items()),
            "cohorts": ", ".join(row["cohorts"]),
        }
        for row in rows
    ]
    value: PrintedDatasets = {"schema_version": PRINTED_SCHEMA, "datasets": rows}
    options.show(as_json, value=value, text=rows_view("Dataset versions", shown))


@app.command()
@command
def show(version: Version, root: Root = _ROOT, as_json: options.AsJson = False) -> None:
    """Show a dataset version's card, its cohorts, and how long its texts are.

    Example: ftreg data show ferry-desk@1
    """
    from ftreg.data import load_dataset
    from ftreg.data.cohorts import cohort_sizes
    from ftreg.jobs.schemas.printed.datasets import PrintedDataset
    from ftreg.report.data_views import dataset_view, length_bins

    dataset = load_dataset(version, root=root)
    sizes = {name: cohort_sizes(dataset, name) for name in dataset.card.splits}
    lengths: dict[str, dict[str, dict[int, int]]] = {
        name: {field: dataset.split(name).lengths(field) for field in _FIELDS}
        for name in dataset.card.splits
    }
    value = PrintedDataset(
        schema_version=PRINTED_SCHEMA,
        card_digest=dataset.card.digest,
        cohort_sizes=sizes,
        lengths={
            name: {field: dict(length_bins(counts)) for field, counts in fields.items()}
            for name, fields in lengths.items()
        },
        **dict(dataset.card),
    )
    options.show(as_json, value=value, text=dataset_view(dataset.card, sizes, lengths))


@app.command()
@command
def verify(
    versions: Annotated[
        list[str] | None,
        typer.Argument(help="Versions, name@N; default: all of them.", show_default=False),
    ] = None,
    root: Root = _ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Check dataset versions: every byte against the card's digests, then every row.

    Example: ftreg data verify code-summary@2
    """
    from ftreg.data import list_refs
    from ftreg.data.verifying import verify_version

    chosen = versions or [str(ref) for ref in list_refs(root)]
    if not chosen:
        raise UsageError(f"{root}: no dataset is there")
    found = [check for version in chosen for check in verify_version(version, root=root)]
    wrong = [check for check in found if check.problem is not None]
    if as_json:
        value: PrintedVerification = {
            "schema_version": PRINTED_SCHEMA,
            "ok": not wrong,
            "splits": [
                {
                    "version": check.version,
                    "split": check.split,
                    "rows": check.rows,
                    "problem": check.problem,
                }
                for check in found
            ],
        }
        options.show_json(value)
    else:
        for check in found:
            if check.problem is None:
                options.say(f"{check.version} {check.split}: {check.rows} rows, as the card says")
    if wrong:
        raise UsageError("\n".join(str(check.problem) for check in wrong))


@app.command()
@command
def build(
    versions: Annotated[list[str], typer.Argument(help="Versions, name@N.", show_default=False)],
    root: Root = _ROOT,
    no_custom_code: options.NoCustomCode = False,
) -> None:
    """Make the files of dataset versions from their recipes, and verify them byte by byte.

    Example: ftreg data build code-summary@1 code-summary@2
    """
    from ftreg.data.build import build_version

    for version in versions:
        made = build_version(version, root=root)
        options.say(f"{version}: {'built and verified' if made else 'here already, verified'}")


app.command("import")(import_rows)
app.command("draft")(data_versions.draft)
app.command("freeze")(data_versions.freeze)
app.command("diff")(data_versions.diff)
app.command("leaks")(data_versions.leaks)
