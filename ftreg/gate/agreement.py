"""How far scores agree with people: AUROC, Spearman, kappa and reliability, with intervals.

All are over the rows that have both. Intervals are two-sided; the resampled units are rows, or
clusters of rows that are not independent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from ftreg.gate.aligned import Positions
from ftreg.gate.interval import Interval
from ftreg.gate.units import Floats

CONFIDENCE = 0.95
"""Of every interval here."""
RESAMPLES = 2000
"""Of every bootstrap here."""
BINS = 10
"""Of the reliability, of equal width over [0, 1]."""

_LEVELS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
_Z = NormalDist().inv_cdf(_LEVELS[1])
_HALVINGS = 50
_FOLDS = 10
_SPLITS = 5
"""Divisions into folds: what one of them says depends on chance."""
# Weights held at once, so that memory does not grow with rows times resamples.
_CHUNK = 1 << 17
_RECORD = ConfigDict(use_attribute_docstrings=True)

Truths = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A figure and its confidence interval."""

    __pydantic_config__ = _RECORD

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Kappa:
    """Cohen's kappa of "the score is at least the threshold" with "the row is good"."""

    __pydantic_config__ = _RECORD

    threshold: float
    """The score that separates all rows best."""
    value: float
    """Out of fold: each row is judged by a threshold chosen without it. In [-1, 1]."""
    interval: Interval
    """Includes the choice of the threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """The rows whose scores are in one range, and how good people say they are."""

    __pydantic_config__ = _RECORD

    low: float
    """Lower end of the range."""
    high: float
    """Upper end, which belongs to the next range, except 1."""
    rows: int
    score: float
    """Their mean score."""
    label: float
    """Their mean label; for labels of 0 and 1, the share of good rows."""
    interval: Interval
    """Wilson's interval of the mean label, over clusters if there are any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far a scorer agrees with people, compared with plain word overlap."""

    __pydantic_config__ = _RECORD

    rows: int
    """Rows with a label and a score."""
    good: int
    """The good ones among them."""
    clusters: int | None
    """Their clusters, if rows are not independent; else null."""
    auroc: Measured
    """The probability that a good row scores higher than a bad one; ties count half."""
    spearman: Measured | None
    """Spearman's rho of scores and labels; null if either are all equal."""
    kappa: Kappa
    overlap: Measured | None
    """AUROC of plain word overlap; null if the rows have no text to compare with."""
    gain: Measured | None
    """AUROC minus that of the overlap, on the same rows."""
    reliability: tuple[ReliabilityBin, ...]
    """The score ranges that have rows."""


def measure_agreement(
    scores: Floats,
    labels: Floats,
    *,
    good_from: float,
    clusters: Positions | None = None,
    overlap: Floats | None = None,
    seed: int = 0,
) -> Agreement:
    """Compare scores with labels.

    Args:
        scores: shape (rows,), each in [0, 1].
        labels: shape (rows,), each in [0, 1].
        good_from: rows with at least this label are good; some must be, and some not.
        clusters: shape (rows,), the cluster's number of each row, or None.
        overlap: shape (rows,), the overlap of words, or None.
        seed: of the resampling.
    """
    good = labels >= good_from
    draws = np.random.default_rng(seed)
    return Agreement(
        rows=len(scores),
        good=int(good.sum()),
        clusters=None if clusters is None else len(set(clusters.tolist())),
        auroc=measure_auroc(scores, good, clusters=clusters, generator=draws),
        spearman=measure_spearman(scores, labels, clusters=clusters, generator=draws),
        kappa=measure_kappa(scores, good, clusters=clusters, generator=draws),
        overlap=None
        if overlap is None
        else measure_auroc(overlap, good, clusters=clusters, generator=draws),
        gain=None
        if overlap is None
        else measure_gain(scores, overlap, good, clusters=clusters, generator=draws),
        reliability=reliability(scores, labels, clusters=clusters),
    )


# -- AUROC -----------------------------------------------------------------------------------


def auroc(scores: Floats, good: Truths) -> float:
    """Return the probability that a good row beats a bad one, ties half; NaN without either.

    Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 143 (1982).
    """
    return float(_aurocs(scores, good, np.ones((1, len(scores))))[0])


def measure_auroc(
    scores: Floats,
    good: Truths,
    *,
    clusters: Positions | None = None,
    generator: np.random.Generator,
) -> Measured:
    """Return the AUROC, with the wider of the bootstrap's interval and Newcombe's.

    A bootstrap cannot draw an error that the sample lacks: it is too optimistic about a perfect
    AUROC. Newcombe inverts the variance that an AUROC would have, Statistics in Medicine 25 (2006),
    method 5 of part 2; it counts units with good rows and units with bad rows.
    """
    value = auroc(scores, good)
    resampled = [_aurocs(scores, good, w) for w in _resamples(len(scores), clusters, generator)]
    low, high = np.nanquantile(np.concatenate(resampled), _LEVELS)
    numbers = _units(len(scores), clusters)
    goods, bads = (len(set(numbers[rows].tolist())) for rows in (good, ~good))
    least, most = newcombe(value, goods, bads)
    return Measured(value=value, interval=Interval(min(float(low), least), max(float(high), most)))


