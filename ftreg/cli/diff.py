"""`ftreg diff`."""

from typing import Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.records.workspace import Workspace


@command
def diff(
    first: Annotated[
        str,
        typer.Argument(
            help="A checkpoint, or a group of replicas.", autocompletion=completion.checkpoints
        ),
    ],
    second: Annotated[str, typer.Argument(help="Another.", autocompletion=completion.checkpoints)],
    as_json: options.AsJson = False,
) -> None:
    """Show what differs between the recipes of two checkpoints.

    Example: ftreg diff adamw lion
    """
    from ftreg.jobs.diff import diff_recipes
    from ftreg.report.terminal import rows_view

    workspace = Workspace.current()
    found = diff_recipes(workspace.checkpoint(first), workspace.checkpoint(second))
    title = "What differs" + (", though the weights are the same" if found.same_weights else "")
    rows = [
        {"setting": item.setting, first: item.first, second: item.second}
        for item in found.differences
    ]
    options.show(as_json, value=found, text=rows_view(title, rows))
