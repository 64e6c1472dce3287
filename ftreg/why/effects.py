"""Effects estimated from runs of hybrids: means, noise between seeds, shares with intervals.

A run is the mean score of one hybrid trained with one seed. All runs are evaluated on the same
examples, so the balanced mixed model `score = example + hybrid + run + residual` (run and residual
random) tests every contrast of hybrids against the variation of the runs' means, and needs nothing
but the means: Searle, Casella and McCulloch, "Variance Components" (1992), chapter 4. The results
hold for these examples, and for seeds that were not tried.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ftreg.gate.interval import Interval

CONFIDENCE = 0.99
"""Confidence level of a share's interval; high, because it is checked after every run of the
proof."""

Weights = Mapping[int, float]
"""Hybrid to its weight in a contrast of means."""


class HybridRun(NamedTuple):
    """One hybrid, trained with one seed and evaluated.

    `bad` has a bit set for each factor at its bad level; `mean` is in [0, 1].
    """

    bad: int
    seed: int
    mean: float


@dataclass(frozen=True, slots=True)
class Noise:
    """The standard deviation of a hybrid's mean score between seeds.

    It is pooled over hybrids with two runs or more, and has `freedom` degrees of freedom.
    """

    deviation: float
    freedom: int


class Share(NamedTuple):
    """A share of the delta between the two ends; the interval is None if it is unbounded."""

    value: float
    interval: Interval | None


class MeasuredRuns:
    """The runs so far, by hybrid.

    Args:
        runs: at least one hybrid has two or more.
        resolution: the smallest deviation that is assumed; seeds that agree to the last digit are
            too few, not free of noise.
    """

    def __init__(self, runs: Sequence[HybridRun], *, resolution: float) -> None:
        groups: dict[int, list[float]] = {}
        for run in runs:
            groups.setdefault(run.bad, []).append(run.mean)
        self.means = {bad: math.fsum(group) / len(group) for bad, group in groups.items()}
        self.counts = {bad: len(group) for bad, group in groups.items()}
        squares = math.fsum((run.mean - self.means[run.bad]) ** 2 for run in runs)
        freedom = len(runs) - len(groups)
        self.noise = Noise(max(math.sqrt(squares / freedom), resolution), freedom)

    def count(self, bad: int) -> int:
        """Return the number of runs of a hybrid."""
        return self.counts.get(bad, 0)

    def contrast(self, weights: Weights) -> float:
        """Return a weighted sum of means."""
        return math.fsum(weight * self.means[bad] for bad, weight in weights.items())

    def error(self, weights: Weights) -> float:
        """Return the standard error of a weighted sum of means."""
        return math.sqrt(self._covariance(weights, weights))

    def interval(self, weights: Weights, *, confidence: float) -> Interval:
        """Return Student's two-sided interval of a weighted sum of means."""
        reach = self._quantile(confidence) * self.error(weights)
        middle = self.contrast(weights)
        return Interval(middle - reach, middle + reach)

    def share(self, part: Weights, whole: Weights, *, confidence: float) -> Share:
        """Return the ratio of two weighted sums of means, with its exact interval.

        Fieller, "Some problems in interval estimation", JRSS B 16 (1954): the ratios r for which
        `part - r * whole` does not differ from 0. They are unbounded if `whole` may be 0.
        """
        over, under = self.contrast(part), self.contrast(whole)
        squared = self._quantile(confidence) ** 2
        lead = under**2 - squared * self._covariance(whole, whole)
        middle = over * under - squared * self._covariance(part, whole)
        last = over**2 - squared * self._covariance(part, part)
        if lead <= 0:
            return Share(over / under if under else math.nan, None)
        reach = math.sqrt(max(0.0, middle**2 - lead * last))
        return Share(over / under, Interval((middle - reach) / lead, (middle + reach) / lead))

    def _covariance(self, first: Weights, second: Weights) -> float:
        shared = (first[bad] * second[bad] / self.counts[bad] for bad in first if bad in second)
        return self.noise.deviation**2 * math.fsum(shared)

    def _quantile(self, confidence: float) -> float:
        from ftreg.gate.stats import t_quantile

        return t_quantile((1 - confidence) / 2, self.noise.freedom)


def delta_of(factors: int) -> Weights:
    """Return the contrast between the two ends: all factors bad, minus none bad."""
    return {(1 << factors) - 1: 1.0, 0: -1.0}


def part_of(suspects: int, factors: int) -> Weights:
    """Return the contrast of some factors: their effect on the good recipe and on the bad one.

    It is the mean of the delta from adding them when all else is good and the delta from removing
    them when all else is bad. With two parts, this is their Shapley value.
    """
    every = (1 << factors) - 1
    found: dict[int, float] = {}
    for bad, weight in ((suspects, 0.5), (0, -0.5), (every, 0.5), (every & ~suspects, -0.5)):
        found[bad] = found.get(bad, 0.0) + weight
    return {bad: weight for bad, weight in found.items() if weight}
