"""A test and a bound of a bounded mean that are valid where the bootstrap is not.

A bootstrap cannot draw what the sample lacks: 149 units without a collapse may come from a
population in which one in 100 collapses. Here a population has two parts. A share q of all units
has the worst possible value, and a sample of n contains none of them with probability
(1 - q) ** n. The others are nowhere below the lowest observed unit, and their mean is tested with
the error that this leaves. The p value is the largest over all q, following Buehler (JASA 52, 1957)
for nuisance parameters:

    p = max over q of (1 - q) ** n * P(mean of the others <= (point + q * worst) / (1 - q))

If nothing varies this is the rule of three; for two-valued data, the test of Clopper and Pearson.

The P of the others is Gaffke's: the lowest value counts twice, and all values get flat Dirichlet
weights. No distribution is known for which its error exceeds its level. Gaffke, "Three test
statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable", Math.
Methods of Statistics 14 (2005); Learned-Miller and Thomas, "A new confidence interval for the mean
of a bounded random variable", arXiv 1905.06208.

Dirichlet weights are exponential variables over their sum, so "the weighted mean is below m" is "a
sum of exponentials times (value - m) is below 0". No draws are needed: the saddlepoint
approximation gives that probability to about 1 %, also in the far tails (Lugannani and Rice, Adv.
Applied Probability 12, 1980; here in the form r* of Barndorff-Nielsen, Biometrika 73, 1986). All
rows are tested at once: a comparison with many cohorts has thousands.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftreg.gate.units import Floats

_NORMAL = NormalDist()
# Newton steps and bisections that are enough for double precision from any start.
_STEPS = 80
# Values held at once, so that memory does not grow with their number.
_CHUNK = 1 << 18
# Beyond this many standard errors probabilities are negligible.
_FAR = 9.0


class Draws(NamedTuple):
    """Samples of values, and the count of each value, of shape (samples, values)."""

    values: Floats
    counts: Floats


@dataclass(frozen=True, slots=True)
class Guard:
    """Tests of whether means are high, each of shape (rows,).

    `peaks` are the means of the others at which the unseen share matters most, and `chances` the
    Dirichlet probabilities below them; 0 if no unseen share matters.
    """

    rows: Sequence[Floats]
    worst: float
    peaks: Floats
    chances: Floats

    @classmethod
    def of(cls, rows: Sequence[Floats], *, worst: float = 1.0) -> "Guard":
        """Prepare the tests of rows of values, each of shape (units,).

        Args:
            rows: at least one unit in each.
            worst: how far below 0 a unit may be, seen or unseen.
        """
        peaks, chances = np.empty(len(rows)), np.empty(len(rows))
        for of, draws in _alike(rows):
            peaks[of], chances[of] = _peaks(draws, worst)
        return cls(rows, worst, peaks, chances)

    def p_values(self, points: Sequence[float]) -> Floats:
        """Return each row's p value of a mean above its point; points are above -worst."""
        found = np.empty(len(self.rows))
        at = np.asarray(points, dtype=np.float64)
        for of, draws in _alike(self.rows):
            found[of] = _p_values(draws, at[of], self.peaks[of], self.chances[of], self.worst)
        return found

    def lower_bounds(self, level: float) -> Floats:
        """Return the points whose p value is `level`, such as 0.05: lower bounds of the means."""
        counts = np.array([len(row) for row in self.rows])
        shares = (level / np.maximum(self.chances, level)) ** (1 / counts)
        found = (self.peaks + self.worst) * shares - self.worst
        plain = np.flatnonzero(self.chances <= level)
        for of, draws in _alike([self.rows[row] for row in plain.tolist()]):
            found[plain[of]] = _quantiles(draws, level)
        return np.asarray(np.maximum(found, -self.worst))


def means_above(draws: Draws, points: Floats, levels: Floats) -> NDArray[np.bool_]:
    """Return for each sample whether the p value of a mean above its point is below its level.

    Most need no search for the unseen share: it is 0 if, at the point, the others' probability
    grows faster than that of the unseen falls.

    Args:
        draws: samples of values in [-1, 1].
        points: shape (samples,).
        levels: shape (samples,).
    """
    there = draws.counts > 0
    lowest = np.where(there, draws.values, np.inf).argmin(axis=1)
    counts = draws.counts.copy()
    counts[np.arange(len(counts)), lowest] += 1
    draws = Draws(np.where(there, draws.values, 0.0), counts)
    least, most = _ends(draws)
    found = np.zeros(len(counts), dtype=bool)
    inside = np.flatnonzero((least < points) & (points < most))
    open_ = np.flatnonzero((points <= least) & (points < most))
    if len(inside):
        start = np.zeros(len(inside))
        z, slopes, _ = _scores(_some(draws, inside), points[inside], start)
        goals = {level: _NORMAL.inv_cdf(level) for level in set(levels.tolist())}
        low = np.flatnonzero(z < np.array([goals[level] for level in levels[inside].tolist()]))
        of = inside[low]
        falls = (counts[of].sum(axis=1) - 1) / (points[of] + 1.0)
        settled = _hazard(z[low]) * slopes[low] <= falls
        found[of[settled]] = True
        open_ = np.sort(np.concatenate([open_, of[~settled]]))
    if len(open_):
        some, at = _some(draws, open_), points[open_]
        found[open_] = _p_values(some, at, *_peaks(some, 1.0), 1.0) < levels[open_]
    return found


