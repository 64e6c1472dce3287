"""`ftreg promote` and `ftreg baseline`."""

from typing import Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.records.workspace import Workspace


@command
def promote(
    evaluation: options.EvaluationRef,
    anchor: Annotated[
        bool, typer.Option("--anchor", help="Pin it as the anchor too, against slow drift.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Promote even if the gate did not pass.")
    ] = False,
    why: Annotated[str | None, typer.Option(help="Reason, kept in the history.")] = None,
    artefact: Annotated[
        str | None,
        typer.Option(
            help="Evaluation of the served file that is released with it, for the history.",
            autocompletion=completion.evaluations,
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make an evaluation the baseline for later candidates.

    Example: ftreg promote latest
    """
    from ftreg.jobs.promote import promote
    from ftreg.records.evaluation.stored import read_evaluation

    workspace = Workspace.current()
    found = read_evaluation(workspace.evaluation(evaluation))
    served = None if artefact is None else read_evaluation(workspace.evaluation(artefact))
    done = promote(found, workspace=workspace, why=why, force=force, anchor=anchor, artefact=served)
    options.show(as_json, value=done, text=f"{done.baseline} is now the baseline: {done.file}")


@command
def baseline(
    dataset: Annotated[str, typer.Argument(help="The dataset's name, without version.")],
    as_json: options.AsJson = False,
) -> None:
    """Show the baseline of a dataset, and what was promoted before it.

    Example: ftreg baseline ferry-desk
    """
    from ftreg.jobs.promote import promotions
    from ftreg.report.terminal import baseline_view

    found = promotions(dataset, workspace=Workspace.current())
    options.show(
        as_json, value=found, text=baseline_view(found.header, found.history, looks=found.looks)
    )
