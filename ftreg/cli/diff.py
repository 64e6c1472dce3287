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
            help="A checkpoint, a group of replicas, or any model.",
            autocompletion=completion.checkpoints,
        ),
    ],
    second: Annotated[str, typer.Argument(help="Another.", autocompletion=completion.checkpoints)],
    as_json: options.AsJson = False,
) -> None:
    """Show what differs between the recipes of two checkpoints.

    Example: ftreg diff adamw lion
    """
    from ftreg.jobs.diff import diff_recipes
    from ftreg.jobs.subjects import find_subject
    from ftreg.report.terminal import rows_view

    sides = [find_subject(side, workspace=Workspace.current()) for side in (first, second)]
    found = diff_recipes(*sides)
    title = "What differs" + (", though the weights are the same" if found.same_weights else "")
    if found.base is not None:
        base, other = (first, second) if found.base == "first" else (second, first)
        title += f"; {base} is the base model of {other}"
    rows = [
        {"setting": item.setting, first: item.first, second: item.second}
        for item in found.differences
    ]
    options.show(as_json, value=found, text=rows_view(title, rows))
