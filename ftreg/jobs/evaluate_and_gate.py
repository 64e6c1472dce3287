"""Evaluate a checkpoint, compare it with a baseline, and write its reports, in one call."""

import datetime
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

from ftreg.config.evaluating import EvaluationConfig
from ftreg.config.policy import GatePolicy
from ftreg.data.reference import parse_ref
from ftreg.errors import ExitCode, FtregError, UsageError
from ftreg.files.store import portable_path
from ftreg.jobs.artefacts import checkpoint_of, is_artefact
from ftreg.jobs.asked import Asked, OutputsFile, find_asked, policy_for
from ftreg.jobs.evaluate import evaluate
from ftreg.jobs.gate import find_baselines, look_ahead
from ftreg.jobs.gate_and_report import gate_and_report
from ftreg.jobs.gate_result import GateResult, PrintedVerdict, Reports
from ftreg.jobs.generate import EvalEvents
from ftreg.jobs.report import write_html
from ftreg.jobs.subjects import Subject
from ftreg.jobs.track import TrackedRun, check_mlflow, log_evaluation
from ftreg.jobs.until_decided import UntilDecided
from ftreg.records.baseline import baseline_file, baseline_path
from ftreg.records.evaluation.header import EvaluationHeader
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.printed import Printed, printed
from ftreg.records.workspace import Workspace

_REPORT_TO = "eval.report_to"


