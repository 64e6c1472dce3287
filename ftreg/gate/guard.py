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
about 1 %, in the far tails as well.
"""

import math
from statistics import NormalDist

import numpy as np

from ftreg.gate.units import Floats

_NORMAL = NormalDist()
# Newton steps and halvings that are enough for double precision from any start.
_STEPS = 80


def bounds(values: Floats, *, worst: float, level: float) -> tuple[float, float]:
    """Return a lower and an upper confidence bound for the mean of `values`.

    Args:
        values: shape (units,), not all 0.
        worst: how far from 0 a unit may lie; the pseudo-observations are -worst and worst.
        level: error probability of each bound, such as 0.025.
    """
    return _lower(values, worst, level), -_lower(-values, worst, level)


def drop_p_value(values: Floats, *, gain: float, margin: float = 0.0) -> float:
    """Return the p value of a mean drop of more than `margin`.

    It supposes nothing about the deltas but that none gains more than `gain`, seen or not; a
    permutation test supposes them symmetric.

    Args:
        values: shape (units,).
        gain: the largest gain that a unit might have which the sample happens not to hold.
        margin: the drop that is allowed.
    """
    return _below(-values, -gain, margin)


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


def _lower(values: Floats, worst: float, level: float) -> float:
    low, high = float(-worst), float(values.mean())
    if high <= low:
        return low
    count = len(values)
    # The normal approximation is near enough for the secant's start.
    error = math.sqrt(float(values.var()) / count + (worst / count) ** 2)
    point = high + _NORMAL.inv_cdf(level) * error
    goal = _NORMAL.inv_cdf(level)
    for _ in range(_STEPS):
        if not low < point < high:
            point = (low + high) / 2
        chance = _below(values, -worst, point)
        if chance < level:
            low = point
        else:
            high = point
        # On the scale of z the probability is nearly linear in the point.
        z = _NORMAL.inv_cdf(min(max(chance, 1e-300), 1 - 1e-16))
        if abs(z - goal) < 1e-6 or high - low < 1e-9:
            break
        point += (goal - z) * error
    return float(point)


def _below(values: Floats, pseudo: float, point: float) -> float:
    """Return the probability that the Dirichlet mean of `values` and `pseudo` is below `point`."""
    shifted = np.append(values, pseudo) - point
    least, most = float(shifted.min()), float(shifted.max())
    if least >= 0:
        return 0.0
    if most <= 0:
        return 1.0
    # The cumulant generating function is -sum(log(1 - t x)) for t in (1 / least, 1 / most).
    low, high = 1 / least, 1 / most
    t = 0.0
    for _ in range(_STEPS):
        ratio = shifted / (1 - t * shifted)
        slope, curvature = float(ratio.sum()), float((ratio**2).sum())
        if slope < 0:
            low = t
        else:
            high = t
        if abs(slope) <= 1e-9 * math.sqrt(curvature):
            break
        step = t - slope / curvature
        t = step if low < step < high else (low + high) / 2
    exponent = float(np.log1p(-t * shifted).sum())
    root = math.copysign(math.sqrt(2 * max(exponent, 0.0)), t)
    scaled = t * math.sqrt(curvature)
    if abs(root) < 1e-4:
        # The limit of the formula below at the mean of the distribution.
        skewness = 2 * float((ratio**3).sum()) / (curvature * math.sqrt(curvature))
        return 0.5 + skewness / (6 * math.sqrt(2 * math.pi))
    chance = _NORMAL.cdf(root) + _NORMAL.pdf(root) * (1 / root - 1 / scaled)
    return min(max(chance, 0.0), 1.0)
