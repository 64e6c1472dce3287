"""Compare a stored evaluation with a baseline, and write its reports."""

import dataclasses
from pathlib import Path

from ftreg.config.policy import GatePolicy
from ftreg.files.store import write_text
from ftreg.jobs.attest import Attest, attest
from ftreg.jobs.gate import anchor_for, find_baselines, gate, look_ahead
from ftreg.jobs.gate_result import GateResult, Reports
from ftreg.jobs.report import write_html
from ftreg.records.baseline import Baseline, baseline_file
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.workspace import Workspace
from ftreg.report.ci import append_summary, write_comment, write_junit
from ftreg.report.markdown import gate_report
from ftreg.report.worst import worst_drops

MARKDOWN = "report.md"


def gate_and_report(
    evaluation: Evaluation,
    against: str = "baseline",
    *,
    workspace: Workspace,
    policy: GatePolicy | None = None,
    reports: Reports | None = None,
    asked: Attest | None = None,
) -> GateResult:
    """Compare an evaluation with a baseline, store the verdict beside it, and write its reports.

    Args:
        evaluation: the candidate.
        against: `baseline`, `anchor`, or an evaluation: its folder, its id, or `latest`.
        workspace: where to search for baselines and other evaluations.
        policy: default: the one in force when the candidate was evaluated.
        reports: default: the Markdown and the HTML report.
        asked: where the verdict is attested; None: nowhere.

    Returns:
        The verdict, with the paths of the reports.

    Raises:
        UndecidedError: there is no baseline, or the two cannot be compared.
        UsageError: there is no such evaluation, a record is damaged, or a report cannot be written.
    """
    reports = reports or Reports()
    if against in ("baseline", "anchor"):
        look_ahead(evaluation, workspace)
    baseline, anchor = find_baselines(
        against, evaluation.header["dataset"]["name"], workspace=workspace
    )
    anchor = anchor_for(evaluation.header, baseline, anchor)
    result = gate(evaluation, baseline, policy=policy, anchor=anchor)
    if asked is not None:
        attest(
            asked,
            result.verdict,
            candidate=evaluation,
            baseline=baseline,
            anchor=anchor,
            workspace=workspace,
        )
    path, html = _write_reports(
        result, reports, evaluation, baseline=baseline, anchor=anchor, workspace=workspace
    )
    kept = baseline_file(evaluation, workspace)
    return dataclasses.replace(
        result,
        baseline_file=kept if against in ("baseline", "anchor") else None,
        report=path,
        html=html,
    )


def _write_reports(
    result: GateResult,
    reports: Reports,
    evaluation: Evaluation,
    *,
    baseline: Baseline,
    anchor: Baseline | None,
    workspace: Workspace,
) -> tuple[Path, Path | None]:
    """Return the paths of the Markdown report and of the HTML report, if requested."""
    worst = worst_drops(evaluation, baseline)
    text = (
        gate_report(result.verdict, baseline=baseline.header, candidate=evaluation, worst=worst)
        + "\n"
    )
    path = evaluation.folder / MARKDOWN
    write_text(path, text, create_folder=False)
    html = None
    if reports.html:
        html = write_html(
            evaluation, workspace=workspace, result=result, baseline=baseline, anchor=anchor
        ).report
    if reports.junit is not None:
        write_junit(reports.junit, result.verdict, candidate=evaluation.id)
    if reports.comment is not None:
        write_comment(reports.comment, text)
    if reports.summary is not None:
        append_summary(reports.summary, text)
    return path, html
