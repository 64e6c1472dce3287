"""`ftreg report`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.records.workspace import Workspace


@command
def report(
    evaluation: Annotated[str, typer.Argument(help="An evaluation, or latest.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file; default: report.html in the evaluation's folder."
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Write the HTML report of an evaluation, with its last verdict.

    Example: ftreg report latest -o report.html
    """
    from ftreg.jobs.report import write_html
    from ftreg.records.evaluation.stored import read_evaluation

    workspace = Workspace.current()
    found = read_evaluation(workspace.evaluation(evaluation))
    done = write_html(found, workspace=workspace, path=output)
    options.show(as_json, value=done, text=str(done.report))
