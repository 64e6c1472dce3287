"""The reports that a gate writes, and the display of its verdict."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.runner import tell_runner
from ftreg.report.annotations import on_github

if TYPE_CHECKING:
    from ftreg.jobs.gate_result import GateResult, Reports


def report_files(*, html: bool = True, junit: Path | None, comment: Path | None) -> "Reports":
    """Return the reports that a gate writes, on GitHub also into the job's summary."""
    from ftreg.jobs.gate_result import Reports

    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    return Reports(
        html=html, junit=junit, comment=comment, summary=Path(summary) if summary else None
    )


def show_result(result: "GateResult", *, as_json: bool) -> None:
    """Print a verdict and its reports; on GitHub, reasons become annotations."""
    from ftreg.report.terminal import verdict_view

    text = verdict_view(result.verdict, baseline=result.baseline, candidate=result.candidate)
    if result.report is None:  # two files of scores
        options.show(as_json, value=result.printed, text=text)
        return
    if on_github():
        from ftreg.report.ci import annotations

        tell_runner(annotations(result.verdict, baseline=result.baseline_file))
    if as_json:
        options.show_json(result.printed)
        return
    typer.echo()
    options.draw(text)
    page = f"\n        {result.html}" if result.html else ""
    options.say(f"\nreport: {result.report}{page}")
