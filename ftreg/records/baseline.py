"""Baselines: the promoted evaluation that candidates are held against, one file per dataset.

`baselines/<dataset>.json` is small enough for git and has all that a gate needs: per-example
scores, cohorts, and what was evaluated. It is moved by `promote` only, and keeps its history.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

import ftreg
from ftreg.config.policy import GatePolicy, loosened
from ftreg.errors import UndecidedError, UsageError
from ftreg.files.checking import check_record, documented
from ftreg.files.locks import locked
from ftreg.files.names import check_name
from ftreg.files.store import damaged, digest, read_json, write_record
from ftreg.records.evaluation.header import CheckpointSummary, check_header
from ftreg.records.evaluation.rows import Scores
from ftreg.records.evaluation.stored import GATE, Evaluation, read_gate

SCHEMA_VERSION = 2


Unit = Annotated[float, Field(ge=0, le=1)]
ScoreColumns = dict[str, dict[str, Unit | list[Unit | None] | None]]


@documented
class Promotion(TypedDict):
    """One entry of a baseline's history."""

    evaluation: str
    checkpoint: CheckpointSummary
    promoted: str
    """When, ISO 8601 in UTC."""
    forced: bool
    """Whether the gate had not passed."""
    anchor: bool
    """Whether it was pinned as the anchor."""
    why: str | None


_HISTORY = TypeAdapter(list[Promotion])
_COLUMNS = TypeAdapter(ScoreColumns)


@dataclass(frozen=True, slots=True)
class Baseline:
    """One promoted evaluation, as the gate takes it; `header` as in `evaluation.json`.

    `folder` is its evaluation's, where that is at hand: outputs and evidence lie there, and a
    baseline file has neither.
    """

    header: Mapping[str, Any]
    scores: Scores
    folder: Path | None = None


def baseline_path(root: Path, dataset: str) -> Path:
    """Where the baseline of a dataset (`code-summary`, any version) lies.

    Raises:
        UsageError: the name could leave the folder.
    """
    return root / f"{check_name(dataset, what='dataset')}.json"


def read_baseline(path: Path, *, anchor: bool = False) -> Baseline:
    """Read the promoted evaluation, or the anchor.

    Raises:
        UndecidedError: there is no baseline, or it has no anchor.
        UsageError: the file is broken or of a newer schema.
    """
    if not path.is_file():
        raise UndecidedError(
            f"{path}: there is no baseline yet, so there is nothing to compare with; make a good "
            "evaluation the baseline with `ftreg promote EVALUATION`"
        )
    record = read_json(path, kind="baseline", schema=SCHEMA_VERSION)
    if anchor and record.get("anchor") is None:
        raise UndecidedError(f"{path}: no anchor is pinned; `ftreg promote --anchor` pins one")
    return _entry(record.get("anchor" if anchor else "baseline"), path)


def read_anchor(path: Path) -> Baseline | None:
    """Read the anchor of a baseline file, if one is pinned.

    Raises:
        UsageError: the file is broken or of a newer schema.
    """
    entry = read_json(path, kind="baseline", schema=SCHEMA_VERSION).get("anchor")
    return None if entry is None else _entry(entry, path)


def read_history(path: Path) -> list[Promotion]:
    """Read what was promoted, oldest first.

    Raises:
        UsageError: the file is missing, broken or of a newer schema.
    """
    return _history(read_json(path, kind="baseline", schema=SCHEMA_VERSION), path)


def _history(record: Mapping[str, Any], path: Path) -> list[Promotion]:
    with damaged(path, kind="baseline"):
        check_record(_HISTORY, record["history"])
        return list(record["history"])


def _entry(entry: Any, path: Path) -> Baseline:
    with damaged(path, kind="baseline"):
        header, scores = dict(entry["header"]), dict(entry["scores"])
        check_header(header)
        check_record(_COLUMNS, scores)
        return Baseline(header=header, scores=scores)


def promote(
    evaluation: Evaluation,
    path: Path,
    *,
    why: str | None = None,
    force: bool = False,
    anchor: bool = False,
) -> None:
    """Make an evaluation the baseline (and the anchor, if asked).

    The first evaluation of a dataset may be promoted as it is; after that only one that has
    passed its gate, unless forced with a reason, which the history keeps.

    Raises:
        UsageError: the gate has not passed and `force` is off, or `force` has no reason.
    """
    if force and not why:
        raise UsageError("--force needs --why TEXT: the history keeps the reason")
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        record: dict[str, Any] = {"anchor": None, "history": []}
        if path.is_file():
            record = read_json(path, kind="baseline", schema=SCHEMA_VERSION)
            record["history"] = _history(record, path)
            if not force:
                pinned = record.get("anchor")
                _refuse_unless_passed(
                    evaluation,
                    _entry(record.get("baseline"), path),
                    anchor=None if pinned is None else _entry(pinned, path),
                )
        entry = {"header": dict(evaluation.header), "scores": evaluation.scores}
        record |= {"schema_version": SCHEMA_VERSION, "ftreg": ftreg.__version__, "baseline": entry}
        if anchor:
            record["anchor"] = entry
        with damaged(path, kind="baseline"):
            record["schema_version"] = _schema(record)
        record["history"] = [
            *record["history"],
            {
                "evaluation": evaluation.id,
                "checkpoint": evaluation.header["checkpoint"],
                "promoted": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "forced": force,
                "anchor": anchor,
                "why": why,
            },
        ]
        write_record(path, record)


def _schema(record: Mapping[str, Any]) -> int:
    """A file without replicas stays one that older versions of ftreg read."""
    entries = [entry for entry in (record["baseline"], record.get("anchor")) if entry]
    by_seed = any("seeds" in entry["header"]["checkpoint"] for entry in entries)
    return SCHEMA_VERSION if by_seed else 1


def _refuse_unless_passed(
    evaluation: Evaluation, baseline: Baseline, *, anchor: Baseline | None
) -> None:
    """Refuse what has not passed the very gate that guards this baseline.

    That is: these scores, against this baseline and anchor, by a policy no looser than its own.
    """
    path = evaluation.folder / GATE
    way_out = "gate it with `ftreg gate baseline EVALUATION`, or use --force --why TEXT"
    if not path.is_file():
        raise UsageError(f"{evaluation.id} has not been gated against the baseline; {way_out}")
    gate = read_gate(evaluation.folder)
    with damaged(path, kind="gate record"):
        outcome = gate["verdict"]["outcome"]
        sides = (gate["baseline"], gate["anchor"])
        scores = gate["scores"]
        policy = GatePolicy.model_validate(gate["verdict"]["policy"], strict=False)
    expected = (baseline.header["id"], anchor.header["id"] if anchor else None)
    if sides != expected:
        raise UsageError(
            f"{evaluation.id} was gated against {sides[0]} and the anchor {sides[1]}, but now they "
            f"are {expected[0]} and {expected[1]}; {way_out}"
        )
    if scores != digest(evaluation.scores):
        raise UsageError(f"{evaluation.id} has other scores now than it was gated with; {way_out}")
    with damaged(path, kind="baseline"):
        own = GatePolicy.model_validate(baseline.header["policy"], strict=False)
    looser = loosened(own, policy)
    if looser:
        raise UsageError(
            f"{evaluation.id} was gated by a looser policy than the baseline's "
            f"({'; '.join(looser)}); {way_out}"
        )
    if outcome != "pass":
        raise UsageError(
            f"{evaluation.id} did not pass its gate ({outcome}); to promote it all the same use "
            "--force --why TEXT"
        )
