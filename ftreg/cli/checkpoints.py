"""`ftreg checkpoints`."""

from typing import Annotated, Any

import typer

from ftreg.cli import options
from ftreg.cli.command import command
from ftreg.workspace import Workspace

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

    rows: list[dict[str, Any]] = [
        {
            "name": checkpoint.folder.name,
            "optimizer": checkpoint.manifest.optimizer["name"],
            "lr": rate(checkpoint.manifest.optimizer["arguments"]["lr"]),
            "dataset": checkpoint.manifest.dataset.version,
            "steps": checkpoint.manifest.training.steps,
            "loss": round(checkpoint.manifest.training.last_loss, 4),
            "identity": checkpoint.manifest.identity[:12],
        }
        for checkpoint in list_checkpoints(Workspace.current().checkpoints)
    ]
    options.show(as_json, value={"checkpoints": rows}, text=rows_view("Checkpoints", rows))


@app.command()
@command
def show(
    checkpoint: Annotated[str, typer.Argument(help="Folder or name.", show_default=False)],
) -> None:
    """Print a checkpoint's manifest as JSON, after checking its files against it.

    Example: ftreg checkpoints show lion
    """
    from ftreg.checkpoint import read_checkpoint

    found = read_checkpoint(Workspace.current().checkpoint(checkpoint))
    found.verify()
    options.show(True, value=found.manifest.model_dump(mode="json"), text="")
