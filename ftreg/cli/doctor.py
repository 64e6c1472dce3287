"""`ftreg doctor`."""

from typing import TYPE_CHECKING

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.errors import ExitCode
from ftreg.records.samples import PRINTED_SCHEMA
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.machine import PrintedFindings


@command
def doctor(as_json: options.AsJson = False) -> None:
    """Look at this machine: libraries, arithmetic, models, memory, folders, and how to mend them.

    Ends with 2 where something would stop a run.

    Example: ftreg doctor
    """
    from ftreg.jobs.doctor import examine
    from ftreg.report.terminal import findings_view

    def say(text: str) -> None:
        typer.echo(f"looking at {text}", err=True)

    found = examine(Workspace.current(), say=say)
    well = all(finding.state != "problem" for finding in found)
    rows = [finding.to_dict() for finding in found]
    value: PrintedFindings = {"schema_version": PRINTED_SCHEMA, "ok": well, "findings": rows}
    options.show(as_json, value=value, text=findings_view(rows))
    if not well:
        raise typer.Exit(int(ExitCode.USAGE))
