"""`ftreg track`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.records.samples import PRINTED_SCHEMA
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.evaluations import PrintedTracking


@command
def track(
    evaluation: Annotated[
        str,
        typer.Argument(
            help="The evaluation, or latest.",
            show_default=False,
            autocompletion=completion.evaluations,
        ),
    ],
    as_json: options.AsJson = False,
) -> None:
    """Log an evaluation to MLflow, in the run that trained its checkpoint.

    Example: ftreg track latest
    """
    from ftreg.jobs.track import log_evaluation
    from ftreg.records.evaluation.stored import read_evaluation

    found = read_evaluation(Workspace.current().evaluation(evaluation))
    run = log_evaluation(found, asked_by="ftreg track")
    value: PrintedTracking = {
        "schema_version": PRINTED_SCHEMA,
        "evaluation": found.id,
        "tracker": "mlflow",
        "run": run.id,
        "name": run.name,
        "new": run.new,
    }
    options.show(as_json, value=value, text=str(run))
