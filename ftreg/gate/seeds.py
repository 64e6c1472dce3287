"""What training seeds add to the error of a mean delta: the second level beside the examples.

With several seeds a side, the mean delta speaks of the recipe and no longer of one lucky or
unlucky run of it: the seeds of a side are a sample of the seeds that it might have had. Seeds of
the two sides have nothing to do with each other; examples are the same on both.

Two to five seeds are too few for a bootstrap: it cannot draw a seed that is worse than the worst
one seen. So each side's seeds get Student's t with seeds - 1 degrees of freedom, and the levels
are added up as squared half-widths. Banerjee, "Approximate confidence interval for linear functions
of means of k populations when the population variances are not equal", Sankhya 22 (1960): since
the chi-squared distribution function of one degree of freedom is concave, such an interval errs no
more often than it says, whatever the true variances are. (Satterthwaite's degrees of freedom are
shorter and err up to twice as often as they say, where two seeds happen to agree.) A two-level
bootstrap stands beside it, and the wider end counts.

That seeds matter as much as data do: Bouthillier et al., "Accounting for variance in machine
learning benchmarks", MLSys 2021 (arXiv 2103.03098).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ftreg.gate.bootstrap import resampled_means
from ftreg.gate.interval import RESAMPLED_UP_TO, Interval
from ftreg.gate.units import Floats, Units

_NORMAL = NormalDist()
# Halvings that find a p value to more digits than anybody reads.
_HALVINGS = 60
_SMALLEST_P = 1e-15


@dataclass(frozen=True, slots=True)
class SideNoise:
    """One side's seeds.

    `means` has shape (seeds,), at least two: the mean score of each. `interaction` is the variance
    of the side's mean that comes from examples which score otherwise from seed to seed; it is part
    of `variance`, and of the error over examples too.
    """

    means: Floats
    interaction: float

    @property
    def deviation(self) -> float:
        """Standard deviation of the mean score from seed to seed."""
        return float(self.means.std(ddof=1))

    @property
    def variance(self) -> float:
        """Variance of the side's mean score over its seeds."""
        return self.deviation**2 / len(self.means)


@dataclass(frozen=True, slots=True)
class SeedNoise:
    """The seeds of both sides beside the examples; a side with one seed has no noise to show.

    `example_error` is the standard error of the mean delta over the examples, as if there were no
    other seeds than these.
    """

    baseline: SideNoise | None
    candidate: SideNoise | None
    example_error: float

    @property
    def sides(self) -> list[SideNoise]:
        """The sides that have several seeds."""
        return [side for side in (self.baseline, self.candidate) if side is not None]

    @property
    def seed_error(self) -> float:
        """Standard error of the mean delta over the seeds, as if there were no other examples."""
        return math.sqrt(sum(side.variance for side in self.sides))

    @property
    def example_share(self) -> float:
        """The part of the squared `example_error` that the seeds' variance does not have too.

        Both levels hold what an example does otherwise from seed to seed, and without this it
        would count twice, as it does in a bootstrap that draws rows and columns: Owen, "The
        pigeonhole bootstrap", Annals of Applied Statistics 1 (2007).
        """
        shared = sum(side.interaction for side in self.sides)
        squared = self.example_error**2
        return max(0.0, 1 - shared / squared) if squared else 1.0

    @property
    def standard_error(self) -> float:
        """Standard error of the mean delta over both levels."""
        both = self.example_share * self.example_error**2 + self.seed_error**2
        return max(math.sqrt(both), self.example_error)

    def reach(self, offset: float, *, level: float) -> float:
        """Return how far the end of an interval lies from the mean delta.

        Args:
            offset: how far the end lies that knows of examples only.
            level: error probability of this end, below 0.5.
        """
        from ftreg.gate.stats import t_quantile

        seeds = sum(
            t_quantile(level, len(side.means) - 1) ** 2 * side.variance for side in self.sides
        )
        return max(offset, math.sqrt(self.example_share * offset**2 + seeds))


def seed_noise(
    baseline: Floats, candidate: Floats, units: Units, clusters: NDArray[np.int64] | None
) -> SeedNoise | None:
    """Return what the seeds add to the error of the mean delta; None where there is one a side.

    Two sides with the same scores throughout are the same checkpoints, and their seeds differ from
    nothing: None.

    Args:
        baseline: shape (examples,) or (examples, seeds), without missing scores.
        candidate: the same examples.
        units: the deltas of the means over seeds; at least two.
        clusters: shape (examples,), or None.
    """
    sides = baseline, candidate
    if all(side.ndim == 1 for side in sides) or np.array_equal(*sides):
        return None
    old, new = (_side_noise(side, clusters) if side.ndim > 1 else None for side in sides)
    return SeedNoise(old, new, units.standard_error()) if old or new else None


def _side_noise(scores: Floats, clusters: NDArray[np.int64] | None) -> SideNoise | None:
    seeds = scores.shape[1]
    if seeds < 2:
        return None
    values = _values(scores, clusters)
    units = len(values)
    residuals = values - values.mean(axis=0)
    residuals = residuals - residuals.mean(axis=1, keepdims=True)
    spread = float((residuals**2).sum()) / ((units - 1) * (seeds - 1))
    return SideNoise(scores.mean(axis=0), spread / (units * seeds))


