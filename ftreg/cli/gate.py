"""`ftreg gate`, and the gate at the end of `ftreg eval`."""

import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.runner import tell_runner
from ftreg.errors import ExitCode
from ftreg.records.workspace import Workspace
from ftreg.report.annotations import on_github


@command
def gate(
    baseline: Annotated[
        str,
        typer.Argument(
            help="baseline, anchor, an evaluation, or a file of scores.",
            show_default=False,
            autocompletion=completion.references,
        ),
    ],
    candidate: Annotated[
        str,
        typer.Argument(
            help="The evaluation to judge, latest, or another file of scores.",
            show_default=False,
            autocompletion=completion.evaluations,
        ),
    ],
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
    if Path(baseline).is_file() or Path(candidate).is_file():
        _gate_files(
            Path(baseline),
            Path(candidate),
            policy=policy,
            junit=junit,
            markdown=markdown,
            as_json=as_json,
        )
    from ftreg.jobs.report import REPORT
    from ftreg.records.evaluation.stored import read_evaluation

    workspace = Workspace.current()
    evaluation = read_evaluation(workspace.evaluation(candidate))
    gate_and_show(
        evaluation,
        baseline,
        policy=read_policy(policy, evaluation),
        workspace=workspace,
        page=evaluation.folder / REPORT,
        junit=junit,
        markdown=markdown,
        as_json=as_json,
    )


def _gate_files(
    baseline: Path,
    candidate: Path,
    *,
    policy: Path | None,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> NoReturn:
    """Gate two files of scores, print the verdict and end with its exit code."""
    from ftreg.errors import UsageError
    from ftreg.jobs.gate import outcome_record
    from ftreg.jobs.gate_files import gate_files
    from ftreg.report.ci import write_junit
    from ftreg.report.terminal import verdict_view

    if markdown is not None:
        raise UsageError("--markdown: a report is made of evaluations, and these are bare scores")
    result = gate_files(baseline, candidate, policy=read_policy(policy, None))
    if junit is not None:
        write_junit(junit, result.verdict, candidate=str(candidate))
    text = verdict_view(result.verdict, baseline=result.baseline, candidate=result.candidate)
    options.show(as_json, value=outcome_record(result, report=None, page=None), text=text)
    raise typer.Exit(int(result.verdict.exit_code))


def read_policy(path: Path | None, evaluation: Any) -> Any:
    """Read a policy file, or take the policy that the evaluation carries.

    Where there is neither (`evaluation` is None), every setting has its default.
    """
    from ftreg.config.load import validate
    from ftreg.config.policy import GatePolicy
    from ftreg.files import marked_yaml
    from ftreg.jobs.gate import policy_of

    if path is None:
        return GatePolicy() if evaluation is None else policy_of(evaluation)
    return validate(GatePolicy, marked_yaml.read(path), where=str(path))


def gate_and_show(
    evaluation: Any,
    against: str,
    *,
    policy: Any,
    workspace: Workspace,
    bootstrap: bool = False,
    page: Path | None,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Gate an evaluation, write its report, print the verdict and end with its exit code.

    With `bootstrap`, a first evaluation ends with 0 and without a verdict. `page` is the HTML
    report to write, None for none; of an evaluation that is not judged, it is there already.

    On GitHub (`GITHUB_ACTIONS`, `GITHUB_STEP_SUMMARY`) the reasons become annotations, and the
    report is added to the job's summary.
    """
    from ftreg.jobs.gate import (
        evaluation_record,
        find_baselines,
        gate,
        outcome_record,
        write_report,
    )
    from ftreg.jobs.report import write_html
    from ftreg.records.baseline import baseline_path
    from ftreg.report.terminal import verdict_view

    first = baseline_path(workspace.baselines, evaluation.header["dataset"]["name"])
    if bootstrap and against == "baseline" and not first.is_file():
        show_page(page, as_json=as_json)
        text = "there is no baseline yet; promote this evaluation to make it the first"
        value = evaluation_record(evaluation, page=page, reasons=[text], exit_code=ExitCode.OK)
        options.show(as_json, value=value, text=text)
        return
    baseline, anchor = find_baselines(against, evaluation, workspace=workspace)
    result = gate(evaluation, baseline, policy=policy, anchor=anchor)
    report = write_report(result, evaluation=evaluation, baseline=baseline)
    if page is not None:
        write_html(
            evaluation,
            workspace=workspace,
            path=page,
            result=result,
            baseline=baseline,
            anchor=anchor,
        )
    if junit is not None or markdown is not None:
        from ftreg.report.ci import write_comment, write_junit

        if junit is not None:
            write_junit(junit, result.verdict, candidate=evaluation.id)
        if markdown is not None:
            write_comment(markdown, report.read_text(encoding="utf-8"))
    _tell_github(
        result.verdict, report, baseline=first if against in ("baseline", "anchor") else None
    )
    if not as_json:
        typer.echo()
    options.show(
        as_json,
        value=outcome_record(result, report=report, page=page),
        text=verdict_view(result.verdict, baseline=result.baseline, candidate=result.candidate),
    )
    if not as_json:
        options.say(f"\nreport: {report}" + (f"\n        {page}" if page else ""))
    raise typer.Exit(int(result.verdict.exit_code))


def show_page(page: Path | None, *, as_json: bool) -> None:
    """Say where the HTML report is, if there is one."""
    if page is not None and not as_json:
        typer.echo(f"report: {page}")


def _tell_github(verdict: Any, report: Path, *, baseline: Path | None) -> None:
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if not (summary or on_github()):
        return
    from ftreg.report.ci import annotations, append_summary

    if summary:
        append_summary(Path(summary), report.read_text(encoding="utf-8"))
    if on_github():
        tell_runner(annotations(verdict, baseline=baseline))
