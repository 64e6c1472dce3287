"""`ftreg checkpoints`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.groups import group
from ftreg.errors import FtregError, UsageError
from ftreg.files.store import write_text
from ftreg.records.checkpoint import Checkpoint
from ftreg.records.samples import PRINTED_SCHEMA
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.checkpoints import (
        ListedCheckpoint,
        PrintedCheckpoints,
        PrintedGroup,
        PrintedTraining,
    )

PLOT = "history.svg"

app = group("Checkpoints and what made them.")


@app.command("list")
@command
def list_all(as_json: options.AsJson = False) -> None:
    """List the checkpoints of this workspace with their optimizer and data.

    Example: ftreg checkpoints list
    """
    from ftreg.records.checkpoint import list_checkpoints
    from ftreg.report.phrases import rate
    from ftreg.report.terminal import rows_view

    root = Workspace.current().checkpoints
    rows: list[ListedCheckpoint] = [
        {
            "name": str(checkpoint.folder.relative_to(root)),
            "optimizer": checkpoint.manifest.optimizer["name"],
            "lr": checkpoint.manifest.optimizer["arguments"]["lr"],
            "dataset": checkpoint.manifest.dataset.version,
            "steps": checkpoint.manifest.training.steps,
            "loss": checkpoint.manifest.training.last_loss,
            "identity": checkpoint.manifest.identity,
        }
        for checkpoint in list_checkpoints(root)
    ]
    shown = [
        {
            **row,
            "lr": rate(row["lr"]),
            "loss": round(row["loss"], 4),
            "identity": row["identity"][:12],
        }
        for row in rows
    ]
    value: PrintedCheckpoints = {"schema_version": PRINTED_SCHEMA, "checkpoints": rows}
    options.show(as_json, value=value, text=rows_view("Checkpoints", shown))


@app.command()
@command
def show(
    checkpoint: Annotated[str, typer.Argument(help="Folder or name.", show_default=False)],
) -> None:
    """Print a checkpoint's manifest as JSON, after checking its files against it.

    Of a group of replicas, those of all.

    Example: ftreg checkpoints show lion
    """
    from ftreg.records.replicas import read_replicas

    found = read_replicas(Workspace.current().checkpoint(checkpoint))
    for member in found.members:
        member.verify()
    if len(found.members) == 1:
        options.show_json(found.first.manifest)
    else:
        options.show_json(group_record(found.folder, found.members))


def training_record(checkpoint: Checkpoint) -> "PrintedTraining":
    """What is printed of a checkpoint: its manifest, and where it lies."""
    from ftreg.jobs.schemas.printed.checkpoints import PrintedTraining

    return PrintedTraining(checkpoint=str(checkpoint.folder), **dict(checkpoint.manifest))


def group_record(folder: Path, members: Sequence[Checkpoint]) -> "PrintedGroup":
    """What is printed of a group of replicas."""
    return {
        "schema_version": PRINTED_SCHEMA,
        "checkpoint": str(folder),
        "replicas": [training_record(member) for member in members],
    }


@app.command()
@command
def plot(
    checkpoint: Annotated[str, typer.Argument(help="Folder or name.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The .svg to write; history.svg in the checkpoint by default.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Plot loss, learning rate, gradient norm and step size over the steps of a checkpoint's run.

    Example: ftreg checkpoints plot lion -o lion.svg
    """
    from ftreg.records.checkpoint import read_checkpoint

    found = read_checkpoint(Workspace.current().checkpoint(checkpoint))
    path = output or found.folder / PLOT
    if path.suffix.lower() != ".svg":
        raise UsageError(f"--output {path}: name a file that ends in .svg")

    from ftreg.report.history_plot import draw_checkpoint

    write_text(path, draw_checkpoint(found))
    options.show(False, value={}, text=str(path))


def plot_beside(checkpoint: Checkpoint, notice: Callable[[str], None]) -> None:
    """Write the plot into a new checkpoint's folder; where that fails, say so and leave it."""
    try:
        from ftreg.report.history_plot import draw_checkpoint

        write_text(checkpoint.folder / PLOT, draw_checkpoint(checkpoint))
    except Exception as error:  # the checkpoint is whole, with or without a picture of its making
        kind = "" if isinstance(error, FtregError) else f"{type(error).__name__}: "
        notice(f"{PLOT} could not be drawn: {kind}{error}")
