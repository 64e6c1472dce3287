"""Baselines: the promoted evaluation that candidates are held against, one file per dataset.

`baselines/<dataset>.json` is small enough for git and has all that a gate needs: per-example
scores, cohorts, and what was evaluated. It is moved by `promote` only, and keeps its history.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from ftreg.errors import UndecidedError, UsageError
from ftreg.evaluation import GATE, Evaluation, Scores
from ftreg.store import read_json, write_json

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Baseline:
    """One promoted evaluation, as the gate takes it; `header` as in `evaluation.json`.

    `outputs` are the baseline's texts where its evaluation is at hand; a baseline file has none.
    """

    header: Mapping[str, Any]
    scores: Scores
    outputs: Mapping[str, str] = field(default_factory=dict)


def baseline_path(root: Path, dataset: str) -> Path:
    """Where the baseline of a dataset (`code-summary`, any version) lies."""
    return root / f"{dataset}.json"


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
    entry = record.get("anchor" if anchor else "baseline")
    if entry is None:
        raise UndecidedError(f"{path}: no anchor is pinned; `ftreg promote --anchor` pins one")
    return _entry(entry, path)


def read_anchor(path: Path) -> Baseline | None:
    """Read the anchor of a baseline file, if one is pinned.

    Raises:
        UsageError: the file is broken or of a newer schema.
    """
    entry = read_json(path, kind="baseline", schema=SCHEMA_VERSION).get("anchor")
    return None if entry is None else _entry(entry, path)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read what was promoted, oldest first.

    Raises:
        UsageError: the file is missing, broken or of a newer schema.
    """
    return list(read_json(path, kind="baseline", schema=SCHEMA_VERSION)["history"])


def _entry(entry: Any, path: Path) -> Baseline:
    try:
        return Baseline(header=entry["header"], scores=entry["scores"])
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path}: damaged baseline: {error} is missing") from error


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
    with FileLock(path.with_name(f".{path.name}.lock")):
        record: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "anchor": None, "history": []}
        if path.is_file():
            record = read_json(path, kind="baseline", schema=SCHEMA_VERSION)
            if not force:
                _refuse_unless_passed(evaluation, record)
        entry = {"header": dict(evaluation.header), "scores": evaluation.scores}
        record["baseline"] = entry
        if anchor:
            record["anchor"] = entry
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
        write_json(path, record)


def _refuse_unless_passed(evaluation: Evaluation, record: Mapping[str, Any]) -> None:
    gate = evaluation.folder / GATE
    way_out = "gate it with `ftreg gate baseline EVALUATION`, or use --force --why TEXT"
    if not gate.is_file():
        raise UsageError(f"{evaluation.id} has not been gated against the baseline; {way_out}")
    verdict = read_json(gate, kind="gate record", schema=1)
    against = record["baseline"]["header"]["id"]
    if verdict["baseline"] != against:
        raise UsageError(
            f"{evaluation.id} was gated against {verdict['baseline']}, but the baseline is now "
            f"{against}; {way_out}"
        )
    if verdict["verdict"]["outcome"] != "pass":
        raise UsageError(
            f"{evaluation.id} did not pass its gate ({verdict['verdict']['outcome']}); to promote "
            "it all the same use --force --why TEXT"
        )
