"""What training seeds add to the error of a mean delta: the second level beside the examples.

With several seeds a side, the mean delta describes the recipe instead of one lucky or unlucky run:
the seeds of a side are a sample of all its possible seeds. Seeds are independent between the two
sides; examples are paired.

Two to five seeds are too few for a bootstrap, which cannot draw a seed worse than the worst one
seen. So seeds use Student's t. If both sides have k seeds, their variance is pooled: the difference
then has a t distribution with 2k - 2 degrees of freedom if both have the same variance, and a tail
no heavier than that of k - 1 degrees for any variances (Mickey and Brown, "Bounds on the
distribution functions of the Behrens-Fisher statistic", Annals of Mathematical Statistics 37,
1966). The end of an interval has half the allowed error if the variances are equal, and at most the
allowed error if not; a p value makes no such assumption. A side with a single seed is assumed to
vary as the other does. Sides with unequal numbers of seeds have separate variances. The levels are
added as squared half-widths: Banerjee, "Approximate confidence interval for linear functions of
means of k populations when the population variances are not equal", Sankhya 22 (1960): the error of
such an interval never exceeds its level, for any variances. (With Satterthwaite's degrees of
freedom intervals are shorter, with up to twice the nominal error if two seeds happen to agree.)

Seeds matter as much as data: Bouthillier et al., "Accounting for variance in machine learning
benchmarks", MLSys 2021 (arXiv 2103.03098).
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
# Bisections that find a p value to more digits than anybody reads.
_HALVINGS = 60
_SMALLEST_P = 1e-15


@dataclass(frozen=True, slots=True)
class SeedNoise:
    """The noise of both sides' seeds.

    `counts` are the seeds of the baseline and the candidate, at least two on one side, and
    `deviations` the standard deviations of their mean scores between seeds, None for a single seed.
    `example_error` is the standard error of the mean delta over the examples, given these seeds;
    `interaction` is the variance of the mean delta that comes from examples whose scores differ
    between seeds, and is part of both levels.
    """

    counts: tuple[int, int]
    deviations: tuple[float | None, float | None]
    example_error: float
    interaction: float

    @property
    def seed_error(self) -> float:
        """Standard error of the mean delta over the seeds, given these examples."""
        return math.sqrt(sum(part for part, _ in _parts(self.counts, self.deviations)))

    @property
    def example_share(self) -> float:
        """The part of the squared `example_error` that is not also in the seeds' variance.

        Both levels contain the differences of an example between seeds, which would count twice:
        Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007).
        """
        squared = self.example_error**2
        return max(0.0, 1 - self.interaction / squared) if squared else 1.0

    @property
    def standard_error(self) -> float:
        """Standard error of the mean delta over both levels."""
        both = self.example_share * self.example_error**2 + self.seed_error**2
        return max(math.sqrt(both), self.example_error)

    def reach(self, offset: float, seeds: float) -> float:
        """Return the distance of an interval's end from the mean delta.

        Args:
            offset: distance of the end over examples only.
            seeds: distance of the end over seeds only.
        """
        return max(offset, math.hypot(math.sqrt(self.example_share) * offset, seeds))


def _parts(
    counts: tuple[int, int], deviations: tuple[float | None, float | None], *, alike: bool = True
) -> list[tuple[float, int]]:
    """Return the independent parts of the seeds' variance, each with its degrees of freedom.

    Args:
        counts: the seeds of each side; 0 for a side that is known without error.
        deviations: of each side between seeds; None for fewer than two seeds.
        alike: whether to assume equal variances.
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
    """Return what the seeds add to the error of the mean delta; None with one seed a side.

    None also if both sides have identical scores: they are then the same checkpoints.

    Args:
        baseline: shape (examples,) or (examples, seeds), without missing scores; None if the
            candidate is compared with a number.
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
    """Return a unit's standard deviation between seeds, beyond what all units share."""
    if scores is None or seeds_of(scores) < 2:
        return None
    values = _values(scores, clusters)
    residuals = values - values.mean(axis=0)
    residuals = residuals - residuals.mean(axis=1, keepdims=True)
    freedom: int = (len(values) - 1) * (scores.shape[1] - 1)
    return math.sqrt(float((residuals**2).sum()) / freedom)


def _values(scores: Floats, clusters: NDArray[np.int64] | None) -> Floats:
    """Return one value per unit and seed with the seed's mean as plain mean, as `Units.values`."""
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
    """Return the one-sided p value of a drop of more than `margin`, by the interval's t part.

    It is the smallest level at which the upper bound of `delta` excludes -margin.
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
        deviations: of each side's mean score between seeds; None for fewer than two seeds.
        level: error probability of the bound.
        power: desired probability of a decision; 0.5 adds nothing.
        alike: whether the level need only hold for equal variances.
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

    An end errs with probability (1 - confidence) / 2 if both sides have the same variance, and at
    most twice that for any variances: the error allowed for a false pass.

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
