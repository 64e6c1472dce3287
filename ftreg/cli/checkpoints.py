"""`ftreg checkpoints`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ftreg.checkpoint import Checkpoint
from ftreg.cli import options
from ftreg.cli.command import command
from ftreg.errors import FtregError, UsageError
from ftreg.store import write_bytes, write_text
from ftreg.workspace import Workspace

PLOT = "history.svg"

app = typer.Typer(help="Checkpoints and what made them.", no_args_is_help=True)


@app.command("list")
@command
def list_all(as_json: options.AsJson = False) -> None:
    """List the checkpoints of this workspace with their optimizer and data.

    Example: ftreg checkpoints list
    """
    from ftreg.checkpoint import list_checkpoints
    from ftreg.report.terminal import rows_view
    from ftreg.report.words import rate

    root = Workspace.current().checkpoints
    rows: list[dict[str, Any]] = [
        {
            "name": str(checkpoint.folder.relative_to(root)),
            "optimizer": checkpoint.manifest.optimizer["name"],
            "lr": rate(checkpoint.manifest.optimizer["arguments"]["lr"]),
            "dataset": checkpoint.manifest.dataset.version,
            "steps": checkpoint.manifest.training.steps,
            "loss": round(checkpoint.manifest.training.last_loss, 4),
            "identity": checkpoint.manifest.identity[:12],
        }
        for checkpoint in list_checkpoints(root)
    ]
    options.show(as_json, value={"checkpoints": rows}, text=rows_view("Checkpoints", rows))


@app.command()
@command
def show(
    checkpoint: Annotated[str, typer.Argument(help="Folder or name.", show_default=False)],
) -> None:
    """Print a checkpoint's manifest as JSON, after checking its files against it.

    Of a group of replicas, those of all.

    Example: ftreg checkpoints show lion
    """
    from ftreg.replicas import read_replicas

    found = read_replicas(Workspace.current().checkpoint(checkpoint)).members
    for member in found:
        member.verify()
    manifests = [member.manifest.model_dump(mode="json") for member in found]
    value = manifests[0] if len(manifests) == 1 else {"replicas": manifests}
    options.show(True, value=value, text="")


@app.command()
@command
def plot(
    checkpoint: Annotated[str, typer.Argument(help="Folder or name.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The .svg or .png to write; history.svg in the checkpoint by default.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Plot loss, learning rate, gradient norm and step size over the steps of a checkpoint's run.

    Example: ftreg checkpoints plot lion -o lion.png
    """
    from ftreg.checkpoint import read_checkpoint

    found = read_checkpoint(Workspace.current().checkpoint(checkpoint))
    path = output or found.folder / PLOT
    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"--output {path}: name a file that ends in .svg or .png")

    from ftreg.report.history_plot import draw_checkpoint, svg_to_png

    svg = draw_checkpoint(found)
    if path.suffix.lower() == ".svg":
        write_text(path, svg)
    else:
        write_bytes(path, [svg_to_png(svg)])
    options.show(False, value={}, text=str(path))


def plot_beside(checkpoint: Checkpoint, notice: Callable[[str], None]) -> None:
    """Write the plot into a new checkpoint's folder; where that fails, say so and leave it."""
    try:
        from ftreg.report.history_plot import draw_checkpoint

        write_text(checkpoint.folder / PLOT, draw_checkpoint(checkpoint))
    except Exception as error:  # the checkpoint is whole, with or without a picture of its making
        kind = "" if isinstance(error, FtregError) else f"{type(error).__name__}: "
        notice(f"{PLOT} could not be drawn: {kind}{error}")
