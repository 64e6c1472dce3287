"""`ftreg track`."""

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.records.workspace import Workspace


@command
def track(evaluation: options.EvaluationRef, as_json: options.AsJson = False) -> None:
    """Log an evaluation to the MLflow run of its checkpoint.

    Example: ftreg track latest
    """
    from ftreg.jobs.track import log_evaluation
    from ftreg.records.evaluation.stored import read_evaluation

    found = read_evaluation(Workspace.current().evaluation(evaluation))
    run = log_evaluation(found, asked_by="ftreg track")
    options.show(as_json, value=run, text=str(run))
