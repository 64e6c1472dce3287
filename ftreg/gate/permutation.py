"""Tests of a drop: sign flips, and Holm's correction over a family of tests."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ftreg.gate.units import Floats

# All sign patterns are counted up to this many changed units, half of them at a time.
_COUNTED_UP_TO = 24
# As many binomial coefficients are summed where all deltas have one size.
_SUMMED_UP_TO = 1000
# Newton steps and bisections that are enough for double precision from any start.
_STEPS = 80
# Sums that differ by rounding only are the same sum.
_TIE = 1e-9
_NORMAL = NormalDist()


def sign_flip(sums: Floats) -> float:
    """Return the p value of a drop under random exchange of baseline and candidate.

    If the two are equally good, each unit's delta is as likely as its opposite: the p value is the
    share of sign patterns with a sum as low as the observed one. For scores of 0 and 1 this is
    McNemar's exact test (Psychometrika 12, 1947). If there are too many patterns to count, it is
    the saddlepoint approximation, accurate to a few percent also in the far tails: Robinson,
    "Saddlepoint approximations for permutation tests and confidence intervals", JRSS B 44 (1982).

    Args:
        sums: shape (units,), the sum of each unit's deltas; clusters flip as one.
    """
    changed = sums[sums != 0]
    if not len(changed):
        return 1.0
    seen = float(changed.sum()) + _TIE
    if len(changed) <= _COUNTED_UP_TO:
        half = len(changed) // 2
        some, others = np.sort(_flipped(changed[:half])), _flipped(changed[half:])
        as_low = int(np.searchsorted(some, seen - others, side="right").sum())
        return float(as_low / 2 ** len(changed))
    sizes = np.abs(changed)
    if np.ptp(sizes) == 0 and len(sizes) <= _SUMMED_UP_TO:
        gains = int((changed > 0).sum())
        as_low = sum(math.comb(len(sizes), count) for count in range(gains + 1))
        return float(as_low / 2 ** len(sizes))
    steps = sizes / sizes.min()
    if np.allclose(steps, np.round(steps), rtol=0, atol=1e-6):
        # The sums lie on a lattice, two steps apart, and half of that belongs to the one seen.
        seen += float(sizes.min())
    if seen <= -float(sizes.sum()) + _TIE:
        return float(0.5 ** len(changed))
    return 1.0 if seen >= float(sizes.sum()) else _flipped_below(sizes, seen)


def _flipped(sums: Floats) -> Floats:
    """Return the sum of each sign pattern, shape (2 ** units,)."""
    found = np.zeros(1)
    for one in sums:
        found = np.concatenate([found - one, found + one])
    return found


def _flipped_below(sizes: Floats, seen: float) -> float:
    """Return the probability that a sum of `sizes` with random signs is below `seen`.

    Lugannani and Rice; the cumulant generating function is sum(log(cosh(t * size))).
    """
    t, low, high = 0.0, -math.inf, math.inf
    for _ in range(_STEPS):
        slopes = np.tanh(t * sizes)
        missing = float(sizes @ slopes) - seen
        curvature = float((sizes**2) @ (1 - slopes**2))
        if abs(missing) <= 1e-9 * float(sizes.sum()):
            break
        low, high = (low, t) if missing > 0 else (t, high)
        step = t - missing / curvature if curvature > 0 else math.inf
        if not low < step < high:
            step = (low + high) / 2 if math.isfinite(low + high) else 2 * t
        t = step
    cumulant = float((np.logaddexp(t * sizes, -t * sizes) - math.log(2)).sum())
    root = math.copysign(math.sqrt(2 * max(t * seen - cumulant, 0.0)), t)
    if abs(root) < 1e-4:
        return 0.5
    bend = 1 / root - 1 / (t * math.sqrt(curvature))
    return min(max(_NORMAL.cdf(root) + _NORMAL.pdf(root) * bend, 0.0), 1.0)


def holm(
    p_values: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    total: float | None = None,
) -> list[float]:
    """Return p values adjusted for their number, in the order given.

    Rejecting those of at most alpha keeps the probability of any false rejection in the family at
    most alpha, for any dependence between the tests. Holm, Scand. J. Statistics 6 (1979), section 4
    for weights: a test gets its weight's share of alpha, and inherits from rejected ones.

    Args:
        p_values: one per test.
        weights: above 0, with any sum; None means equal weights.
        total: the weight of the complete family, if it has tests that were not made: these count
            as not rejected.
    """
    weights = weights or [1.0] * len(p_values)
    adjusted = [0.0] * len(p_values)
    running, left = 0.0, math.fsum(weights) if total is None else total
    for index in sorted(range(len(p_values)), key=lambda test: p_values[test] / weights[test]):
        running = max(running, min(1.0, left / weights[index] * p_values[index]))
        adjusted[index] = running
        left -= weights[index]
    return adjusted
