"""What training seeds add to the error of a mean delta: the second level beside the examples.

With several seeds a side, the mean delta speaks of the recipe and no longer of one lucky or
unlucky run of it: the seeds of a side are a sample of the seeds that it might have had. Seeds of
the two sides have nothing to do with each other; examples are the same on both.

Two to five seeds are too few for a bootstrap: it cannot draw a seed that is worse than the worst
one seen. So seeds get Student's t. Where both sides have k, their variance is pooled: the
difference then has t's distribution with 2k - 2 degrees of freedom if they vary alike, and a tail
no heavier than that of k - 1 degrees whatever they vary by (Mickey and Brown, "Bounds on the
distribution functions of the Behrens-Fisher statistic", Annals of Mathematical Statistics 37,
1966). The end of an interval errs half as often as it may if they vary alike, and no more than it
may if they do not; a p value supposes nothing of the kind. A side with a single seed is taken to
vary as the other does. Sides of unequal numbers have a variance each. The levels are added up as
squared half-widths: Banerjee, "Approximate confidence interval for linear functions of means of k
populations when the population variances are not equal", Sankhya 22 (1960): such an interval errs
no more often than it says, whatever the variances of the levels. (Satterthwaite's degrees of
freedom are shorter and err up to twice as often as they say, where two seeds happen to agree.)

That seeds matter as much as data do: Bouthillier et al., "Accounting for variance in machine
learning benchmarks", MLSys 2021 (arXiv 2103.03098).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ftreg.gate.aligned import seeds_of
from ftreg.gate.interval import Interval
from ftreg.gate.units import Floats, Units

_NORMAL = NormalDist()
# Halvings that find a p value to more digits than anybody reads.
_HALVINGS = 60
_SMALLEST_P = 1e-15


@dataclass(frozen=True, slots=True)
class SeedNoise:
    """The seeds of both sides beside the examples.

    `counts` are the seeds of the baseline and the candidate, one of them at least two, and
    `deviations` the standard deviations of their mean scores from seed to seed, None for a single
    seed. `example_error` is the standard error of the mean delta over the examples, as if there
    were no other seeds than these; `interaction` is the variance of the mean delta that comes from
    examples which score otherwise from seed to seed, and is part of both levels.
    """

    counts: tuple[int, int]
    deviations: tuple[float | None, float | None]
    example_error: float
    interaction: float

    @property
    def seed_error(self) -> float:
        """Standard error of the mean delta over the seeds, as if there were no other examples."""
        return math.sqrt(sum(part for part, _ in _parts(self.counts, self.deviations)))

    @property
    def example_share(self) -> float:
        """The part of the squared `example_error` that the seeds' variance does not have too.

        Both levels hold what an example does otherwise from seed to seed, and without this it
        would count twice: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007).
        """
        squared = self.example_error**2
        return max(0.0, 1 - self.interaction / squared) if squared else 1.0

    @property
    def standard_error(self) -> float:
        """Standard error of the mean delta over both levels."""
        both = self.example_share * self.example_error**2 + self.seed_error**2
        return max(math.sqrt(both), self.example_error)

    def reach(self, offset: float, seeds: float) -> float:
        """Return how far the end of an interval lies from the mean delta.

        Args:
            offset: how far the end lies that knows of examples only.
            seeds: how far the one that knows of seeds only.
        """
        return max(offset, math.hypot(math.sqrt(self.example_share) * offset, seeds))


def _parts(
    counts: tuple[int, int], deviations: tuple[float | None, float | None], *, alike: bool = True
) -> list[tuple[float, int]]:
    """Return the independent parts of the seeds' variance, each with its degrees of freedom.

    Args:
        counts: the seeds of each side; 0 for a side that is known without error.
        deviations: of each side from seed to seed; None for fewer than two seeds.
        alike: whether both sides may be taken to vary alike.
    """
    known = [
        (count, deviation**2)
        for count, deviation in zip(counts, deviations, strict=True)
        if deviation is not None
    ]
    if len(known) == 2 and counts[0] != counts[1]:
        return [(squared / count, count - 1) for count, squared in known]
    if not known:
        return []
    pooled = sum(squared for _, squared in known) / len(known)
    freedom = (known[0][0] - 1) * (len(known) if alike else 1)
    return [(pooled * sum(1 / count for count in counts if count), freedom)]


def seed_noise(
    baseline: Floats | None, candidate: Floats, units: Units, clusters: NDArray[np.int64] | None
) -> SeedNoise | None:
    """Return what the seeds add to the error of the mean delta; None where there is one a side.

    Two sides with the same scores throughout are the same checkpoints, and their seeds differ from
    nothing: None.

    Args:
        baseline: shape (examples,) or (examples, seeds), without missing scores; None where the
            candidate is held against a number.
        candidate: the same examples.
        units: the deltas of the means over seeds; at least two.
        clusters: shape (examples,), or None.
    """
    if baseline is not None and np.array_equal(baseline, candidate):
        return None
    counts = 0 if baseline is None else seeds_of(baseline), seeds_of(candidate)
    if max(counts) < 2:
        return None
    spreads = _spread(baseline, clusters), _spread(candidate, clusters)
    return SeedNoise(
        counts=counts,
        deviations=(_deviation(baseline), _deviation(candidate)),
        example_error=units.standard_error(),
        interaction=sum(part for part, _ in _parts(counts, spreads)) / units.count,
    )


def _deviation(side: Floats | None) -> float | None:
    if side is None or seeds_of(side) < 2:
        return None
    return float(side.mean(axis=0).std(ddof=1))


def _spread(scores: Floats | None, clusters: NDArray[np.int64] | None) -> float | None:
    """Return a unit's standard deviation from seed to seed, beyond what all units share."""
    if scores is None or seeds_of(scores) < 2:
        return None
    values = _values(scores, clusters)
    residuals = values - values.mean(axis=0)
    residuals = residuals - residuals.mean(axis=1, keepdims=True)
    freedom: int = (len(values) - 1) * (scores.shape[1] - 1)
    return math.sqrt(float((residuals**2).sum()) / freedom)


