"""`ftreg report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.records.samples import PRINTED_SCHEMA
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.evaluations import PrintedReport


@command
def report(
    evaluation: Annotated[
        str, typer.Argument(help="An evaluation, or latest.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file; default: report.html in the evaluation's folder.",
            show_default=False,
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Write the HTML report of an evaluation, with the verdict of its last gate.

    Example: ftreg report latest -o report.html
    """
    from ftreg.jobs.report import write_html
    from ftreg.records.evaluation.stored import read_evaluation

    workspace = Workspace.current()
    found = read_evaluation(workspace.evaluation(evaluation))
    path = write_html(found, workspace=workspace, path=output)
    value: PrintedReport = {
        "schema_version": PRINTED_SCHEMA,
        "evaluation": found.id,
        "report": str(path),
    }
    options.show(as_json, value=value, text=str(path))
