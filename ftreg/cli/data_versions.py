"""`ftreg data draft`, `freeze`, `diff` and `leaks`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.errors import UsageError
from ftreg.records.samples import PRINTED_SCHEMA

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.datasets import (
        PrintedDatasetDifference,
        PrintedFreezing,
        PrintedLeaks,
    )

Root = Annotated[Path, typer.Option(help="Folder of datasets.")]
Version = Annotated[str, typer.Argument(help="Dataset version, name@N.", show_default=False)]
_ROOT = Path("sample_datasets")


@command
def draft(
    version: Version,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder to make; default: <root>/<name>/draft.",
            show_default=False,
        ),
    ] = None,
    root: Root = _ROOT,
) -> None:
    """Copy a dataset version into a folder, to edit it and freeze it as the next one.

    Example: ftreg data draft ferry-desk@1
    """
    from ftreg.data.freezing import draft as make_draft

    folder = make_draft(version, output, root=root)
    options.say(f"{folder}: edit the rows, then `ftreg data freeze {folder}`")


@command
def freeze(
    given: Annotated[
        str,
        typer.Argument(
            metavar="DRAFT",
            help="A draft's folder, or name@N edited in its place.",
            show_default=False,
        ),
    ],
    changes: Annotated[
        str | None,
        typer.Option(help="What differs from the version before.", show_default=False),
    ] = None,
    root: Root = _ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Make the next version of an edited draft: rows checked, counted, and their digests taken.

    Example: ftreg data freeze sample_datasets/ferry-desk/draft --changes "Two typos."
    """
    from ftreg.data import load_dataset
    from ftreg.data.freezing import freeze as make_version

    ref, folder = make_version(given, root=root, changes=changes)
    rows = {name: split.rows for name, split in load_dataset(ref, root=root).card.splits.items()}
    counts = ", ".join(f"{name} {count} rows" for name, count in rows.items())
    value: PrintedFreezing = {
        "schema_version": PRINTED_SCHEMA,
        "version": str(ref),
        "folder": str(folder),
        "rows": rows,
    }
    options.show(as_json, value=value, text=f"{ref}: {counts}\n{folder}")


@command
def diff(old: Version, new: Version, root: Root = _ROOT, as_json: options.AsJson = False) -> None:
    """Show what differs between two dataset versions: rows by id, cohorts, card.

    Example: ftreg data diff code-summary@1 code-summary@2
    """
    from ftreg.data import load_dataset
    from ftreg.data.differences import difference
    from ftreg.report.data_views import difference_view

    found = difference(load_dataset(old, root=root), load_dataset(new, root=root))
    value: PrintedDatasetDifference = {
        "schema_version": PRINTED_SCHEMA,
        "old": found.old,
        "new": found.new,
        "card": dict(found.card),
        "splits": dict(found.splits),
    }
    options.show(as_json, value=value, text=difference_view(found))


@command
def leaks(
    version: Version,
    train_split: Annotated[str, typer.Option(help="The split to train on.")] = "train",
    eval_split: Annotated[str, typer.Option(help="The held-out split.")] = "eval",
    root: Root = _ROOT,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Find held-out rows that stand in the training split too, word for word or nearly.

    Example: ftreg data leaks ferry-desk@1
    """
    from ftreg.data import load_dataset
    from ftreg.data.leakage import find_leaks
    from ftreg.report.data_views import leakage_view

    if train_split == eval_split:
        raise UsageError(f"--train-split and --eval-split are both {eval_split}")
    dataset = load_dataset(version, root=root)
    with Bars(quiet=quiet) as bars:
        found = find_leaks(
            dataset.split(train_split),
            dataset.split(eval_split),
            advance=lambda done, total: bars.progress("comparing", done, total),
        )
    value: PrintedLeaks = {
        "schema_version": PRINTED_SCHEMA,
        "version": version,
        "train_split": train_split,
        "eval_split": eval_split,
        **found.to_dict(),
    }
    options.show(
        as_json,
        value=value,
        text=leakage_view(found, train=f"{version} {train_split}", held_out=eval_split),
    )
