"""Compare a scorer with human labels of the rows of a JSONL file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ftreg.config.sections import ScorerConfig
from ftreg.errors import UndecidedError, UsageError, did_you_mean, shown
from ftreg.files.store import check_writable, write_text
from ftreg.gate.agreement import Agreement, measure_agreement
from ftreg.gate.trust import Criterion, Trust, TrustBars, exit_code_of, hold_to, trust
from ftreg.jobs.score import (
    JudgeTokens,
    judge_tokens,
    read_samples,
    read_scorer,
    refuse_custom_code,
)
from ftreg.jobs.score_rounds import make_scorer
from ftreg.records.printed import Printed, printed
from ftreg.records.samples import Sample, Score
from ftreg.report.reliability import draw_reliability
from ftreg.scoring.token_overlap import plain_overlap

_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
_FEWEST = 2
_MOST_REASONS = 5


@printed
class AgreementWithLabels(Printed):
    """What `ftreg agree --json` prints."""

    file: Path
    """Path of the labelled rows."""
    label: str
    """The key of a row that holds its label."""
    cluster: str | None
    """The key of a row that says which rows are not independent; null without --cluster."""
    name: str
    """The scorer's name."""
    scorer: Mapping[str, Any]
    """What identifies it: version, options, backend."""
    good_from: float
    """A row with at least this label is good."""
    rows: int
    """Rows of the file."""
    unlabelled: int
    """Those of them without a label, which are left out."""
    missing: int
    """Labelled rows without a score."""
    reasons: Mapping[str, int]
    """Why: the five most frequent reasons, and how many rows each."""
    overlap_with: str | None
    """The part of an example that the overlap of words is with; null where rows lack it."""
    agreement: Agreement
    """Over the rows with a label and a score."""
    criteria: tuple[Criterion, ...]
    """What a scorer has to clear to be trusted."""
    trust: Trust
    """`trusted`, `not trusted`, or `undecided` where there are too few rows to tell."""
    exit_code: int
    """What the command ends with: 0 where it is trusted, else 3."""
    judge_tokens: JudgeTokens
    """0 where the scorer has no judge."""


@dataclass(frozen=True, slots=True)
class _Labelled:
    """The labelled rows, and the number of other rows."""

    samples: Sequence[Sample]
    labels: Sequence[float]
    clusters: Sequence[str] | None
    unlabelled: int


def agree(
    path: Path,
    *,
    label: str,
    scorer: str,
    backend: str | None = None,
    options: Mapping[str, Any] | None = None,
    cluster: str | None = None,
    good_from: float = 0.5,
    bars: TrustBars | None = None,
    plot: Path | None = None,
) -> AgreementWithLabels:
    """Score the labelled rows of a file, and measure how well the scores agree with the labels.

    Args:
        path: JSONL in the format of `ftreg score`.
        label: the key of a row's label: a number from 0 to 1, true or false, yes or no.
        scorer: a name, or a YAML mapping as in `eval.scorers`.
        backend: the scorer's backend, unless it names one itself.
        options: options of the scorer and the backend, in addition to those of the mapping.
        cluster: the key whose equal values mark rows that are not independent.
        good_from: a row with at least this label is good, in (0, 1].
        bars: the thresholds that must be exceeded.
        plot: the SVG file for the reliability plot.

    Raises:
        UsageError: a broken line, a missing key, an invalid label, only good or only bad rows, an
            unknown scorer or option, forbidden custom code, or `plot` cannot be written.
        UndecidedError: too few good or bad rows have a score.
    """
    if plot is not None:
        _check_plot(plot)
    config = _configured(scorer, options or {}, backend)
    labelled = _read_labelled(path, label, cluster)
    _check_kinds(labelled.labels, good_from, place=f"{path}: by {label!r}")
    made = make_scorer(config, thoughts="strip", place="--scorer", backend=backend)
    scores = made.score(labelled.samples)
    found, overlap_with = _measure(labelled, scores, made, config.name, good_from)
    reasons = Counter(score.reason or "" for score in scores if score.value is None)
    criteria = hold_to(bars or TrustBars(), found, missing=reasons.total())
    if plot is not None:
        write_text(plot, draw_reliability(found, title=f"{config.name} held against {label}"))
    return AgreementWithLabels(
        file=path,
        label=label,
        cluster=cluster,
        name=config.name,
        scorer=made.describe(),
        good_from=good_from,
        rows=len(labelled.samples) + labelled.unlabelled,
        unlabelled=labelled.unlabelled,
        missing=reasons.total(),
        reasons=dict(reasons.most_common(_MOST_REASONS)),
        overlap_with=overlap_with,
        agreement=found,
        criteria=criteria,
        trust=trust(criteria),
        exit_code=int(exit_code_of(trust(criteria))),
        judge_tokens=judge_tokens(item for score in scores for item in score.evidence),
    )