def measure_gain(
    scores: Floats,
    overlap: Floats,
    good: Truths,
    *,
    clusters: Positions | None = None,
    generator: np.random.Generator,
) -> Measured:
    """Return how much larger the AUROC of `scores` is than that of `overlap`, on the same rows."""
    resampled = [
        _aurocs(scores, good, w) - _aurocs(overlap, good, w)
        for w in _resamples(len(scores), clusters, generator)
    ]
    low, high = np.nanquantile(np.concatenate(resampled), _LEVELS)
    value = auroc(scores, good) - auroc(overlap, good)
    return Measured(value=value, interval=Interval(float(low), float(high)))


def newcombe(value: float, goods: int, bads: int) -> Interval:
    """Return Newcombe's interval of an AUROC.

    Args:
        value: the AUROC.
        goods: independent good rows, at least one.
        bads: independent bad rows, at least one.
    """
    middle = (goods + bads) / 2 - 1

    def beyond(truth: float) -> bool:
        spread = 1 + middle * ((1 - truth) / (2 - truth) + truth / (1 + truth))
        return (value - truth) ** 2 > _Z**2 * truth * (1 - truth) * spread / (goods * bads)

    ends = []
    for end in (0.0, 1.0):
        inside, outside = value, end
        for _ in range(_HALVINGS):
            point = (inside + outside) / 2
            inside, outside = (inside, point) if beyond(point) else (point, outside)
        ends.append(inside)
    return Interval(*ends)


def _aurocs(scores: Floats, good: Truths, weights: Floats) -> Floats:
    """The AUROC for each row of weights, shape (resamples,); NaN if a resample lacks a kind."""
    goods, bads = _by_level(scores, weights * good), _by_level(scores, weights * ~good)
    wins = (goods * (bads.cumsum(axis=1) - bads / 2)).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(wins / (goods.sum(axis=1) * bads.sum(axis=1)))


def _by_level(scores: Floats, weights: Floats) -> Floats:
    """Sum weights over equal scores, lowest first: shape (resamples, distinct scores)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)
    return np.asarray(np.add.reduceat(weights[:, order], starts, axis=1))


def _units(rows: int, clusters: Positions | None) -> Positions:
    """The number of each row's unit, from 0."""
    return np.arange(rows) if clusters is None else np.unique(clusters, return_inverse=True)[1]


