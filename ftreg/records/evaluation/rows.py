"""Writing and reading the rows of an evaluation: `outputs.jsonl` and `scores.jsonl`.

A single checkpoint has a row per example, and per example and scorer. Replicas have one for each
seed, with the key `seed`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from ftreg.errors import UsageError, shown
from ftreg.files.checking import check_record, documented
from ftreg.files.store import damaged, file_digest, read_jsonl
from ftreg.records.samples import Example, Output, Sample, Score, Scores


@documented
class OutputRow(TypedDict):
    """A line of `outputs.jsonl`."""

    id: str
    seed: NotRequired[int]
    """For replicas, the one that wrote it."""
    input: NotRequired[str]
    """The request; for a chat, the user's last message."""
    messages: NotRequired[list[dict[str, Any]]]
    """For a chat, the turns that the output answers."""
    reference: NotRequired[list[str]]
    """The accepted answers."""
    output: str
    finish: str
    """`stop`, or `length` if `max_new_tokens` cut it off."""
    tokens: int | None
    """New tokens; null if a server does not count them."""
    cohorts: dict[str, str]
    """Tag to value."""
    cluster: str | None
    critical: bool


@documented
class ScoreRow(TypedDict):
    """A line of `scores.jsonl`."""

    id: str
    seed: NotRequired[int]
    """For replicas, the one that wrote the output."""
    scorer: str
    score: float | None
    """In [0, 1], 1 is good; null if it could not be computed."""
    reason: str | None
    """The reason for a missing score."""
    evidence: list[dict[str, Any]]
    """A mapping per claim, statement or key point."""


_OUTPUT_ROW = TypeAdapter(OutputRow)
_SCORE_ROW = TypeAdapter(ScoreRow)


@dataclass(frozen=True, slots=True)
class Run:
    """One checkpoint's outputs, one per example, and its scores, scorer to one per example."""

    outputs: Sequence[Output]
    scores: Mapping[str, Sequence[Score]]


@dataclass(frozen=True, slots=True)
class ProbeColumn:
    """The result of a probe: its JSON-ready identity, and the score of each of its items, by id."""

    identity: Mapping[str, Any]
    scores: Mapping[str, Score]


Probed = Mapping[str, ProbeColumn]
"""Scorer to its results apart from the rows of the dataset."""


