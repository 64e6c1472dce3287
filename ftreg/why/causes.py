"""The possible causes of a delta, their predictions for hybrids, and their probabilities."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftreg.why.effects import HybridRun, MeasuredRuns

Floats = NDArray[np.float64]
Hybrids = NDArray[np.int64]

# A cause rarely explains the complete delta: this share is left to all other factors.
_TOLERANCE = 0.15
# The prior probability of each kind of cause, for all causes of the kind together.
_PRIORS = {
    **{"one": 0.5, "most": 0.15, "both": 0.15, "sum": 0.07, "either": 0.05, "all": 0.05},
    **{"group": 0.1, "unlike": 0.03},
}
_MOST = 0.7
_MOST_HYBRIDS = 1024


class BisectQuestion(NamedTuple):
    """The question: the factors in which the two ends differ, and how runs are interpreted.

    `factors` is their number, at least 1. `groups` are three or more of them that may add up to one
    cause, such as the blocks of training rows. `resolution` is the smallest standard deviation
    between seeds that is assumed.
    """

    factors: int
    groups: tuple[tuple[int, ...], ...] = ()
    resolution: float = 1e-9

    @property
    def every(self) -> int:
        """The bits of all factors: the bad end."""
        return (1 << self.factors) - 1


class Cause(NamedTuple):
    """A possible cause: its factors, how they act, and which factors may add the rest."""

    factors: tuple[int, ...]
    kind: str
    rest: tuple[int, ...] = ()

    @property
    def bits(self) -> int:
        """A bit for each of its factors."""
        return sum(1 << factor for factor in self.factors)


def probabilities_of_factors(question: BisectQuestion, runs: Sequence[HybridRun]) -> list[float]:
    """Return, for each factor, the probability that the cause includes it, in [0, 1]."""
    causes = possible_causes(question)
    chances = probabilities_of_causes(question, MeasuredRuns(runs, resolution=question.resolution))
    return [
        float(sum(p for cause, p in zip(causes, chances, strict=True) if factor in cause.factors))
        for factor in range(question.factors)
    ]


@lru_cache(maxsize=4)
def possible_causes(question: BisectQuestion) -> tuple[Cause, ...]:
    """Return all possible causes; the last one stands for any other cause."""
    every = range(question.factors)
    pairs = list(combinations(every, 2))
    found = [Cause((factor,), "one") for factor in every]
    found += [Cause((one,), "most", (other,)) for one in every for other in every if other != one]
    found += [Cause(pair, kind) for kind in ("both", "either", "sum") for pair in pairs]
    found += [Cause(group, "group") for group in question.groups if len(group) > 2]
    if question.factors > 2:
        others = [tuple(set(every) - {factor}) for factor in every]
        found += [Cause((factor,), "most", others[factor]) for factor in every]
        found += [Cause((), "all", tuple(every))]
    return (*found, Cause((), "unlike"))


@lru_cache(maxsize=4)
def _priors(question: BisectQuestion) -> Floats:
    kinds = [cause.kind for cause in possible_causes(question)]
    weights = np.array([_PRIORS[kind] / kinds.count(kind) for kind in kinds])
    return np.asarray(weights / weights.sum())


def _places(causes: Sequence[Cause], hybrids: Hybrids) -> Floats:
    """Return where each cause predicts each hybrid: 0 at the good end, 1 at the bad one.

    Returns:
        Shape (causes, hybrids); NaN for the cause that is none of the others.
    """
    bits = (hybrids >> np.arange(64)[:, None] & 1).astype(np.float64)

    def place(cause: Cause) -> Floats:
        mine, rest = bits[list(cause.factors)], bits[list(cause.rest)]
        if cause.kind == "most":
            return np.asarray(_MOST * mine[0] + (1 - _MOST) * rest.mean(axis=0))
        if cause.kind == "unlike":
            return np.full(len(hybrids), np.nan)
        if cause.kind == "all":
            return np.asarray(rest.mean(axis=0))
        if cause.kind == "either":
            return np.asarray(mine.max(axis=0))
        return np.asarray(mine.mean(axis=0) if cause.kind in ("sum", "group") else mine.min(axis=0))

    return np.stack([place(cause) for cause in causes])


def probabilities_of_causes(question: BisectQuestion, measured: MeasuredRuns) -> Floats:
    """Return the posterior probability of each cause, by Bayes' rule; shape (causes,)."""
    from scipy import stats

    every = question.every
    hybrids = np.array([bad for bad in measured.means if bad not in (0, every)], dtype=np.int64)
    logs = np.log(_priors(question))
    if len(hybrids):
        good, bad = measured.means[0], measured.means[every]
        delta = bad - good
        counts = np.array([measured.counts[int(one)] for one in hybrids])
        seen = (np.array([measured.means[int(one)] for one in hybrids]) - good) / delta
        places = _places(possible_causes(question), hybrids)
        expected = np.nan_to_num(places)
        ends = (1 - expected) ** 2 / measured.counts[0] + expected**2 / measured.counts[every]
        noise = (measured.noise.deviation / delta) ** 2 * (1 / counts + ends)
        scale = np.sqrt(noise + _TOLERANCE**2)
        density = stats.t.logpdf(seen - expected, measured.noise.freedom, scale=scale)
        unlike = -np.log(2.0)  # anywhere from half a delta below the good end to half above the bad
        logs = logs + np.where(np.isnan(places), unlike, density).sum(axis=1)
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def most_disputed(question: BisectQuestion, chances: Floats, measured: MeasuredRuns) -> int:
    """Return the hybrid on which the causes disagree most; among equals, the least trained one."""
    hybrids, places = _candidates(question)
    known = chances[:-1] / chances[:-1].sum()
    middle = known @ places
    spread = known @ (places - middle) ** 2
    best = np.flatnonzero(spread >= spread.max() - 1e-9)
    return min((int(hybrids[at]) for at in best), key=lambda bad: (measured.count(bad), bad))


@lru_cache(maxsize=4)
def _candidates(question: BisectQuestion) -> tuple[Hybrids, Floats]:
    """Return the hybrids that may be trained, and the prediction of each cause but the last."""
    factors, every = question.factors, question.every
    if every + 1 <= _MOST_HYBRIDS:
        hybrids = np.arange(1, every, dtype=np.int64)
    else:
        drawn = np.random.default_rng(factors).integers(1, every, size=_MOST_HYBRIDS)
        alone = 1 << np.arange(factors, dtype=np.int64)
        hybrids = np.unique(np.concatenate([drawn, alone, every & ~alone]))
    return hybrids, _places(possible_causes(question)[:-1], hybrids)
