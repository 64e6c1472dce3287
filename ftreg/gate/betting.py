"""Tests and intervals of a bounded mean that hold at every moment, by betting against a bound.

A gambler who bets on units as they come, at odds that are fair if the mean is at most m, gets rich
only by luck: the wealth multiplies by `1 + c (x - m) / (1 + m)` per unit, is a nonnegative
supermartingale, and ever exceeds 1 / p with probability at most p (Ville's inequality). So
1 / (the largest wealth so far) is a p value wherever one stops. It assumes only that units are in
[-1, 1] and identically distributed: a rare collapse ruins the bets when it comes, and until then
the wealth cannot be large, since no bet wins more than its stake allows.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86
(2024): section 4 for the wealth, and B.2 for bets by the mean over the second moment.
"""

import math
from dataclasses import dataclass

import numpy as np

from ftreg.gate.units import Floats

# The wealth is the mean of several gamblers': how many times the bet that would be best at a
# distance of `gap` from the bound, and which share of the stake they never exceed. The first is for
# even deltas, the second for rare ones of full size, the third for means that lie far off.
_GAMBLERS = ((1.0, 0.95), (1.0, 0.5), (4.0, 0.75))
# The initial second moment, as if from one unit.
_PRIOR = 0.25
# Of a bound, as a score.
_PRECISION = 1e-6
# Against a mean of -1 there is no bet.
_LOWEST = -1 + _PRECISION


@dataclass(frozen=True, slots=True)
class Stream:
    """Units in order of arrival.

    `sums` and `sizes` have shape (units,): the sum of a unit's values, each in [-1, 1], and its
    number of examples, both divided by the largest number of examples that a unit may have. The
    mean in question is the ratio of their expectations. Without clusters every size is 1.
    """

    sums: Floats
    sizes: Floats

    def __neg__(self) -> "Stream":
        return Stream(-self.sums, self.sizes)


def p_value(stream: Stream, *, bound: float, gap: float) -> float:
    """Return the anytime-valid p value of a mean of at most `bound`.

    Args:
        stream: the units so far; 1 if there are none.
        bound: in [-1, 1).
        gap: how far above the bound a mean should be detected; the test is valid for any value, and
            most powerful at the right one.
    """
    if not len(stream.sums):
        return 1.0
    bound = max(bound, _LOWEST)
    return math.exp(-_most_wealth(stream, bound, _stakes(stream, bound=bound, gap=gap)))


def lower_bound(stream: Stream, *, bound: float, gap: float, level: float) -> float:
    """Return a lower confidence bound of the mean that is valid at all times together.

    It is above `bound` if, and only if, `p_value` is at most `level` (up to the precision).

    Args:
        stream: the units so far; -1 if there are none.
        bound: see `p_value`.
        gap: see `p_value`.
        level: the probability that the bound ever exceeds the mean.
    """
    low, high = -1.0, 1.0
    if not len(stream.sums):
        return low
    bound = max(bound, _LOWEST)
    stakes = _stakes(stream, bound=bound, gap=gap)
    goal = -math.log(level)
    point = bound  # the one that decides, so that bound and p value agree
    while high - low > _PRECISION:
        # The wealth falls as the mean that is bet against rises, for every bet and moment.
        if _most_wealth(stream, point, stakes) >= goal:
            low = point
        else:
            high = point
        point = (low + high) / 2
    return low


def _stakes(stream: Stream, *, bound: float, gap: float) -> Floats:
    """Return the share of the stake that each gambler bets, shape (gamblers, units), in [0, 1).

    A bet uses earlier units only, and not its own unit's size, which may correlate with its sum.
    """
    seen = np.arange(1, len(stream.sums) + 1)
    squares = (stream.sums - bound * stream.sizes) ** 2
    second = (_PRIOR + np.concatenate(([0.0], np.cumsum(squares[:-1])))) / seen
    size = (1 + np.concatenate(([0.0], np.cumsum(stream.sizes[:-1])))) / seen
    best = gap * size * (1 + bound) / np.maximum(second, np.finfo(float).tiny)
    return np.array([np.minimum(times * best, most) for times, most in _GAMBLERS])


def _most_wealth(stream: Stream, mean: float, stakes: Floats) -> float:
    """Return the log of the largest wealth so far, at least 0, when betting against `mean`."""
    odds = (stream.sums - mean * stream.sizes) / (1 + mean)
    wealth = np.cumsum(np.log1p(stakes * odds), axis=1)
    top = wealth.max(axis=0)
    together = top + np.log(np.exp(wealth - top).mean(axis=0))
    return max(0.0, float(together.max()))
