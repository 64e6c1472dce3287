"""`ftreg diff`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.records.samples import PRINTED_SCHEMA
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.checkpoints import PrintedRecipeDifference


@command
def diff(
    first: Annotated[
        str,
        typer.Argument(
            help="A checkpoint, or a group of replicas.",
            show_default=False,
            autocompletion=completion.checkpoints,
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(help="Another.", show_default=False, autocompletion=completion.checkpoints),
    ],
    as_json: options.AsJson = False,
) -> None:
    """Show what differs between the recipes of two checkpoints.

    Example: ftreg diff adamw lion
    """
    from ftreg.records.recipe import recipe_differences
    from ftreg.records.replicas import read_replicas
    from ftreg.report.terminal import rows_view

    workspace = Workspace.current()
    found = [read_replicas(workspace.checkpoint(name)) for name in (first, second)]
    differences = recipe_differences(found[0].recipe(), found[1].recipe())
    same_weights = found[0].weights == found[1].weights
    title = "What differs" + (", though the weights are the same" if same_weights else "")
    value: PrintedRecipeDifference = {
        "schema_version": PRINTED_SCHEMA,
        "same_weights": same_weights,
        "differences": [
            {"setting": key, "first": before, "second": after} for key, before, after in differences
        ],
    }
    options.show(
        as_json,
        value=value,
        text=rows_view(
            title,
            [{"setting": key, first: before, second: after} for key, before, after in differences],
        ),
    )
