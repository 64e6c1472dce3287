"""Evaluations on disk: one checkpoint's outputs and scores on one dataset version.

`evaluations/<id>/` holds `evaluation.json` (what was evaluated, how, and a summary),
`outputs.jsonl` (a row per example) and `scores.jsonl` (a row per example and scorer). If scorers
queried the model themselves, `probes.jsonl` has a row per item and scorer. For replicas, all files
have a row per seed, with the key `seed`; such an evaluation has schema version 2. An evaluation of
a model or outputs that ftreg did not make has schema version 3.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NotRequired, TypeVar

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from ftreg.errors import UsageError
from ftreg.files.checking import check_record, documented
from ftreg.files.store import (
    damaged,
    file_digest,
    read_json,
    staged_folder,
    write_jsonl,
    write_record,
)
from ftreg.records.evaluation.header import check_header, recipe_known
from ftreg.records.evaluation.rows import (
    ProbeColumn,
    Probed,
    Run,
    each_output,
    each_score,
    output_rows,
    probe_rows,
    read_scores,
    refuse_changed,
    score_rows,
    summarise,
    together,
)
from ftreg.records.layout import GATE, GATE_SCHEMA, HEADER, OUTPUTS, PROBES, SCORES
from ftreg.records.samples import Example, Score, Scores, over_seeds

EVALUATION_SCHEMA = 3


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A stored evaluation.

    `header` is `evaluation.json`; `scores` are in the form that the gate uses; `cohorts` maps ids
    to cohort tags, `clusters` maps ids to clusters (empty if the dataset names none), and
    `critical` are the ids that must not get worse. `probes` are the scores of queries apart from
    the rows of the dataset; each scorer's items have separate ids. `tokens` maps ids to the number
    of new tokens in the output, for replicas the mean, and None if they were not counted.
    """

    folder: Path
    header: Mapping[str, Any]
    scores: Scores
    cohorts: Mapping[str, Mapping[str, str]]
    clusters: Mapping[str, str]
    critical: frozenset[str]
    probes: Scores = field(default_factory=dict)
    tokens: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The evaluation's name, which is also its folder's."""
        return str(self.header["id"])

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its replicas; empty for a single checkpoint."""
        return tuple(self.header["checkpoint"].get("seeds", ()))


def write_evaluation(
    folder: Path,
    *,
    header: Mapping[str, Any],
    examples: Sequence[Example],
    runs: Mapping[int | None, Run],
    cohort_tags: Mapping[str, Mapping[str, str]],
    cluster: str | None,
    probed: Mapping[int | None, Probed] | None = None,
) -> Evaluation:
    """Write an evaluation folder atomically, and read it back.

    Args:
        folder: to create; its name becomes the evaluation's id.
        header: what was evaluated and how; for replicas, its `checkpoint` has their `seeds`.
        examples: the rows, in order.
        runs: seed to outputs and scores, each in the order of the examples; for a single
            checkpoint, the key is None.
        cohort_tags: example id to its tags that form cohorts.
        cluster: the tag that marks dependent examples, if any.
        probed: seed, as in `runs`, to the results of probes; None or empty if there were none.

    Raises:
        UsageError: the folder exists or cannot be written.
    """
    first = next(iter(runs.values()))
    summary = {
        name: summarise([run.scores[name] for run in runs.values()]) for name in first.scores
    }
    with staged_folder(folder) as staging:
        write_jsonl(
            staging / OUTPUTS,
            output_rows(examples, runs, cohort_tags=cohort_tags, cluster=cluster),
        )
        write_jsonl(staging / SCORES, score_rows(examples, runs))
        names = [OUTPUTS, SCORES]
        if probes := _probe_summaries(probed or {}):
            write_jsonl(staging / PROBES, probe_rows(probed or {}))
            names.append(PROBES)
        files = {name: file_digest(staging / name) for name in names}
        write_record(
            staging / HEADER,
            {
                "schema_version": oldest_schema(header["checkpoint"]),
                "id": folder.name,
                **header,
                "summary": summary,
                **({"probes": probes} if probes else {}),
                "files": files,
            },
        )
    return read_evaluation(folder)


def oldest_schema(checkpoint: Mapping[str, Any]) -> int:
    """Return the lowest schema version that fits, so that older versions can read the evaluation.

    Args:
        checkpoint: of the evaluation's header.
    """
    if not recipe_known(checkpoint):
        return EVALUATION_SCHEMA
    return 2 if "seeds" in checkpoint else 1


def _probe_summaries(probed: Mapping[int | None, Probed]) -> dict[str, Any]:
    columns = list(probed.values())
    return {
        name: {
            "identity": dict(column.identity),
            "items": len(column.scores),
            "summary": summarise([list(each[name].scores.values()) for each in columns]),
        }
        for name, column in (columns[0] if columns else {}).items()
    }