@printed
class PrintedEvaluation(Printed):
    """What `ftreg eval --json` prints of an evaluation without a verdict.

    The keys beside `evaluation` are those of a verdict, so that a reader can look at `outcome`
    first, whichever it is.
    """

    candidate: str
    """Id of the evaluation."""
    baseline: None = None
    """Null: it was held against nothing."""
    outcome: None = None
    """Null: there is no verdict."""
    reasons: tuple[str, ...]
    """Why there is none, in words; empty with --no-gate."""
    report: None = None
    """Null: a Markdown report is one of a verdict."""
    html: Path | None
    """Path of the HTML report; null with --no-report."""
    exit_code: int
    """What the command ends with: 0 if no verdict was wanted, or with --bootstrap; 3 where there
    is no baseline, or none that it can be compared with; 2 where a file of the gate is wrong."""
    evaluation: EvaluationHeader
    """The record `evaluation.json`; the schema `evaluation` describes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A stored evaluation, and the result of comparing it with another.

    `gate` is None if there is no verdict; `reasons` then say why, and `error` is the gate's error,
    if any. `html` is the HTML report, if there is one.
    """

    evaluation: Evaluation
    html: Path | None = None
    gate: GateResult | None = None
    reasons: tuple[str, ...] = ()
    error: FtregError | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that evaluates and gates."""
        if self.error is not None:
            return self.error.exit_code
        return ExitCode.OK if self.gate is None else self.gate.exit_code

    @property
    def printed(self) -> PrintedVerdict | PrintedEvaluation:
        """Return the result as printed by `--json`."""
        if self.gate is not None:
            return self.gate.printed
        return PrintedEvaluation(
            candidate=self.evaluation.id,
            reasons=self.reasons,
            html=self.html,
            exit_code=int(self.exit_code),
            evaluation=cast(EvaluationHeader, self.evaluation.header),  # which it was read as
        )


class GateEvents(EvalEvents, Protocol):
    """A listener that also receives results as they are stored; every method may do nothing."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """The evaluation is stored; the gate comes next."""
        return

    def gated(self, found: Evaluated) -> None:
        """The gate has finished, with or without a verdict, which nothing later changes."""
        return

    def tracked(self, run: TrackedRun) -> None:
        """The evaluation is logged to the experiment tracker."""
        return


class _Silent(GateEvents):
    """A listener that does nothing."""


def evaluate_and_gate(
    checkpoint: str | Path | OutputsFile,
    *,
    workspace: Workspace,
    dataset: str | None = None,
    config: Path | None = None,
    scorers: Sequence[str] = (),
    overrides: Sequence[str] = (),
    against: str | None = "baseline",
    policy: GatePolicy | None = None,
    bootstrap: bool = False,
    until_decided: bool = False,
    of: str | None = None,
    reports: Reports | None = None,
    events: GateEvents | None = None,
) -> Evaluated:
    """Run a model on a dataset version, or use existing outputs; score them, and gate it.

    If the gate cannot give a verdict, `error` of the result says why. The evaluation is logged to
    `eval.report_to` after the gate, whatever its result; a failing tracker is only a notice.

    Args:
        checkpoint: a folder, or a name in the workspace (replicas are one evaluation); a GGUF file
            of a checkpoint; another model, see `find_subject`; or outputs.
        workspace: stores the evaluation, and has the baselines.
        dataset: dataset version, `name@N`; default: the one that it was trained on.
        config: a configuration whose sections dataset, eval and gate are used.
        scorers: the ones to score with, see `read_scorer`; default: the configured ones.
        overrides: `"section.key=value"` of dataset, eval, gate; for adapters also `base.model`.
        against: `baseline`, `anchor`, or an evaluation (folder, id, `latest`); None: no gate.
        policy: default: the gate section of the configuration.
        bootstrap: whether a missing baseline is accepted instead of being undecided.
        until_decided: whether to generate in blocks until the gate has decided.
        of: the checkpoint of an artefact that does not name it itself.
        reports: default: the Markdown and the HTML report.
        events: receives progress and results.

    Raises:
        UsageError: an argument, model, dataset or scorer is invalid; nothing was written.
        UndecidedError: with `until_decided`, the baseline does not exist; nothing was generated.
    """
    reports, events = reports or Reports(), events or _Silent()
    checkpoint, engine = _subject(checkpoint, of=of, workspace=workspace)
    asked = Asked(checkpoint, dataset, config, scorers, [*overrides, *engine], against)
    subject, how = find_asked(asked, workspace=workspace, events=events)
    policy = policy and policy_for(policy, how, events)
    _refuse_early(how, against, workspace)
    until = _until(how, against, policy, workspace, bootstrap) if until_decided else None
    evaluation = evaluate(
        subject, config=how, folder=_new(subject, how, workspace), events=events, until=until
    )
    events.evaluated(evaluation)
    found = _gated(
        evaluation, against, workspace=workspace, policy=policy, bootstrap=bootstrap,
        reports=reports,
    )  # fmt: skip
    events.gated(found)
    if how.eval.report_to:
        _track(evaluation, events)
    return found


def _subject(
    given: str | Path | OutputsFile, *, of: str | None, workspace: Workspace
) -> tuple[str | Path | OutputsFile, list[str]]:
    """Return the subject; for an artefact, its checkpoint with the setting of the engine."""
    if not isinstance(given, OutputsFile) and is_artefact(str(given)):
        settings = json.dumps({"name": "llama.cpp", "artefact": portable_path(str(given))})
        folder = checkpoint_of(Path(given), of=of, workspace=workspace)
        return folder, [f"eval.engine={settings}"]
    if of is not None:
        raise UsageError(f"--of is for GGUF files, but {given} is not one")
    return given, []


def _refuse_early(config: EvaluationConfig, against: str | None, workspace: Workspace) -> None:
    """Reject early what would waste minutes otherwise: a name that does not exist, a tracker."""
    if against not in (None, "baseline", "anchor"):
        workspace.evaluation(against)
    if config.eval.report_to:
        check_mlflow(_REPORT_TO)


def _new(subject: Subject, config: EvaluationConfig, workspace: Workspace) -> Path:
    """Return the folder of a new evaluation."""
    trained = subject.replicas
    called = trained.folder.resolve().name if trained else subject.name
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
    artefact = config.eval.engine.artefact
    if artefact is not None:
        called = Path(artefact).stem
    called = re.sub(r"[^\w.-]+", "-", called)
    name = f"{called}-{config.dataset.version.replace('@', '-')}-{stamp}"
    return workspace.evaluations / name


def _until(
    config: EvaluationConfig,
    against: str | None,
    policy: GatePolicy | None,
    workspace: Workspace,
    bootstrap: bool,
) -> UntilDecided | None:
    """Return what decides when to stop; None if there is no baseline yet."""
    if against is None:
        raise UsageError(
            "--until-decided needs the gate, but --no-gate skips it; remove one of them"
        )
    dataset = parse_ref(config.dataset.version).name
    first = baseline_path(workspace.baselines, dataset)
    if bootstrap and against == "baseline" and not first.is_file():
        return None
    baseline, anchor = find_baselines(against, dataset, workspace=workspace)
    return UntilDecided(baseline, anchor, policy or config.gate)


def _gated(
    evaluation: Evaluation,
    against: str | None,
    *,
    workspace: Workspace,
    policy: GatePolicy | None,
    bootstrap: bool,
    reports: Reports,
) -> Evaluated:
    html = write_html(evaluation, workspace=workspace).report if reports.html else None
    found = Evaluated(evaluation=evaluation, html=html)
    if against is None:
        return found
    first = baseline_file(evaluation, workspace)
    if bootstrap and against == "baseline" and not first.is_file():
        look_ahead(evaluation, workspace)
        why = "there is no baseline yet; promote this evaluation to make it the first"
        return replace(found, reasons=(why,))
    try:
        result = gate_and_report(
            evaluation, against, workspace=workspace, policy=policy, reports=reports
        )
    except FtregError as error:  # no baseline, not comparable, ...: a result without a verdict
        reasons = tuple(line.strip() for line in str(error).split("\n"))
        return replace(found, reasons=reasons, error=error)
    return replace(found, gate=result)


def _track(evaluation: Evaluation, events: GateEvents) -> None:
    """Log the evaluation, whatever its verdict; a failing tracker is only a notice."""
    try:
        run = log_evaluation(evaluation, asked_by=_REPORT_TO)
    except UsageError as error:
        events.notice(f"{error}\n  The evaluation is kept; `ftreg track {evaluation.id}` logs it.")
    else:
        events.tracked(run)
