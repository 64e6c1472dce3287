"""Baselines: the promoted evaluation that candidates are compared with, one file per dataset.

`baselines/<dataset>.json` is small enough for git and has everything that a gate needs: scores per
example, cohorts, and what was evaluated. Only `promote` moves it, and it keeps its history.
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

import ftreg
from ftreg.errors import UndecidedError, UsageError
from ftreg.files.cache.untouched import remembered
from ftreg.files.checking import check_record, documented
from ftreg.files.locks import locked
from ftreg.files.names import check_name
from ftreg.files.store import damaged, read_json, write_record
from ftreg.records.evaluation.header import (
    ArtefactSummary,
    CheckpointSummary,
    EvaluationHeader,
    ScorerSummary,
    check_header,
    recipe_known,
)
from ftreg.records.evaluation.stored import Evaluation, oldest_schema
from ftreg.records.samples import Scores
from ftreg.records.workspace import Workspace

BASELINE_SCHEMA = 3


Unit = Annotated[float, Field(ge=0, le=1)]
ScoreColumns = dict[str, dict[str, Unit | list[Unit | None] | None]]


@documented
class Replaced(TypedDict):
    """Scores of the baseline or the anchor that were replaced when newer scorers rescored it.

    The evaluation's folder has them by example, and so does the previous file in git.
    """

    evaluation: str
    """Id of the evaluation with these scores."""
    by: str
    """Id of the evaluation of the same outputs that replaced it."""
    scorers: dict[str, dict[str, Any]]
    """Scorer to its name, version, options and backend at the time."""
    summary: dict[str, ScorerSummary]
    """Scorer to the summary of its column at the time."""


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
    chosen_from: NotRequired[int]
    """Number of candidates judged on the same rows until then, this one included."""
    artefact: NotRequired[ArtefactSummary]
    """The file released with the checkpoint, if one was named."""
    replaced: NotRequired[list["Replaced"]]
    """The scores by older versions of the scorers, if only these were replaced."""


@documented
class Promoted(TypedDict):
    """An evaluation as stored in a baseline's file."""

    header: EvaluationHeader
    scores: ScoreColumns
    """Scorer to example id to score in [0, 1] or null; for replicas, to one score per seed."""
    probes: NotRequired[ScoreColumns]
    """The same for scorers that queried the model themselves, by the ids of their queries."""


@documented
class BaselineFile(TypedDict):
    """`baselines/<dataset>.json`: what candidates are compared with, kept in git."""

    schema_version: int
    ftreg: NotRequired[str]
    """The version that wrote it."""
    baseline: Promoted
    anchor: Promoted | None
    history: list[Promotion]
    """The promotions, oldest first."""
    digest: NotRequired[str]
    """Hex SHA-256 of everything else, as canonical JSON; a record that differs is refused."""


