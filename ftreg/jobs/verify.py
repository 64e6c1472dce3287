"""Recompute a verdict statement from the stored scores, here or on another machine."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import ftreg
from ftreg.config.policy import GatePolicy
from ftreg.errors import ExitCode, UndecidedError, differ_at
from ftreg.files.store import canonical_json, damaged, digest, file_digest
from ftreg.gate import Outcome, Verdict
from ftreg.jobs.gate import baseline_of, judge
from ftreg.records.attestation import (
    ForgedError,
    GatedSide,
    Statement,
    VerdictPredicate,
    read_attestation,
)
from ftreg.records.baseline import Baseline, baseline_path, read_anchor, read_baseline
from ftreg.records.evaluation.stored import Evaluation, read_evaluation
from ftreg.records.layout import HEADER
from ftreg.records.printed import OPTIONAL, Printed, printed
from ftreg.records.workspace import Workspace

State = Literal["equal", "differs", "absent"]


@printed
class FirstDifference:
    """Where the canonical JSON of two verdicts first differs."""

    byte: int
    """Counted from 0."""
    key: str
    """Path of the first value that differs, such as `rows[2].delta`."""
    stated: Any
    here: Any


@printed
class RecomputedVerdict(Printed):
    """What `ftreg verify --json` prints."""

    statement: Path
    """The file."""
    ftreg: str = ftreg.__version__
    """The version of ftreg that recomputed it; `made_by` is the one that gated."""
    made_by: str | None = None
    signed_by: str | None = None
    """Id of the key that verified the signature; null for an unsigned statement."""
    candidate: str | None = None
    """Id of the judged evaluation."""
    stated: Outcome | None = None
    """The outcome in the statement."""
    files: dict[str, State] = field(default_factory=dict)
    """Each file in the statement, by its path below the workspace."""
    recomputed: bool = False
    """Whether the verdict could be computed from the stored scores."""
    difference: FirstDifference | None = field(default=None, metadata=OPTIONAL)
    """Omitted if the recomputed verdict is the same, byte for byte."""
    reasons: tuple[str, ...] = ()
    """Why the statement cannot be trusted; empty if it can."""

    @property
    def exit_code(self) -> ExitCode:
        """0 if everything matches, else 3."""
        return ExitCode.UNDECIDED if self.reasons else ExitCode.OK


def verify(path: Path, *, key: Path | None, workspace: Workspace) -> RecomputedVerdict:
    """Check a statement against its signature and its files, and recompute the verdict.

    Args:
        path: the file that `ftreg gate --attest` wrote.
        key: the public key for its signature; None for an unsigned statement.
        workspace: has the files that it names.

    Raises:
        UndecidedError: the scores behind the verdict are not available.
        UsageError: the file is not a statement, or the key is wrong or missing.
    """
    try:
        found = read_attestation(path, key=key)
    except ForgedError as error:
        return RecomputedVerdict(statement=path, reasons=(str(error),))
    predicate = found.statement["predicate"]
    with damaged(path, kind="statement"):
        stated = Verdict.from_dict(predicate["verdict"])
    files = _states(found.statement, workspace)
    changed = [name for name, state in files.items() if state == "differs"]
    reasons = [f"{name}: changed since the gate (sha256 differs)" for name in changed]
    difference = None
    if not changed:
        here, reasons = _judged_again(predicate, stated, workspace)
        difference = None if here is None else first_difference(predicate["verdict"], here)
    if difference is not None:
        reasons.append(_told(difference, made_by=predicate["ftreg"]))
    return RecomputedVerdict(
        statement=path,
        made_by=predicate["ftreg"],
        signed_by=found.signed_by,
        candidate=predicate["candidate"]["id"],
        stated=stated.outcome,
        files=files,
        recomputed=not changed and (not reasons or difference is not None),
        difference=difference,
        reasons=tuple(reasons),
    )


def _states(statement: Statement[dict[str, Any]], workspace: Workspace) -> dict[str, State]:
    found: dict[str, State] = {}
    for item in statement["subject"]:
        path = workspace.root / item["name"]
        if not path.exists():
            found[item["name"]] = "absent"
        else:
            same = file_digest(path) == item["digest"]["sha256"]
            found[item["name"]] = "equal" if same else "differs"
    return found


def _judged_again(
    predicate: VerdictPredicate[dict[str, Any]], stated: Verdict, workspace: Workspace
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the verdict by the stated policy and looks; None, and why, if scores changed."""
    folder = workspace.evaluations / predicate["candidate"]["id"]
    if not (folder / HEADER).is_file():
        raise UndecidedError(
            f"the verdict cannot be recomputed: {folder} is missing; provide the evaluation, or "
            "name its workspace with FTREG_WORKSPACE"
        )
    candidate = read_evaluation(folder)
    sides = {"baseline": predicate["baseline"]}
    if predicate["anchor"] is not None:
        sides["anchor"] = predicate["anchor"]
    found = {name: _find_side(side, candidate, workspace) for name, side in sides.items()}
    reasons = [
        f"{item['id']}: its scores have changed since the gate"
        for item, scores in (
            (predicate["candidate"], candidate.scores),
            *((sides[name], side.scores) for name, side in found.items()),
        )
        if digest(scores) != item["scores"]
    ]
    if reasons:
        return None, reasons
    verdict = judge(
        candidate,
        found["baseline"],
        policy=GatePolicy.model_validate(stated.policy, strict=False),
        anchor=found.get("anchor"),
        looks=stated.looks,
    )
    return verdict.to_dict(), []