def read_header(folder: Path) -> dict[str, Any]:
    """Read the header of an evaluation, without its rows.

    Raises:
        UsageError: it is missing, broken, or of a newer schema.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such evaluation")
    header = read_json(folder / HEADER, kind="evaluation", schema=EVALUATION_SCHEMA)
    with damaged(folder / HEADER, kind="evaluation"):
        check_header(header)
    return header


def read_evaluation(folder: Path) -> Evaluation:
    """Read a stored evaluation.

    Raises:
        UsageError: it is missing, broken, incomplete, or of a newer schema.
    """
    header = read_header(folder)
    with damaged(folder / HEADER, kind="evaluation"):
        files = dict(header.get("files", {}))  # older evaluations do not list them
    refuse_changed(folder, files, told_by=HEADER)
    cohorts: dict[str, Mapping[str, str]] = {}
    clusters: dict[str, str] = {}
    tokens: dict[str, list[float | None]] = {}
    critical = set()
    path = folder / OUTPUTS
    for row in each_output(path):
        cohorts[row["id"]] = dict(row["cohorts"])
        tokens.setdefault(row["id"], []).append(row["tokens"])
        if row["cluster"] is not None:
            clusters[row["id"]] = row["cluster"]
        if row["critical"]:
            critical.add(row["id"])
    scores = read_scores(
        folder / SCORES,
        scorers=dict.fromkeys(header["scorers"], len(cohorts)),
        ids=cohorts,
        seeds=header["checkpoint"].get("seeds"),
    )
    asked = header.get("probes")
    probes = (
        read_scores(
            folder / PROBES,
            scorers={name: probe["items"] for name, probe in asked.items()},
            ids=None,
            seeds=header["checkpoint"].get("seeds"),
        )
        if asked
        else {}
    )
    counts = {name: over_seeds(counted) for name, counted in tokens.items()}
    return Evaluation(
        folder, header, scores, cohorts, clusters, frozenset(critical), probes, counts
    )


def read_probed(evaluation: Evaluation) -> dict[int | None, dict[str, ProbeColumn]]:
    """Return the results of an evaluation's probes, by seed, as passed to `write_evaluation`.

    Raises:
        UsageError: the file is damaged.
    """
    asked = evaluation.header.get("probes", {})
    found: dict[int | None, dict[str, dict[str, Score]]] = {}
    for place, row in each_score(evaluation.folder / PROBES) if asked else ():
        with damaged(Path(place), kind="score"):
            score = Score(row["score"], row["reason"], row["evidence"])
            columns = found.setdefault(row.get("seed"), {})
            columns.setdefault(row["scorer"], {})[row["id"]] = score
    return {
        seed: {
            name: ProbeColumn(asked[name]["identity"], scores) for name, scores in columns.items()
        }
        for seed, columns in found.items()
    }


def read_outputs(folder: Path, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the rows of an evaluation's `outputs.jsonl` for some examples, by id.

    Older evaluations lack `input` and `reference`. For replicas, `output` contains all outputs,
    and `finish` is `length` if one of them was cut off.

    Raises:
        UsageError: the file is missing or damaged.
    """
    path = folder / OUTPUTS
    found: dict[str, dict[str, Any]] = {}
    texts: dict[str, dict[int | None, str]] = {}
    for row in each_output(path):
        if row["id"] in ids:
            if found.get(row["id"], {}).get("finish") == "length":
                row["finish"] = "length"
            found[row["id"]] = row
            texts.setdefault(row["id"], {})[row.get("seed")] = row["output"]
    return {name: {**row, "output": together(texts[name])} for name, row in found.items()}


def read_findings(folder: Path, ids: Collection[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of an evaluation's `scores.jsonl` for some examples, by scorer and id.

    For replicas, the evidence of all seeds is concatenated, and the reason is that of the first
    seed without a score.

    Raises:
        UsageError: the file is missing or damaged.
    """
    path = folder / SCORES
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for _, row in each_score(path):
        if row["id"] in ids:
            before = found.get((row["scorer"], row["id"]), {})
            found[row["scorer"], row["id"]] = {
                **row,
                "reason": before.get("reason") or row.get("reason"),
                "evidence": [*before.get("evidence", []), *row["evidence"]],
            }
    return found


V = TypeVar("V")


@documented
class GateRecord(TypedDict, Generic[V]):
    """`gate.json`: the last verdict on an evaluation, stored in its folder."""

    schema_version: int
    ftreg: NotRequired[str]
    created: str
    baseline: str
    """Id of the evaluation that it was compared with."""
    anchor: str | None
    candidate: str
    scores: str
    """Digest of the gated scores."""
    verdict: V
    digest: NotRequired[str]
    """Hex SHA-256 of everything else, as canonical JSON; a record that differs is refused."""


_GATE_RECORD = TypeAdapter(GateRecord[dict[str, Any]])


def read_gate(folder: Path) -> dict[str, Any]:
    """Read the record of an evaluation's last gate; the verdict itself is not checked.

    Raises:
        UsageError: there is none, or it is broken or of a newer schema.
    """
    path = folder / GATE
    record = read_json(path, kind="gate record", schema=GATE_SCHEMA)
    with damaged(path, kind="gate record"):
        check_record(_GATE_RECORD, record)
    return record


def leaked_share(evaluation: Evaluation) -> float | None:
    """Return the share of the rows that the checkpoint was trained on, in [0, 1].

    None if unknown: older evaluations do not record it, and the training rows may be gone.

    Raises:
        UsageError: the record is damaged.
    """
    with damaged(evaluation.folder / HEADER, kind="evaluation"):
        record = evaluation.header.get("leakage") or {}
        return float(record["share"]) if "share" in record else None