_HISTORY = TypeAdapter(list[Promotion])
_COLUMNS = TypeAdapter(ScoreColumns)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A promoted evaluation in the form that the gate uses; `header` as in `evaluation.json`.

    `folder` is the evaluation's folder, if available: it has the outputs and evidence, which a
    baseline file does not. `file` is the baseline file, if the evaluation was read from one.
    """

    header: Mapping[str, Any]
    scores: Scores
    folder: Path | None = None
    file: Path | None = None
    probes: Scores = field(default_factory=dict)


def baseline_path(root: Path, dataset: str) -> Path:
    """Return the path of the baseline of a dataset (`code-summary`, any version).

    Raises:
        UsageError: the name could leave the folder.
    """
    return root / f"{check_name(dataset, what='dataset')}.json"


def baseline_files(root: Path) -> list[Path]:
    """Return the baseline files in a folder, sorted."""
    return sorted(root.glob("[!.]*.json"))


def promoted_ids(root: Path) -> list[Mapping[str, str]]:
    """Return the evaluations in the baseline files: `baseline` and `anchor` to their ids.

    Args:
        root: the folder of baselines.

    Raises:
        UsageError: a file is broken, or of a newer schema.
    """
    names = [path.name for path in baseline_files(root)]
    return list(remembered(root, names, _ids, what="baseline 1").values())


def _ids(path: Path) -> dict[str, str]:
    record = read_json(path, kind="baseline", schema=BASELINE_SCHEMA)
    with damaged(path, kind="baseline"):
        sides = {side: record.get(side) for side in ("baseline", "anchor")}
        return {side: str(entry["header"]["id"]) for side, entry in sides.items() if entry}


def baseline_file(evaluation: Evaluation, workspace: Workspace) -> Path:
    """Return the path of the baseline of an evaluation's dataset in a workspace.

    Raises:
        UsageError: the dataset's name could leave the folder.
    """
    return baseline_path(workspace.baselines, evaluation.header["dataset"]["name"])


def read_baseline(path: Path, *, anchor: bool = False) -> Baseline:
    """Read the promoted evaluation, or the anchor.

    Raises:
        UndecidedError: there is no baseline, or it has no anchor.
        UsageError: the file is broken or of a newer schema.
    """
    if not path.is_file():
        raise UndecidedError(
            f"{path}: there is no baseline yet, so there is nothing to compare with; promote a "
            "good evaluation with `ftreg promote EVALUATION`"
        )
    record = read_json(path, kind="baseline", schema=BASELINE_SCHEMA)
    if anchor and record.get("anchor") is None:
        raise UndecidedError(f"{path}: no anchor is pinned; `ftreg promote --anchor` pins one")
    return _entry(record.get("anchor" if anchor else "baseline"), path)


def read_anchor(path: Path) -> Baseline | None:
    """Read the anchor of a baseline file, if one is pinned.

    Raises:
        UsageError: the file is broken or of a newer schema.
    """
    entry = read_json(path, kind="baseline", schema=BASELINE_SCHEMA).get("anchor")
    return None if entry is None else _entry(entry, path)


def read_history(path: Path) -> list[Promotion]:
    """Read the promotions, oldest first.

    Raises:
        UsageError: the file is missing, broken or of a newer schema.
    """
    return _history(read_json(path, kind="baseline", schema=BASELINE_SCHEMA), path)


def chosen_from(history: Sequence[Promotion], evaluation: str) -> int:
    """Return how many candidates an evaluation was chosen from when it was last promoted.

    Rescored evaluations count as chosen with the original. 1 if an older version promoted it.
    """
    for promotion in reversed(history):
        for change in promotion.get("replaced", ()):
            if change["by"] == evaluation:
                evaluation = change["evaluation"]
        if promotion["evaluation"] == evaluation and "replaced" not in promotion:
            return int(promotion.get("chosen_from", 1))
    return 1


def _history(record: Mapping[str, Any], path: Path) -> list[Promotion]:
    with damaged(path, kind="baseline"):
        check_record(_HISTORY, record["history"])
        return list(record["history"])


def _entry(entry: Any, path: Path) -> Baseline:
    with damaged(path, kind="baseline"):
        header, scores = dict(entry["header"]), dict(entry["scores"])
        probes = dict(entry.get("probes", {}))
        check_header(header)
        check_record(_COLUMNS, scores)
        check_record(_COLUMNS, probes)
        return Baseline(header=header, scores=scores, file=path, probes=probes)


def _promoted(evaluation: Evaluation) -> dict[str, Any]:
    """Return the entry of an evaluation, in the form that `Promoted` describes."""
    entry = {"header": dict(evaluation.header), "scores": evaluation.scores}
    return entry | ({"probes": evaluation.probes} if evaluation.probes else {})


def move_baseline(
    path: Path,
    evaluation: Evaluation,
    *,
    forced: bool,
    anchor: bool,
    why: str | None,
    seen: int,
    artefact: ArtefactSummary | None = None,
    check: Callable[[Baseline, Baseline | None], None] | None,
) -> None:
    """Make an evaluation the baseline (and the anchor, if requested), and add it to the history.

    Args:
        path: the dataset's file; created if missing.
        evaluation: the new baseline.
        forced: whether its gate had not passed, for the history.
        anchor: whether it becomes the anchor too.
        why: the reason, for the history.
        seen: number of candidates that it was chosen from, itself included.
        artefact: the file released with it, for the history.
        check: called with the current baseline and anchor while they are locked; if it raises, they
            stay unchanged. With None, they are not read.

    Raises:
        UsageError: the file is broken, of a newer schema, or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        record: dict[str, Any] = {"anchor": None, "history": []}
        if path.is_file():
            record = read_json(path, kind="baseline", schema=BASELINE_SCHEMA)
            record["history"] = _history(record, path)
            if check is not None:
                pinned = record.get("anchor")
                check(
                    _entry(record.get("baseline"), path),
                    None if pinned is None else _entry(pinned, path),
                )
        entry = _promoted(evaluation)
        record |= {"schema_version": BASELINE_SCHEMA, "ftreg": ftreg.__version__, "baseline": entry}
        if anchor:
            record["anchor"] = entry
        with damaged(path, kind="baseline"):
            record["schema_version"] = _schema(record)
        promotion: Promotion = {
            "evaluation": evaluation.id,
            "checkpoint": evaluation.header["checkpoint"],
            "promoted": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "forced": forced,
            "anchor": anchor,
            "why": why,
            "chosen_from": seen,
        }
        if artefact is not None:
            promotion["artefact"] = artefact
        record["history"] = [*record["history"], promotion]
        write_record(path, record)


