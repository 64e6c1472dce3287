"""`ftreg data`, except `ftreg data import`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli.data_import import import_rows
from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.command_groups import group
from ftreg.cli.shared.progress import Bars
from ftreg.errors import UsageError

app = group("List, import, check, build and compare dataset versions.")

Version = Annotated[
    str, typer.Argument(help="Dataset version, name@N.", autocompletion=completion.datasets)
]
Changes = Annotated[str | None, typer.Option(help="What differs from the version before.")]


@app.command("list")
@command
def list_versions(
    root: options.DatasetRoot = options.DATASET_ROOT, as_json: options.AsJson = False
) -> None:
    """List the dataset versions below a folder.

    Example: ftreg data list
    """
    from ftreg.jobs.datasets import list_datasets
    from ftreg.report.terminal import rows_view

    found = list_datasets(root)
    rows = [
        {
            "version": item.version,
            "rows": ", ".join(f"{name} {count}" for name, count in item.rows.items()),
            "license": item.license,
            "cohorts": ", ".join(item.cohorts),
        }
        for item in found.datasets
    ]
    options.show(as_json, value=found, text=rows_view("Dataset versions", rows))


@app.command()
@command
def show(
    version: Version,
    root: options.DatasetRoot = options.DATASET_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Show a dataset version's card, its cohorts, and how long its texts are.

    Example: ftreg data show ferry-desk@2
    """
    from ftreg.jobs.datasets import show_dataset
    from ftreg.report.data_views import dataset_view

    found = show_dataset(version, root=root)
    options.show(as_json, value=found, text=dataset_view(found, found.cohort_sizes, found.lengths))


@app.command()
@command
def verify(
    versions: Annotated[
        list[str] | None, typer.Argument(help="Versions, name@N; default: all of them.")
    ] = None,
    root: options.DatasetRoot = options.DATASET_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Check dataset versions: every byte against the card's digests, then every row.

    Example: ftreg data verify code-summary@2
    """
    from ftreg.data.verifying import verify_versions

    found = verify_versions(versions or (), root=root)
    if as_json:
        options.show_json(found)
    else:
        for item in found.splits:
            if item.problem is None:
                options.say(f"{item.version} {item.split}: {item.rows} rows, as the card says")
    if not found.ok:
        raise UsageError("\n".join(item.problem for item in found.splits if item.problem))


@app.command()
@command
def build(
    versions: Annotated[list[str], typer.Argument(help="Versions, name@N.")],
    root: options.DatasetRoot = options.DATASET_ROOT,
    no_custom_code: options.NoCustomCode = False,
) -> None:
    """Build the files of dataset versions from their recipes, and verify every byte.

    Example: ftreg data build code-summary@1 code-summary@2
    """
    from ftreg.data.build import build_version

    for version in versions:
        made = build_version(version, root=root)
        options.say(f"{version}: {'built and verified' if made else 'here already, verified'}")


app.command("import")(import_rows)


@app.command()
@command
def draft(
    version: Version,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to make; default: <root>/<name>/draft."),
    ] = None,
    root: options.DatasetRoot = options.DATASET_ROOT,
) -> None:
    """Copy a dataset version into a folder, to edit it and freeze it as the next one.

    Example: ftreg data draft ferry-desk@2
    """
    from ftreg.data.freezing import draft

    folder = draft(version, output, root=root)
    options.say(f"{folder}: edit the rows, then `ftreg data freeze {folder}`")


@app.command()
@command
def freeze(
    given: Annotated[
        str,
        typer.Argument(metavar="DRAFT", help="A draft's folder, or name@N edited in its place."),
    ],
    changes: Changes = None,
    root: options.DatasetRoot = options.DATASET_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Make the next version from an edited draft: check and count its rows, take digests.

    Example: ftreg data freeze sample_datasets/ferry-desk/draft --changes "Two typos."
    """
    from ftreg.data.freezing import freeze

    made = freeze(given, root=root, changes=changes)
    counts = ", ".join(f"{name} {rows} rows" for name, rows in made.rows.items())
    options.show(as_json, value=made, text=f"{made.version}: {counts}\n{made.folder}")


@app.command()
@command
def diff(
    old: Version,
    new: Version,
    root: options.DatasetRoot = options.DATASET_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Show what differs between two dataset versions: rows by id, cohorts, card.

    Example: ftreg data diff code-summary@1 code-summary@2
    """
    from ftreg.data import load_dataset
    from ftreg.data.differences import difference
    from ftreg.report.data_views import difference_view

    found = difference(load_dataset(old, root=root), load_dataset(new, root=root))
    options.show(as_json, value=found, text=difference_view(found))


@app.command()
@command
def leaks(
    version: Version,
    train_split: Annotated[str, typer.Option(help="The split to train on.")] = "train",
    eval_split: Annotated[str, typer.Option(help="The held-out split.")] = "eval",
    root: options.DatasetRoot = options.DATASET_ROOT,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Find held-out rows that are exact or near duplicates of training rows.

    Example: ftreg data leaks ferry-desk@2
    """
    from ftreg.jobs.datasets import find_dataset_leaks
    from ftreg.report.data_views import leakage_view

    with Bars(quiet=quiet) as bars:
        found = find_dataset_leaks(
            version,
            root=root,
            train_split=train_split,
            eval_split=eval_split,
            advance=bars.progress,
        )
    text = leakage_view(found, train=f"{version} {train_split}", held_out=eval_split)
    options.show(as_json, value=found, text=text)