def _values(scores: Floats, clusters: NDArray[np.int64] | None) -> Floats:
    """Return one value a unit and seed whose plain mean is the seed's mean, as `Units.values`."""
    if clusters is None:
        return scores
    _, numbers = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(numbers).astype(np.float64)[:, None]
    sums = np.stack([np.bincount(numbers, weights=column) for column in scores.T], axis=1)
    means = scores.mean(axis=0)
    return np.asarray(means + (sums - means * sizes) / sizes.mean())


def widen(
    interval: Interval,
    units: Units,
    noise: SeedNoise,
    *,
    confidence: float,
    resamples: int,
    generator: np.random.Generator,
) -> Interval:
    """Return an interval over examples and seeds from one over examples.

    Args:
        interval: of the mean delta over examples.
        units: the deltas of the means over seeds.
        noise: of the seeds.
        confidence: of the interval.
        resamples: of the two-level bootstrap.
        generator: source of randomness.
    """
    level = (1 - confidence) / 2
    drawn = two_level_means(units, noise, resamples=resamples, generator=generator)
    low, high = np.quantile(drawn, (level, 1 - level))
    mean = units.mean
    return Interval(
        max(-1.0, min(float(low), mean - noise.reach(mean - interval.low, level=level))),
        min(1.0, max(float(high), mean + noise.reach(interval.high - mean, level=level))),
    )


def two_level_means(
    units: Units, noise: SeedNoise, *, resamples: int, generator: np.random.Generator
) -> Floats:
    """Draw seeds and examples with replacement, and return the mean delta of each resample.

    Each level is stretched to its own unbiased variance: seeds by sqrt(k / (k - 1)), without which
    2 seeds show half of their variance (Rao and Wu, "Resampling inference with complex survey
    data", JASA 83, 1988), and examples by what is theirs alone, since a bootstrap of a two-way
    table counts the rest more than once (Owen 2007; Field and Welsh, "Bootstrapping clustered
    data", JRSS B 69, 2007).

    Returns:
        Shape (resamples,).
    """
    count = units.count
    if count > RESAMPLED_UP_TO:
        examples = generator.normal(0.0, noise.example_error, resamples)
    else:
        stretch = math.sqrt(count / (count - 1))
        examples = stretch * (resampled_means(units, resamples, generator) - units.mean)
    drawn = units.mean + math.sqrt(noise.example_share) * examples
    for sign, side in ((-1, noise.baseline), (1, noise.candidate)):
        if side is None:
            continue
        seeds = len(side.means)
        picked = generator.integers(0, seeds, (resamples, seeds))
        shifts = side.means[picked].mean(axis=1) - side.means.mean()
        drawn += sign * math.sqrt(seeds / (seeds - 1)) * shifts
    return np.asarray(drawn)


def seeds_p_value(delta: float, noise: SeedNoise, *, margin: float = 0.0) -> float:
    """Return the p value of a drop of more than `margin`, one-sided, of the interval's t part.

    It is the smallest level at which the interval around `delta` leaves out -margin.
    """
    delta += margin
    if delta >= 0:
        return 1.0
    low, high = math.log(_SMALLEST_P), math.log(0.5)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        level = math.exp(middle)
        if noise.reach(-_NORMAL.inv_cdf(level) * noise.example_error, level=level) < -delta:
            high = middle
        else:
            low = middle
    return math.exp(high)


def examples_needed(
    noise: SeedNoise, *, examples: int, room: float, level: float, power: float
) -> int | None:
    """Return how many examples, with these seeds, would decide; None where no number does.

    Args:
        noise: of the seeds that there are.
        examples: number of examples that it was measured on.
        room: the distance that has to be told from chance.
        level: error probability of the end that decides.
        power: wished-for probability of a decision.
    """
    from ftreg.gate.stats import t_quantile

    extra = _NORMAL.inv_cdf(power)
    squared = noise.example_error**2
    shrinking = (extra - _NORMAL.inv_cdf(level)) ** 2 * noise.example_share * squared
    lasting = 0.0
    for side in noise.sides:
        reach = (t_quantile(level, len(side.means) - 1) + extra) ** 2
        shrinking += reach * side.interaction
        lasting += reach * max(0.0, side.variance - side.interaction)
    left = room**2 - lasting
    return math.ceil(examples * shrinking / left) if left > 0 else None


def margin_left(
    margin: float, sides: Iterable[tuple[int, float | None]], *, level: float, power: float
) -> float | None:
    """Return the part of a margin that the noise of given seeds leaves to that of the examples.

    No number of examples makes the noise of seeds smaller; None where it takes the whole margin.

    Args:
        margin: the allowed mean drop.
        sides: of each, its number of seeds and the deviation of its mean score from seed to seed;
            None where it is not known.
        level: error probability of the end that decides.
        power: wished-for probability of a decision.
    """
    from ftreg.gate.stats import t_quantile

    left = margin**2
    for count, deviation in sides:
        if deviation is not None:
            reach = t_quantile(level, count - 1) + _NORMAL.inv_cdf(power)
            left -= reach**2 * deviation**2 / count
    return math.sqrt(left) if left > 0 else None