def _p_values(draws: Draws, points: Floats, peaks: Floats, chances: Floats, worst: float) -> Floats:
    count = draws.counts.sum(axis=1) - 1
    unseen = np.minimum(1.0, (points + worst) / np.maximum(peaks + worst, 1e-9)) ** count
    found: Floats = unseen * chances
    above = np.flatnonzero((points > peaks) | (chances == 0))
    if len(above):
        found[above] = below(_some(draws, above), points[above])
    return found


def below(draws: Draws, points: Floats) -> Floats:
    """Return the probability that the Dirichlet mean of each sample is below its point.

    Args:
        draws: samples; a value with count 0 is ignored.
        points: shape (samples,).
    """
    least, most = _ends(draws)
    chances: Floats = np.where(points > least, 1.0, 0.0)
    between = np.flatnonzero((least < points) & (points < most))
    if len(between):
        start = np.zeros(len(between))
        chances[between] = _phi(_scores(_some(draws, between), points[between], start)[0])
    return chances


def _ends(draws: Draws) -> tuple[Floats, Floats]:
    there = draws.counts > 0
    least = np.where(there, draws.values, np.inf).min(axis=1)
    return least, np.where(there, draws.values, -np.inf).max(axis=1)


def _some(draws: Draws, which: NDArray[np.int64]) -> Draws:
    return draws if len(which) == len(draws.values) else Draws(*(each[which] for each in draws))


def _phi(z: Floats) -> Floats:
    """Return the normal distribution function."""
    return np.array([0.5 * math.erfc(-each * math.sqrt(0.5)) for each in z.tolist()])