def each_output(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of `outputs.jsonl`.

    Raises:
        UsageError: the file is missing, or a row is damaged.
    """
    for number, row in read_jsonl(path):
        with damaged(f"{path}:{number}", kind="output"):
            check_record(_OUTPUT_ROW, row)
        yield row


def each_score(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield file and line, and the row, of `scores.jsonl`.

    Raises:
        UsageError: the file is missing, or a row is damaged.
    """
    for number, row in read_jsonl(path):
        with damaged(f"{path}:{number}", kind="score"):
            check_record(_SCORE_ROW, row)
        yield f"{path}:{number}", row


def output_rows(
    examples: Sequence[Example],
    runs: Mapping[int | None, Run],
    *,
    cohort_tags: Mapping[str, Mapping[str, str]],
    cluster: str | None,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `outputs.jsonl`; the arguments are those of `write_evaluation`."""
    for seed, run in runs.items():
        for example, output in zip(examples, run.outputs, strict=True):
            yield {
                "id": example.id,
                **_named(seed),
                "input": example.input,
                **({"messages": [dict(turn) for turn in example.asked]} if example.asked else {}),
                "reference": list(example.references),
                "output": output.text,
                "finish": output.finish,
                "tokens": output.tokens,
                "cohorts": dict(cohort_tags[example.id]),
                "cluster": example.tags.get(cluster) if cluster else None,
                "critical": example.critical,
            }


def score_rows(
    examples: Sequence[Example | Sample], runs: Mapping[int | None, Run]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `scores.jsonl`; the arguments are those of `write_evaluation`."""
    for seed, run in runs.items():
        for name, column in run.scores.items():
            for example, score in zip(examples, column, strict=True):
                yield _score_row(example.id, seed, name, score)


def probe_rows(probed: Mapping[int | None, Probed]) -> Iterator[dict[str, Any]]:
    """Yield the rows of `probes.jsonl`, by seed, scorer and item."""
    for seed, columns in probed.items():
        for name, column in columns.items():
            for item, score in column.scores.items():
                yield _score_row(item, seed, name, score)


def _score_row(name: str, seed: int | None, scorer: str, score: Score) -> dict[str, Any]:
    return {
        "id": name,
        **_named(seed),
        "scorer": scorer,
        "score": score.value,
        "reason": score.reason,
        "evidence": [dict(item) for item in score.evidence],
    }


def _named(seed: int | None) -> dict[str, int]:
    return {} if seed is None else {"seed": seed}


def summarise(columns: Sequence[Sequence[Score]]) -> dict[str, Any]:
    """Return count, mean and missing count of one scorer's scores; the mean is None without scores.

    Args:
        columns: the scores of each seed; with several seeds, `seed_means` are their means.
    """
    found = _summary([score.value for column in columns for score in column])
    if len(columns) > 1:
        means = [_summary([score.value for score in column])["mean"] for column in columns]
        found["seed_means"] = means
    return found


def _summary(column: Sequence[float | None]) -> dict[str, Any]:
    present = [value for value in column if value is not None]
    return {
        "n": len(present),
        "missing": len(column) - len(present),
        "mean": sum(present) / len(present) if present else None,
    }


def together(by_seed: Mapping[int | None, str]) -> str:
    """Return one text for the outputs by seed; the output itself if all are the same."""
    texts = list(dict.fromkeys(by_seed.values()))
    if len(texts) == 1:
        return texts[0]
    return "\n".join(f"[seed {seed}] {text}" for seed, text in by_seed.items())


def refuse_changed(folder: Path, files: Mapping[str, str], *, told_by: str) -> None:
    """Check the files of an evaluation against their digests, name to hex SHA-256.

    Raises:
        UsageError: one cannot be read, or has changed since it was written.
    """
    for name, expected in files.items():
        path = folder / name
        try:
            found = file_digest(path)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
        if found != expected:
            raise UsageError(
                f"{path}: the file has changed since it was written (sha256 differs from that in "
                f"{told_by}); restore it from a copy, or evaluate again"
            )


def read_scores(
    path: Path,
    *,
    scorers: Mapping[str, int],
    ids: Collection[str] | None,
    seeds: Sequence[int] | None,
) -> Scores:
    """Read the scores of an evaluation, and check that none is missing or duplicated.

    Args:
        path: `scores.jsonl` or `probes.jsonl`.
        scorers: those of the evaluation's header, to their number of examples.
        ids: its examples; None if each scorer has its own.
        seeds: those of its replicas; None for a single checkpoint.

    Raises:
        UsageError: a row is damaged or does not belong there, or rows are missing.
    """
    expected: Sequence[int | None] = [None] if seeds is None else seeds
    cells: dict[str, dict[str, dict[int | None, float | None]]] = {name: {} for name in scorers}
    for place, row in each_score(path):
        with damaged(place, kind="score"):
            scorer, name, value, seed = row["scorer"], row["id"], row["score"], row.get("seed")
            known = ids is None or name in ids
            if scorer not in cells or not known or seed not in expected:
                raise ValueError("it matches no example, scorer or seed of the evaluation")
            cell = cells[scorer].setdefault(name, {})
            if seed in cell:
                raise ValueError(f"{scorer} scores {shown(name)} again")
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"a score is a number in [0, 1] or null, found {shown(value)}")
            cell[seed] = None if value is None else float(value)
    for scorer, column in cells.items():
        found = sum(map(len, column.values()))
        if found != scorers[scorer] * len(expected):
            of_seeds = "" if seeds is None else f" and {len(seeds)} seeds"
            raise UsageError(
                f"{path}: {scorer} has {found} scores for {scorers[scorer]} examples{of_seeds}; "
                "the file is incomplete"
            )
    return {
        scorer: {
            name: cell[None] if seeds is None else [cell[seed] for seed in expected]
            for name, cell in column.items()
        }
        for scorer, column in cells.items()
    }