def _find_side(side: GatedSide, candidate: Evaluation, workspace: Workspace) -> Baseline:
    folder = workspace.evaluations / side["id"]
    if (folder / HEADER).is_file():
        found = baseline_of(read_evaluation(folder))
        if digest(found.scores) == side["scores"]:
            return found
    path = baseline_path(workspace.baselines, candidate.header["dataset"]["name"])
    kept = (read_baseline(path), read_anchor(path)) if path.is_file() else ()
    for item in kept:
        if item is not None and str(item.header["id"]) == side["id"]:
            return item
    raise UndecidedError(
        f"the verdict cannot be recomputed: the evaluation {side['id']} is neither in "
        f"{workspace.evaluations} nor in {path}; restore it, or the baseline's file at the time of "
        "the gate, from git"
    )


def first_difference(stated: Mapping[str, Any], here: Mapping[str, Any]) -> FirstDifference | None:
    """Find the first byte at which the canonical JSON of two verdicts differs; None if none does.

    Numbers are compared as written, to the last digit.
    """
    one, other = (canonical_json(value).encode() for value in (stated, here))
    if one == other:
        return None
    byte = differ_at(one, other)
    key, first, second = _first_value(stated, here, "")
    return FirstDifference(byte=byte, key=key, stated=first, here=second)


def _first_value(first: Any, second: Any, at: str) -> tuple[str, Any, Any]:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for name in sorted({*first, *second}):
            a, b = first.get(name), second.get(name)
            if name not in first or name not in second or canonical_json(a) != canonical_json(b):
                return _first_value(a, b, f"{at}.{name}".lstrip("."))
    lists = isinstance(first, (list, tuple)) and isinstance(second, (list, tuple))
    if lists and len(first) == len(second):
        for number, (a, b) in enumerate(zip(first, second, strict=True)):
            if canonical_json(a) != canonical_json(b):
                return _first_value(a, b, f"{at}[{number}]")
    return at, first, second


def _told(difference: FirstDifference, *, made_by: str) -> str:
    versions = ""
    if made_by != ftreg.__version__:
        versions = f" (made by ftreg {made_by}, recomputed by {ftreg.__version__})"
    return (
        f"the verdict differs at byte {difference.byte}, {difference.key}: stated "
        f"{canonical_json(difference.stated)[:60]}, here {canonical_json(difference.here)[:60]}"
        f"{versions}"
    )
