"""Hold an evaluation against a baseline, and keep the verdict beside it.

Part of the thin layer that puts the rooms together.
"""

import dataclasses
import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import ftreg
from ftreg.config.policy import GatePolicy
from ftreg.errors import ExitCode, UndecidedError
from ftreg.files.names import plain
from ftreg.files.store import damaged, digest, write_record, write_text
from ftreg.gate import Verdict, compare
from ftreg.gate.sample_size import POWER, examples_for_pass
from ftreg.gate.seeds import margin_left
from ftreg.gate.verdict import PRIMARY
from ftreg.records.baseline import Baseline, baseline_path, read_anchor, read_baseline
from ftreg.records.evaluation.comparable import header_differences, rows_of_one_side
from ftreg.records.evaluation.stored import (
    GATE_SCHEMA,
    Evaluation,
    leaked_share,
    read_evaluation,
    read_gate,
)
from ftreg.records.layout import GATE, HEADER
from ftreg.records.samples import PRINTED_SCHEMA
from ftreg.records.workspace import Workspace
from ftreg.report.markdown import gate_report
from ftreg.report.worst import worst_drops

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.evaluations import NeededExamples, PrintedEvaluation
    from ftreg.records.evaluation.header import EvaluationHeader


@dataclass(frozen=True, slots=True)
class GateResult:
    """A verdict, and what it is about."""

    baseline: Mapping[str, Any]
    candidate: Mapping[str, Any]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class LastGate:
    """What `gate.json` keeps of an evaluation's last gate.

    `baseline` and `anchor` are the ids of what it was held against; `of_these_scores` is false
    where the evaluation has been scored again since.
    """

    verdict: Verdict
    baseline: str
    anchor: str | None
    of_these_scores: bool


def last_gate(evaluation: Evaluation) -> LastGate | None:
    """Read the verdict that an evaluation's folder keeps; None where it has not been gated.

    Raises:
        UsageError: the record is damaged, or of a newer schema.
    """
    path = evaluation.folder / GATE
    if not path.is_file():
        return None
    record = read_gate(evaluation.folder)
    with damaged(path, kind="gate record"):
        return LastGate(
            verdict=Verdict.from_dict(record["verdict"]),
            baseline=plain(record["baseline"]),
            anchor=None if record["anchor"] is None else plain(record["anchor"]),
            of_these_scores=record["scores"] == digest(evaluation.scores),
        )


def baseline_of(evaluation: Evaluation) -> Baseline:
    """Take a stored evaluation as a baseline."""
    return Baseline(header=evaluation.header, scores=evaluation.scores, folder=evaluation.folder)


def gate(
    candidate: Evaluation,
    baseline: Baseline,
    *,
    policy: GatePolicy,
    anchor: Baseline | None = None,
) -> GateResult:
    """Compare a candidate with a baseline and store `gate.json` in the candidate's folder.

    Raises:
        UndecidedError: the two cannot be compared; a line per field that differs.
    """
    _refuse_unlike(baseline, candidate, name="baseline")
    if anchor is not None:
        _refuse_unlike(anchor, candidate, name="anchor")
    verdict = compare(
        baseline.scores,
        candidate.scores,
        policy,
        cohorts=candidate.cohorts,
        critical=candidate.critical,
        clusters=candidate.clusters or None,
        anchor=anchor.scores if anchor else None,
        leaked=leaked_share(candidate),
    )
    result = GateResult(baseline.header, candidate.header, verdict)
    write_record(
        candidate.folder / GATE,
        {
            "schema_version": GATE_SCHEMA,
            "ftreg": ftreg.__version__,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "baseline": baseline.header["id"],
            "anchor": anchor.header["id"] if anchor else None,
            "candidate": candidate.id,
            "scores": digest(candidate.scores),
            "verdict": verdict.to_dict(),
        },
    )
    return result


def _refuse_unlike(side: Baseline, candidate: Evaluation, *, name: str) -> None:
    found = header_differences(side.header, candidate.header)
    if found:
        places = (f"the {name}", "the candidate")
        found += rows_of_one_side(side.scores, candidate.scores, places=places)
    if found:
        lines = "\n  ".join(found)
        raise UndecidedError(
            f"{candidate.id} cannot be compared with the {name} {side.header['id']}, since they "
            f"were not evaluated alike:\n  {lines}\nEvaluate both in the same way, and promote a "
            "new baseline (and anchor) if the change is meant."
        )


