"""`ftreg power`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.records.samples import PRINTED_SCHEMA
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.evaluations import PrintedPower


@command
def power(
    evaluation: Annotated[
        str,
        typer.Argument(
            help="An evaluation that has been gated, or latest.",
            autocompletion=completion.evaluations,
        ),
    ] = "latest",
    margin: Annotated[
        float, typer.Option(min=0.0001, max=1.0, help="The drop that shall be allowed.")
    ] = 0.02,
    as_json: options.AsJson = False,
) -> None:
    """Say how many examples a margin needs, from the paired spread of a gated evaluation.

    A candidate as good as the baseline passes with so many in four of five cases.

    Example: ftreg power latest --margin 0.01
    """
    from ftreg.jobs.gate import examples_needed
    from ftreg.records.evaluation.stored import read_evaluation
    from ftreg.report.terminal import rows_view

    record = read_evaluation(Workspace.current().evaluation(evaluation))
    rows = examples_needed(record, margin=margin)
    # What no number of examples shows is left to the seeds.
    shown = [{**row, "need": row["need"] or "more seeds"} for row in rows]
    value: PrintedPower = {
        "schema_version": PRINTED_SCHEMA,
        "evaluation": record.id,
        "margin": margin,
        "scorers": rows,
    }
    options.show(
        as_json,
        value=value,
        text=rows_view(f"Examples for a margin of {100 * margin:g} points", shown),
    )
