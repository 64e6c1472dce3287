"""`ftreg power`."""

from typing import Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.records.workspace import Workspace


@command
def power(
    evaluation: Annotated[
        str,
        typer.Argument(
            help="An evaluation that has been gated, or latest.",
            autocompletion=completion.evaluations,
        ),
    ] = "latest",
    margin: Annotated[float, typer.Option(min=0.0001, max=1.0, help="The drop to allow.")] = 0.02,
    as_json: options.AsJson = False,
) -> None:
    """Say how many examples a margin needs, from the paired deltas of the last gate.

    With that many, a candidate as good as the baseline passes four times in five. With as many as
    the last column says, a drop of twice the margin is a regression in 19 of 20 cases.

    Example: ftreg power latest --margin 0.01
    """
    from ftreg.jobs.power import power
    from ftreg.records.evaluation.stored import read_evaluation
    from ftreg.report.terminal import rows_view

    workspace = Workspace.current()
    found = power(
        read_evaluation(workspace.evaluation(evaluation)), margin=margin, workspace=workspace
    )
    rows = [
        {
            "scorer": item.scorer,
            "have": item.have,
            "spread": item.spread,
            # If no number of examples is enough, more seeds are needed.
            "need": item.need or "more seeds",
            "90 %": "to".join(f" {end} " for end in item.need_range or ()).strip(),
            "to find twice": item.need_to_find or "",
        }
        for item in found.scorers
    ]
    title = f"Examples for a margin of {100 * margin:g} points"
    options.show(as_json, value=found, text=rows_view(title, rows))
