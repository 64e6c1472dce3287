"""`ftreg checkpoints`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.command_groups import group
from ftreg.records.printed import json_object
from ftreg.records.workspace import Workspace

app = group("List, inspect and plot checkpoints.")

CheckpointName = Annotated[
    str, typer.Argument(help="Folder or name.", autocompletion=completion.checkpoints)
]


@app.command("list")
@command
def list_all(as_json: options.AsJson = False) -> None:
    """List the checkpoints of this workspace with their optimizer and data.

    Example: ftreg checkpoints list
    """
    from ftreg.jobs.checkpoints import checkpoints_of
    from ftreg.report.phrases import rate
    from ftreg.report.terminal import rows_view

    found = checkpoints_of(Workspace.current())
    rows = [
        json_object(item)
        | {"lr": rate(item.lr), "loss": round(item.loss, 4), "identity": item.identity[:12]}
        for item in found.checkpoints
    ]
    options.show(as_json, value=found, text=rows_view("Checkpoints", rows))


@app.command()
@command
def show(checkpoint: CheckpointName) -> None:
    """Print a checkpoint's manifest as JSON, after checking its files against it.

    For a group of replicas, all of their manifests.

    Example: ftreg checkpoints show lion
    """
    from ftreg.jobs.checkpoints import show_checkpoint

    options.show_json(show_checkpoint(Workspace.current().checkpoint(checkpoint)))


@app.command()
@command
def plot(
    checkpoint: CheckpointName,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The .svg to write; history.svg in the checkpoint by default."
        ),
    ] = None,
) -> None:
    """Plot loss, learning rate, gradient norm and step size over the steps of a checkpoint's run.

    Example: ftreg checkpoints plot lion -o lion.svg
    """
    from ftreg.jobs.checkpoints import plot_checkpoint

    options.say(str(plot_checkpoint(Workspace.current().checkpoint(checkpoint), output=output)))


@app.command()
@command
def card(
    checkpoint: CheckpointName,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file to write; README.md in the checkpoint by default."
        ),
    ] = None,
) -> None:
    """Write a checkpoint's model card, as the Hugging Face hub shows it.

    It is made of the manifest, the newest evaluation and its last verdict.

    Example: ftreg checkpoints card lion -o lion.md
    """
    from ftreg.jobs.model_card import write_model_card

    workspace = Workspace.current()
    folder = workspace.checkpoint(checkpoint)
    options.say(str(write_model_card(folder, workspace=workspace, output=output)))
