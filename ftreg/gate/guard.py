"""A bound on a bounded mean that holds where the bootstrap does not: ties, skew, few examples.

A bootstrap cannot draw what the sample lacks: of 50 deltas of which one is -0.3 it thinks too
well. Gaffke's bound adds one pseudo-observation at the worst value possible and weighs all of
them by a flat Dirichlet distribution. For two-valued data it is the exact interval of Clopper and
Pearson, for smooth data it approaches the bootstrap's; no distribution is known for which it
covers less than it says. Gaffke, "Three test statistics for a nonparametric one-sided hypothesis
on the mean of a nonnegative variable", Math. Methods of Statistics 14 (2005); Learned-Miller and
Thomas, "A new confidence interval for the mean of a bounded random variable", arXiv 1905.06208.

Dirichlet weights are exponential variables over their sum, so that "the weighted mean lies below
m" is "a sum of exponentials times (value - m) lies below 0": no draws are needed, the saddlepoint
approximation of Lugannani and Rice (Adv. Applied Probability 12, 1980) gives that probability to
about 1 %, in the far tails as well. All rows of a scorer are bounded at once: a comparison has
thousands of them where there are many cohorts.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ftreg.gate.units import Floats

_NORMAL = NormalDist()
# Newton steps and halvings that are enough for double precision from any start.
_STEPS = 80
# Values held at once, so that memory does not grow with their number.
_CHUNK = 1 << 18


def bounds(rows: Sequence[Floats], *, worst: Sequence[float], level: float) -> list[Floats]:
    """Return a lower and an upper confidence bound for the mean of each row.

    Args:
        rows: values, each of shape (units,) and not all 0.
        worst: of each row, how far from 0 a unit may lie; the pseudo-observations are -worst and
            worst.
        level: error probability of each bound, such as 0.025.

    Returns:
        The lower and the upper bounds, each of shape (rows,).
    """
    limits = -np.asarray(worst, dtype=np.float64)
    return [_lower(rows, limits, level), -_lower([-values for values in rows], limits, level)]


def drop_p_values(
    rows: Sequence[Floats], *, gains: Sequence[float], margins: Sequence[float]
) -> Floats:
    """Return for each row the p value of a mean drop of more than its margin.

    It supposes nothing about the deltas but that none gains more than `gains` says, seen or not; a
    permutation test supposes them symmetric.

    Args:
        rows: values, each of shape (units,).
        gains: of each row, the largest gain that a unit might have which the sample does not hold.
        margins: of each row, the drop that is allowed.

    Returns:
        Shape (rows,).
    """
    found = np.empty(len(rows))
    pseudo, points = -np.asarray(gains, dtype=np.float64), np.asarray(margins, dtype=np.float64)
    for of, values, there in _alike([-values for values in rows], pseudo):
        found[of] = below(np.where(there, values - points[of, None], 0.0))
    return found


def unseen_bound(count: int, *, worst: float, error: float) -> float:
    """Return the lower bound of the mean when none of `count` units changed.

    If a share q of all examples would drop, none of `count` shows it with probability
    (1 - q) ** count, the rule of three: the bound is -worst times the largest such q.

    Args:
        count: number of units, all of them unchanged.
        worst: how far a unit may drop, in [0, 1].
        error: error probability. Nothing was seen on either side, so all of it goes to one end.
    """
    return worst * math.expm1(math.log(error) / count)


def below(shifted: Floats, counts: Floats | None = None) -> Floats:
    """Return the probability that the Dirichlet mean of each row of values is below 0.

    Args:
        shifted: shape (rows, values); a 0 counts for nothing, and fills up a shorter row.
        counts: how often each value is there, of the same shape; None is once.

    Returns:
        Shape (rows,).
    """
    if counts is not None:
        shifted = np.where(counts > 0, shifted, 0.0)
    least, most = shifted.min(axis=1), shifted.max(axis=1)
    chances: Floats = np.where(least >= 0, 0.0, 1.0)
    between = np.flatnonzero((least < 0) & (most > 0))
    if len(between) < len(shifted):
        shifted, least, most = shifted[between], least[between], most[between]
        counts = None if counts is None else counts[between]
    if len(between):
        chances[between] = _saddlepoint(shifted, counts, 1 / least, 1 / most)
    return chances


def _saddlepoint(shifted: Floats, counts: Floats | None, low: Floats, high: Floats) -> Floats:
    """Lugannani and Rice; `low` and `high` enclose the saddlepoint."""

    def summed(values: Floats) -> Floats:
        return np.asarray((values if counts is None else counts * values).sum(axis=1))

    # The cumulant generating function is -sum(log(1 - t x)) for t in (1 / least, 1 / most).
    t = np.zeros(len(shifted))
    for _ in range(_STEPS):
        ratio = shifted / (1 - t[:, None] * shifted)
        slope, curvature = summed(ratio), summed(ratio * ratio)
        open_ = np.abs(slope) > 1e-7 * np.sqrt(curvature)
        if not open_.any():
            break
        low, high = np.where(slope < 0, t, low), np.where(slope < 0, high, t)
        step = t - slope / curvature
        inside = (low < step) & (step < high)
        t = np.where(open_, np.where(inside, step, (low + high) / 2), t)
    exponent = summed(np.log1p(-t[:, None] * shifted))
    root = np.copysign(np.sqrt(2 * np.maximum(exponent, 0.0)), t)
    scaled = t * np.sqrt(curvature)
    # The limit of the formula at the mean of the distribution.
    skewness = 2 * summed(ratio * ratio * ratio) / curvature**1.5
    chances = 0.5 + skewness / (6 * math.sqrt(2 * math.pi))
    for row in np.flatnonzero(np.abs(root) >= 1e-4).tolist():
        bend = 1 / root[row] - 1 / scaled[row]
        chances[row] = _NORMAL.cdf(root[row]) + _NORMAL.pdf(root[row]) * bend
    return np.asarray(np.clip(chances, 0.0, 1.0))


def _lower(rows: Sequence[Floats], pseudo: Floats, level: float) -> Floats:
    found = np.empty(len(rows))
    for of, values, there in _alike(rows, pseudo):
        found[of] = _roots(values, there, level)
    return found


def _roots(values: Floats, there: NDArray[np.bool_], level: float) -> Floats:
    """Return where the Dirichlet mean of each row is with probability `level` below.

    The last value of a row is its pseudo-observation, which none lies below by much.
    """
    low = values[:, -1].copy()
    count = there.sum(axis=1) - 1
    high = (values.sum(axis=1) - low) / count
    centred = np.where(there, values - high[:, None], 0.0)[:, :-1]
    # The normal approximation is near enough for the secant's start.
    error = np.sqrt((centred**2).sum(axis=1) / count**2 + (low / count) ** 2)
    goal = _NORMAL.inv_cdf(level)
    point = high + goal * error
    left = np.flatnonzero(high > low)
    found = low.copy()
    for _ in range(_STEPS):
        if not len(left):
            break
        lost = ~((low[left] < point[left]) & (point[left] < high[left]))
        point[left[lost]] = (low[left[lost]] + high[left[lost]]) / 2
        chances = below(np.where(there[left], values[left] - point[left, None], 0.0))
        under = chances < level
        low[left] = np.where(under, point[left], low[left])
        high[left] = np.where(under, high[left], point[left])
        # On the scale of z the probability is nearly linear in the point.
        z = np.array([_NORMAL.inv_cdf(min(max(each, 1e-300), 1 - 1e-16)) for each in chances])
        found[left] = point[left]
        done = (np.abs(z - goal) < 1e-6) | (high[left] - low[left] < 1e-9)
        point[left] += (goal - z) * error[left]
        left = left[~done]
    return found


def _alike(
    rows: Sequence[Floats], pseudo: Floats
) -> Iterator[tuple[NDArray[np.int64], Floats, NDArray[np.bool_]]]:
    """Gather rows of like length: their positions, their values, and which of these are there.

    The last of a row's values is its pseudo-observation.
    """
    sizes = np.array([len(values) for values in rows], dtype=np.int64)
    classes = np.array([int(size).bit_length() for size in sizes])
    for each in sorted(set(classes.tolist())):
        of = np.flatnonzero(classes == each)
        for start in range(0, len(of), step := max(1, _CHUNK >> each)):
            some = of[start : start + step]
            there = np.arange(sizes[some].max() + 1) < sizes[some, None]
            values = np.zeros(there.shape)
            values[there] = np.concatenate([rows[row] for row in some])
            values[:, -1], there[:, -1] = pseudo[some], True
            yield some, values, there
