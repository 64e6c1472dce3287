"""`ftreg gate`, and how a verdict is shown."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.runner import tell_runner
from ftreg.records.workspace import Workspace
from ftreg.report.annotations import on_github

if TYPE_CHECKING:
    from ftreg.jobs.gate import GateResult
    from ftreg.jobs.gate_and_report import Reports

_Baseline = Annotated[
    str,
    typer.Argument(
        help="baseline, anchor, an evaluation, or a file of scores.",
        show_default=False,
        autocompletion=completion.references,
    ),
]
_Candidate = Annotated[
    str,
    typer.Argument(
        help="The evaluation to judge, latest, or another file of scores.",
        show_default=False,
        autocompletion=completion.evaluations,
    ),
]


@command
def gate(
    baseline: _Baseline,
    candidate: _Candidate,
    policy: options.Policy = None,
    junit: options.JUnit = None,
    markdown: options.Comment = None,
    as_json: options.AsJson = False,
) -> None:
    """Decide whether a candidate may replace the baseline.

    Ends with 0 for pass, 1 for a regression, 3 where there is too little to decide. Of outputs
    that were made elsewhere, both sides are files that `ftreg score` wrote.

    Example: ftreg gate baseline latest
    """
    from ftreg.config.load import read_policy
    from ftreg.jobs.gate_and_report import gate_and_report
    from ftreg.jobs.gate_files import gate_files
    from ftreg.records.evaluation.stored import read_evaluation

    reports = report_files(junit=junit, comment=markdown)
    old, new = Path(baseline), Path(candidate)
    if old.is_file() or new.is_file():
        result = gate_files(old, new, policy=read_policy(policy), reports=reports)
    else:
        workspace = Workspace.current()
        evaluation = read_evaluation(workspace.evaluation(candidate))
        result = gate_and_report(
            evaluation, baseline, workspace=workspace, policy=read_policy(policy), reports=reports
        )
    show_result(result, as_json=as_json)
    raise typer.Exit(int(result.exit_code))


def report_files(*, html: bool = True, junit: Path | None, comment: Path | None) -> "Reports":
    """The reports that a gate is to write, on GitHub into the job's summary too."""
    from ftreg.jobs.gate_and_report import Reports

    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    return Reports(
        html=html, junit=junit, comment=comment, summary=Path(summary) if summary else None
    )


def show_result(result: "GateResult", *, as_json: bool) -> None:
    """Print a verdict and where its reports are; on GitHub its reasons become annotations."""
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