def _configured(scorer: str, options: Mapping[str, Any], backend: str | None) -> ScorerConfig:
    config = read_scorer(scorer)
    refuse_custom_code(config, backend)
    return config.model_copy(update={"options": {**config.options, **options}})


def _check_plot(path: Path) -> None:
    if path.suffix.lower() != ".svg":
        raise UsageError(f"--plot {path}: name a file that ends in .svg")
    check_writable(path)


def _check_kinds(labels: Sequence[float], good_from: float, *, place: str) -> None:
    good = [value >= good_from for value in labels]
    if all(good) or not any(good):
        raise UsageError(
            f"{place} all {len(good)} rows are {'good' if good[0] else 'bad'} (a row is good from "
            f"{good_from:g}): checking a scorer requires both good and bad rows"
        )


def _read_labelled(path: Path, label: str, cluster: str | None) -> _Labelled:
    rows = read_samples(path)
    for key in (label, cluster):
        if key is not None and not any(key in row for _, row, _ in rows):
            known = list(dict.fromkeys(key for _, row, _ in rows for key in row))
            raise UsageError(
                f"{path}: no row has the key {key!r}{did_you_mean(key, known)} "
                f"(keys: {', '.join(known)})"
            )
    samples, labels, clusters = [], [], []
    for number, row, sample in rows:
        value = _label(row.get(label), place=f"{path}:{number}: {label}")
        if value is None:
            continue
        samples.append(sample)
        labels.append(value)
        if cluster is not None:
            if row.get(cluster) is None:
                raise UsageError(f"{path}:{number}: {cluster!r}, the cluster, is missing")
            clusters.append(repr(row[cluster]))
    if not labels:
        raise UsageError(f"{path}: no row has a label; {label!r} is null in all of them")
    return _Labelled(samples, labels, clusters if cluster else None, len(rows) - len(labels))


def _label(value: Any, *, place: str) -> float | None:
    if value is None:
        return None
    found = _WORDS.get(value.strip().casefold()) if isinstance(value, str) else value
    if not isinstance(found, int | float) or not 0 <= found <= 1:
        raise UsageError(
            f"{place}: {shown(value)} is not a label; a label is a number from 0 to 1, true or "
            "false, yes or no"
        )
    return float(found)


def _measure(
    labelled: _Labelled, scores: Sequence[Score], scorer: Any, name: str, good_from: float
) -> tuple[Agreement, str | None]:
    """Return the agreement over the scored rows, and the field for the word overlap."""
    kept = [place for place, score in enumerate(scores) if score.value is not None]
    values = np.array([scores[place].value for place in kept], dtype=np.float64)
    labels = np.array([labelled.labels[place] for place in kept])
    for kind, there in (("good", labels >= good_from), ("bad", labels < good_from)):
        if (count := int(there.sum())) < _FEWEST:
            why = next((f": {score.reason}" for score in scores if score.value is None), "")
            raise UndecidedError(
                f"{name}: {count} {kind} row{'' if count == 1 else 's'} with a score, but at "
                f"least {_FEWEST} are needed; {len(scores) - len(kept)} of {len(scores)} labelled "
                f"rows have no score{why}"
            )
    clusters = None
    if labelled.clusters is not None:
        numbers = {key: number for number, key in enumerate(dict.fromkeys(labelled.clusters))}
        clusters = np.array([numbers[labelled.clusters[place]] for place in kept])
    overlap = plain_overlap(
        [labelled.samples[place] for place in kept],
        scorer=name,
        source=getattr(scorer, "source", None),
    )
    found = measure_agreement(
        values,
        labels,
        good_from=good_from,
        clusters=clusters,
        overlap=None if overlap is None else np.array(overlap[1]),
    )
    return found, overlap[0] if overlap else None