def _scores(draws: Draws, points: Floats, t: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the Dirichlet probabilities below points, as normal quantiles, and their slopes.

    Args:
        draws: samples.
        points: between the ends of each.
        t: saddlepoints to start from (the third value returned for nearby points), or 0.
    """
    shifted = np.where(draws.counts > 0, draws.values - points[:, None], 0.0)
    # The cumulant generating function is -sum(log(1 - t x)) for t in (1 / least, 1 / most).
    low, high = 1 / shifted.min(axis=1), 1 / shifted.max(axis=1)
    t = np.where((low < t) & (t < high), t, 0.0)
    for _ in range(_STEPS):
        ratio = shifted / (1 - t[:, None] * shifted)
        weighed = draws.counts * ratio
        slope, curvature = weighed.sum(axis=1), np.einsum("ij,ij->i", weighed, ratio)
        open_ = np.abs(slope) > 1e-6 * np.sqrt(curvature)
        if not open_.any():
            break
        low, high = np.where(slope < 0, t, low), np.where(slope < 0, high, t)
        step = t - slope / curvature
        inside = (low < step) & (step < high)
        t = np.where(open_, np.where(inside, step, (low + high) / 2), t)
    exponent = np.einsum("ij,ij->i", draws.counts, np.log1p(-t[:, None] * shifted))
    root = np.copysign(np.sqrt(2 * np.maximum(exponent, 0.0)), t)
    spread = np.sqrt(curvature)
    near = np.abs(root) < 1e-4
    apart = np.where(near, 1.0, root)
    # The limits of both formulas at the mean of the distribution.
    skewness = 2 * np.einsum("ij,ij,ij->i", weighed, ratio, ratio) / spread**3
    bend = np.where(near, skewness / 6, np.log(np.where(near, 1.0, t * spread / apart)) / apart)
    total = draws.counts.sum(axis=1)
    return root + bend, total * np.where(near, 1 / spread, t / apart), t


def _hazard(z: Floats) -> Floats:
    """Return the derivative of the logarithm of the normal distribution function."""
    z = np.clip(z, -30.0, 30.0)
    return np.exp(-(z**2) / 2) / (math.sqrt(2 * math.pi) * _phi(z))


def _way(z: Floats, goal: Floats) -> Floats:
    """Return the Newton step to where `_hazard` is `goal`."""
    hazard = _hazard(z)
    return np.asarray(np.log(hazard / goal) / (z + hazard))


def _peaks(draws: Draws, worst: float) -> tuple[Floats, Floats]:
    """Return where the others' probability times (1 - q) ** n is largest, and that probability.

    1 - q falls with the others' mean y as 1 / (y + worst), so at the maximum the logarithm of the
    probability grows as fast as n * log(y + worst).
    """
    least, most = _ends(draws)
    count = draws.counts.sum(axis=1) - 1
    peaks, chances = least.copy(), np.where(least < most, 0.0, 1.0)
    mean, error = _moments(draws)
    rate = count / np.maximum(mean + worst, 1e-9)
    # What was seen at its worst leaves nothing worse unseen.
    open_ = np.flatnonzero((least < most) & (least > -worst) & (error * rate < _FAR))
    some = _some(draws, open_)

    def towards(z: Floats, slope: Floats, at: Floats, which: NDArray[np.int64]) -> Floats:
        return _way(z, count[open_][which] / (at + worst) / slope)

    if len(open_):
        # The normal distribution's own, but for one step.
        far = (error * rate)[open_]
        start = mean[open_] + error[open_] * (_way(-far, far) - far)
        peaks[open_], z = _search(some, start, towards, tolerance=0.03)
        chances[open_] = _phi(z)
    return peaks, chances


def _moments(draws: Draws) -> tuple[Floats, Floats]:
    """Return the means, and the standard errors of the Dirichlet means."""
    total = draws.counts.sum(axis=1)
    mean = np.einsum("ij,ij->i", draws.counts, draws.values) / total
    squares = np.einsum("ij,ij->i", draws.counts, (draws.values - mean[:, None]) ** 2)
    return mean, np.asarray(np.sqrt(squares) / total)


def _quantiles(draws: Draws, level: float) -> Floats:
    """Return each sample's quantile of the Dirichlet mean at `level`."""
    least, most = _ends(draws)
    found = least.copy()
    apart = np.flatnonzero(least < most)
    if len(apart):
        goal, some = _NORMAL.inv_cdf(level), _some(draws, apart)
        mean, error = _moments(some)
        start = mean + goal * error
        found[apart], _ = _search(some, start, lambda z, *_: goal - z, tolerance=1e-6)
    return found


def _search(
    draws: Draws,
    points: Floats,
    towards: Callable[[Floats, Floats, Floats, NDArray[np.int64]], Floats],
    *,
    tolerance: float,
) -> tuple[Floats, Floats]:
    """Return the points of the samples at which no step is left, and their quantiles.

    Args:
        draws: samples with unequal ends.
        points: to start from.
        towards: maps normal quantiles, slopes, points and the samples' positions to the step, on
            the scale of the quantiles.
        tolerance: on that scale.
    """
    low, high = _ends(draws)
    points, left = points.copy(), np.arange(len(points))
    found, saddles = np.zeros(len(points)), np.zeros(len(points))
    last = np.zeros(len(points))
    for _ in range(_STEPS):
        lost = ~((low[left] < points[left]) & (points[left] < high[left]))
        points[left[lost]] = (low[left[lost]] + high[left[lost]]) / 2
        z, slope, saddles[left] = _scores(_some(draws, left), points[left], saddles[left])
        way, found[left] = towards(z, slope, points[left], left), z
        low[left] = np.where(way > 0, points[left], low[left])
        high[left] = np.where(way > 0, high[left], points[left])
        going = (np.abs(way) > tolerance) & (high[left] - low[left] > 1e-9)
        # If steps alternate and hardly shrink, bisections are faster.
        swings = way * last[left] < -0.25 * last[left] ** 2
        last[left] = way
        step = np.where(swings, (low[left] + high[left]) / 2, points[left] + way / slope)
        points[left[going]] = step[going]
        left = left[going]
        if not len(left):
            break
    return points, found


def _alike(rows: Sequence[Floats]) -> Iterator[tuple[NDArray[np.int64], Draws]]:
    """Group rows of similar length: their positions, and their values, the lowest one twice."""
    sizes = np.array([len(values) for values in rows], dtype=np.int64)
    classes = np.array([int(size).bit_length() for size in sizes])
    for each in sorted(set(classes.tolist())):
        of = np.flatnonzero(classes == each)
        for start in range(0, len(of), step := max(1, _CHUNK >> each)):
            some = of[start : start + step]
            there = np.arange(sizes[some].max() + 1) < sizes[some, None]
            values = np.zeros(there.shape)
            values[there] = np.concatenate([rows[row] for row in some])
            values[:, -1] = np.where(there, values, np.inf).min(axis=1)
            there[:, -1] = True
            yield some, Draws(values, there.astype(np.float64))
