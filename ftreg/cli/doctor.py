"""`ftreg doctor`."""

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.errors import ExitCode
from ftreg.records.printed import json_object
from ftreg.records.workspace import Workspace


@command
def doctor(as_json: options.AsJson = False) -> None:
    """Check this machine, and say how to fix what is missing.

    Exits with 2 if something would prevent a run.

    Example: ftreg doctor
    """
    from ftreg.jobs.doctor import examine
    from ftreg.report.terminal import findings_view

    def say(text: str) -> None:
        typer.echo(f"looking at {text}", err=True)

    found = examine(Workspace.current(), say=say)
    options.show(as_json, value=found, text=findings_view([*map(json_object, found.findings)]))
    if not found.ok:
        raise typer.Exit(int(ExitCode.USAGE))