def policy_of(evaluation: Evaluation) -> GatePolicy:
    """Return the policy that was in force when the evaluation was made."""
    with damaged(evaluation.folder / HEADER, kind="evaluation"):
        return GatePolicy.model_validate(evaluation.header["policy"], strict=False)


def examples_needed(evaluation: Evaluation, *, margin: float) -> "list[NeededExamples]":
    """Return, per scorer, how many examples an equally good candidate needs to pass a margin.

    The spread of the paired deltas is that of the evaluation's last gate, and so is the noise of
    seeds; `need` is None where that alone is more than the margin.

    Raises:
        UndecidedError: the evaluation has not been gated, so no spread is known.
    """
    gate = last_gate(evaluation)
    if gate is None:
        raise UndecidedError(
            f"{evaluation.id} has not been gated, and the spread of paired deltas comes from a "
            f"gate; `ftreg gate baseline {evaluation.id}` makes one"
        )
    verdict = gate.verdict
    rows: list[NeededExamples] = []
    for row in verdict.rows:
        if row.cohort != PRIMARY or row.against != "baseline" or row.standard_error is None:
            continue
        confidence = verdict.policy["confidence"]
        left = margin_left(
            margin,
            (
                (row.baseline_seeds, row.baseline_seed_deviation),
                (row.candidate_seeds, row.candidate_seed_deviation),
            ),
            level=(1 - confidence) / 2,
            power=POWER,
        )
        error = row.standard_error if row.example_error is None else row.example_error
        spread = error * math.sqrt(row.n)
        # Scores of 0 and 1 are bounded exactly, with one unseen example reckoned at its worst.
        bounded = row.method.partition(";")[0] in ("exact", "rule of three")
        needed = (
            None
            if left is None
            else examples_for_pass(
                min(spread, 1.0), margin=left, confidence=confidence, worst=float(bounded)
            )
        )
        rows.append(
            {"scorer": row.scorer, "have": row.n, "spread": round(spread, 4), "need": needed}
        )
    return rows


def find_baselines(
    ref: str, evaluation: Evaluation, *, workspace: Workspace
) -> tuple[Baseline, Baseline | None]:
    """Find what `ref` names, and the anchor where `ref` is the baseline that has one.

    Args:
        ref: `baseline`, `anchor`, or an evaluation.
        evaluation: the candidate, whose dataset says which baseline file is meant.
        workspace: where to look.

    Raises:
        UndecidedError: there is no baseline yet, or `anchor` is asked for and none is pinned.
        UsageError: no such evaluation, or a broken file.
    """
    path = baseline_path(workspace.baselines, evaluation.header["dataset"]["name"])
    if ref == "anchor":
        return read_baseline(path, anchor=True), None
    if ref != "baseline":
        return baseline_of(read_evaluation(workspace.evaluation(ref))), None
    baseline = read_baseline(path)
    folder = workspace.evaluations / str(baseline.header["id"])
    if (folder / HEADER).is_file():
        baseline = dataclasses.replace(baseline, folder=folder)
    return baseline, read_anchor(path)


def outcome_record(result: GateResult, *, report: Path | None, page: Path | None) -> dict[str, Any]:
    """Return what `ftreg gate --json` prints; `ftreg schema verdict` describes it."""
    return {
        "schema_version": GATE_SCHEMA,
        "ftreg": ftreg.__version__,
        "baseline": result.baseline["id"],
        "candidate": result.candidate["id"],
        "report": None if report is None else str(report),
        "html": None if page is None else str(page),
        "exit_code": int(result.verdict.exit_code),
        **result.verdict.to_dict(),
    }


def evaluation_record(
    evaluation: Evaluation, *, page: Path | None, reasons: Sequence[str], exit_code: ExitCode
) -> "PrintedEvaluation":
    """Return what `ftreg eval --json` prints where there is no verdict."""
    return {
        "schema_version": PRINTED_SCHEMA,
        "candidate": evaluation.id,
        "baseline": None,
        "outcome": None,
        "reasons": list(reasons),
        "report": None,
        "html": None if page is None else str(page),
        "exit_code": int(exit_code),
        "evaluation": cast("EvaluationHeader", evaluation.header),  # which it was read as
    }


def write_report(result: GateResult, *, evaluation: Evaluation, baseline: Baseline) -> Path:
    """Write the Markdown report into the candidate's folder and return its path."""
    path = evaluation.folder / "report.md"
    text = gate_report(
        result.verdict,
        baseline=result.baseline,
        candidate=evaluation,
        worst=worst_drops(evaluation, baseline),
    )
    write_text(path, text)
    return path