def replace_entries(path: Path, scored: Mapping[str, Evaluation]) -> None:
    """Give baseline and anchor other scores of the same outputs; the history keeps the old ones.

    Args:
        path: the dataset's file.
        scored: id of the baseline, and of the anchor, to the evaluation that replaces it.

    Raises:
        UsageError: the baseline or the anchor has changed meanwhile, or the file is broken, of a
            newer schema, or cannot be written.
    """
    with locked(path.with_name(f".{path.name}.lock")):
        record = read_json(path, kind="baseline", schema=BASELINE_SCHEMA)
        history = _history(record, path)
        sides = [side for side in ("baseline", "anchor") if record.get(side) is not None]
        old = {side: _entry(record[side], path).header for side in sides}
        if {header["id"] for header in old.values()} != set(scored):
            raise UsageError(
                f"{path}: it was moved while its outputs were scored; rescore it again"
            )
        for side, header in old.items():
            new = scored[header["id"]]
            record[side] = _promoted(new)
        with damaged(path, kind="baseline"):
            record |= {"schema_version": _schema(record), "ftreg": ftreg.__version__}
        promotion: Promotion = {
            "evaluation": record["baseline"]["header"]["id"],
            "checkpoint": record["baseline"]["header"]["checkpoint"],
            "promoted": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "forced": False,
            "anchor": False,
            "why": f"the same outputs, rescored by ftreg {ftreg.__version__}",
            "replaced": [
                {
                    "evaluation": header["id"],
                    "by": scored[header["id"]].id,
                    "scorers": header["scorers"],
                    "summary": header["summary"],
                }
                for header in {header["id"]: header for header in old.values()}.values()
            ],
        }
        write_record(path, {**record, "history": [*history, promotion]})


def _schema(record: Mapping[str, Any]) -> int:
    """Return the oldest schema version that fits, so that older versions can read the file."""
    entries = [entry for entry in (record["baseline"], record.get("anchor")) if entry]
    needed = [oldest_schema(entry["header"]["checkpoint"]) for entry in entries]
    unknown = any(not recipe_known(item["checkpoint"]) for item in record["history"])
    return BASELINE_SCHEMA if unknown else max(needed)