def _resamples(
    rows: int,
    clusters: Positions | None,
    generator: np.random.Generator,
    *,
    splits: int = 1,
) -> Iterator[Floats]:
    """How often each row is in each resample of the units, in parts of shape (resamples, rows).

    Resamples are shared evenly among the `splits` calls of one measure.
    """
    numbers = _units(rows, clusters)
    resamples = RESAMPLES // splits
    count = int(numbers.max()) + 1
    step = max(1, _CHUNK // rows)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=size)
        yield drawn[:, numbers].astype(np.float64)


# -- Spearman --------------------------------------------------------------------------------


def spearman(scores: Floats, labels: Floats) -> float:
    """Return Spearman's rho, ties at their mean rank; NaN if either are all equal."""
    return float(_rhos(scores, labels, np.ones((1, len(scores))))[0])


def measure_spearman(
    scores: Floats,
    labels: Floats,
    *,
    clusters: Positions | None = None,
    generator: np.random.Generator,
) -> Measured | None:
    """Return Spearman's rho with its bootstrap interval; None if either are all equal."""
    value = spearman(scores, labels)
    if np.isnan(value):
        return None
    resampled = [_rhos(scores, labels, w) for w in _resamples(len(scores), clusters, generator)]
    low, high = np.nanquantile(np.concatenate(resampled), _LEVELS)
    return Measured(value=value, interval=Interval(float(low), float(high)))


def _rhos(scores: Floats, labels: Floats, weights: Floats) -> Floats:
    one, other = _ranks(scores, weights), _ranks(labels, weights)
    total = weights.sum(axis=1, keepdims=True)
    one -= (weights * one).sum(axis=1, keepdims=True) / total
    other -= (weights * other).sum(axis=1, keepdims=True) / total
    spread = (weights * one**2).sum(axis=1) * (weights * other**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (weights * one * other).sum(axis=1) / np.sqrt(np.where(spread > 1e-9, spread, 0))
    return np.asarray(np.where(spread > 1e-9, found, np.nan))


def _ranks(values: Floats, weights: Floats) -> Floats:
    """Mean ranks of the values, rows weighted: shape (resamples, rows)."""
    there = _by_level(values, weights)
    middle = there.cumsum(axis=1) - there / 2
    return np.asarray(middle[:, np.unique(values, return_inverse=True)[1]])


# -- kappa -----------------------------------------------------------------------------------


def measure_kappa(
    scores: Floats,
    good: Truths,
    *,
    clusters: Positions | None = None,
    generator: np.random.Generator,
) -> Kappa:
    """Return Cohen's kappa at the best threshold, with the threshold chosen out of fold.

    Units are divided into folds; each fold is judged by the threshold that is best on the others,
    in every resample too. Cohen, Educational and Psychological Measurement 20 (1960). The lower end
    is at most the one that follows from Wilson's interval of the share of correct judgements, since
    no resample of rows that are all judged correctly has an error.
    """
    numbers = _units(len(scores), clusters)
    count = int(numbers.max()) + 1
    whole = np.ones((1, len(scores)))
    tables, resampled = [], []
    for _ in range(_SPLITS):
        folds = generator.permutation(np.arange(count) % min(_FOLDS, count))[numbers]
        tables.append(_out_of_fold(scores, good, whole, folds)[0])
        resampled += [
            _kappas(_out_of_fold(scores, good, weights, folds))
            for weights in _resamples(len(scores), clusters, generator, splits=_SPLITS)
        ]
    value = float(np.mean(_kappas(np.array(tables))))
    low, high = np.quantile(np.concatenate(resampled), _LEVELS)
    right = float(np.mean(tables, axis=0)[[0, 3]].sum() / len(scores))
    # With fixed margins, kappa is linear in the share of correct judgements.
    slope = (1 - value) / (1 - right) if right < 1 else 1 / (2 * good.mean() * (1 - good.mean()))
    guarded = value - slope * (right - wilson(right, count).low)
    return Kappa(
        threshold=float(np.unique(scores)[_best(scores, good, whole)[0]]),
        value=value,
        interval=Interval(max(-1.0, float(min(low, guarded))), max(float(high), value)),
    )


def _out_of_fold(scores: Floats, good: Truths, weights: Floats, folds: Positions) -> Floats:
    """Correct and wrong judgements for each row of weights: shape (resamples, 4), see `_kappas`."""
    tables = np.zeros((len(weights), 4))
    for fold in range(int(folds.max()) + 1):
        inside = weights * (folds == fold)
        best = _best(scores, good, weights - inside)[:, None]
        tables += np.take_along_axis(_tables(scores, good, inside), best[:, :, None], axis=1)[:, 0]
    return tables


def _best(scores: Floats, good: Truths, weights: Floats) -> Positions:
    """Index of the distinct score that is the best threshold, for each row of weights."""
    return np.asarray(_kappas(_tables(scores, good, weights)).argmax(axis=1))


def _tables(scores: Floats, good: Truths, weights: Floats) -> Floats:
    """Judgements at each threshold: good rows above, bad above, good below, bad below."""
    goods, bads = _by_level(scores, weights * good), _by_level(scores, weights * ~good)
    below = [side.cumsum(axis=1) - side for side in (goods, bads)]
    above = [
        side.sum(axis=1, keepdims=True) - under
        for side, under in zip((goods, bads), below, strict=True)
    ]
    return np.stack([*above, *below], axis=-1)


def _kappas(tables: Floats) -> Floats:
    """Cohen's kappa of tables of shape (..., 4); 0 if chance alone would always be right."""
    hits, false, missed, right = np.moveaxis(tables, -1, 0)
    total = tables.sum(axis=-1)
    expected = (hits + false) * (hits + missed) + (missed + right) * (false + right)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (total * (hits + right) - expected) / (total**2 - expected)
    return np.asarray(np.where(total**2 - expected > 1e-9, found, 0.0))


# -- reliability -----------------------------------------------------------------------------


def reliability(
    scores: Floats, labels: Floats, *, clusters: Positions | None = None
) -> tuple[ReliabilityBin, ...]:
    """Return the mean label of the rows in each score range that has any."""
    # A score on a bin's edge belongs above it, regardless of rounding.
    bins = np.minimum(np.floor(scores * BINS + 1e-9).astype(int), BINS - 1)
    found = []
    for number in sorted(set(bins.tolist())):
        rows = bins == number
        units = int(rows.sum()) if clusters is None else len(set(clusters[rows].tolist()))
        mean = float(labels[rows].mean())
        found.append(
            ReliabilityBin(
                low=number / BINS,
                high=(number + 1) / BINS,
                rows=int(rows.sum()),
                score=float(scores[rows].mean()),
                label=mean,
                interval=wilson(mean, units),
            )
        )
    return tuple(found)


def wilson(share: float, count: int) -> Interval:
    """Return Wilson's interval of a share, JASA 22 (1927); for a mean in [0, 1] it is a bit wide.

    Args:
        share: the share, or the mean.
        count: number of independent values behind it, at least one.
    """
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count)
    half *= np.sqrt(share * (1 - share) / count + (_Z / (2 * count)) ** 2)
    return Interval(max(0.0, float(middle - half)), min(1.0, float(middle + half)))