def _values(scores: Floats, clusters: NDArray[np.int64] | None) -> Floats:
    """Return one value a unit and seed whose plain mean is the seed's mean, as `Units.values`."""
    if clusters is None:
        return scores
    _, numbers = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(numbers).astype(np.float64)[:, None]
    sums = np.stack([np.bincount(numbers, weights=column) for column in scores.T], axis=1)
    means = scores.mean(axis=0)
    return np.asarray(means + (sums - means * sizes) / sizes.mean())


def widen(interval: Interval, mean: float, noise: SeedNoise, *, confidence: float) -> Interval:
    """Return an interval over examples and seeds from one over examples.

    Args:
        interval: of the mean delta over examples.
        mean: the mean delta.
        noise: of the seeds.
        confidence: of the interval.
    """
    seeds = interval_reach(noise.counts, noise.deviations, confidence=confidence)
    return Interval(
        max(-1.0, mean - noise.reach(mean - interval.low, seeds)),
        min(1.0, mean + noise.reach(interval.high - mean, seeds)),
    )


def seeds_p_value(delta: float, noise: SeedNoise, *, margin: float = 0.0) -> float:
    """Return the p value of a drop of more than `margin`, one-sided, of the interval's t part.

    It is the smallest level at which a bound below which `delta` lies leaves out -margin.
    """
    delta += margin
    if delta >= 0:
        return 1.0
    low, high = math.log(_SMALLEST_P), math.log(0.5)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        level = math.exp(middle)
        seeds = seeds_reach(noise.counts, noise.deviations, level=level)
        if noise.reach(-_NORMAL.inv_cdf(level) * noise.example_error, seeds) < -delta:
            high = middle
        else:
            low = middle
    return math.exp(high)


def seeds_reach(
    counts: tuple[int, int],
    deviations: tuple[float | None, float | None],
    *,
    level: float,
    power: float = 0.5,
    alike: bool = False,
) -> float:
    """Return how far the noise of given seeds alone moves a bound of the mean delta.

    No number of examples makes it smaller.

    Args:
        counts: the seeds of each side; 0 for a side that is known without error.
        deviations: of each side's mean score from seed to seed; None for fewer than two seeds.
        level: error probability of the bound.
        power: wished-for probability of a decision in spite of it; 0.5 adds nothing.
        alike: whether it is enough that the level holds where both sides vary alike.
    """
    from ftreg.gate.stats import t_quantile

    extra = _NORMAL.inv_cdf(power)
    parts = _parts(counts, deviations, alike=alike)
    return math.hypot(*((t_quantile(level, free) + extra) * math.sqrt(v) for v, free in parts))


def interval_reach(
    counts: tuple[int, int],
    deviations: tuple[float | None, float | None],
    *,
    confidence: float,
    power: float = 0.5,
) -> float:
    """Return how far the noise of given seeds alone moves each end of an interval.

    An end errs with probability (1 - confidence) / 2 where both sides vary alike, and at most twice
    as often whatever they vary by: what a false pass may.

    Args:
        counts: see `seeds_reach`.
        deviations: see `seeds_reach`.
        confidence: of the interval.
        power: see `seeds_reach`.
    """
    error = 1 - confidence
    return max(
        seeds_reach(counts, deviations, level=error / 2, power=power, alike=True),
        seeds_reach(counts, deviations, level=error, power=power),
    )
