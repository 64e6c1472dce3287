"""Tests of a drop: sign flips, and Holm's correction over a family of them."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ftreg.gate.units import Floats

# All sign patterns are counted up to this many units that changed (2 ** 13 patterns).
_ENUMERATED_UP_TO = 13
# Above this many the flipped sum is taken as normal, which its tails never exceed by much: a sum
# of random signs has a negative excess kurtosis.
_DRAWN_UP_TO = 200
_CHUNK = 1 << 21
# Sums that differ by rounding only are the same sum.
_TIE = 1e-9


def sign_flip(sums: Floats, *, resamples: int, generator: np.random.Generator) -> float:
    """Return the p value of a drop under random exchange of baseline and candidate.

    If the two are equally good, each unit's delta is as likely as its opposite: the p value is
    the share of sign patterns with a sum as low as the one seen.

    Args:
        sums: shape (units,), the sum of each unit's deltas; clusters flip as a whole.
        resamples: patterns drawn where there are too many to count.
        generator: source of randomness.
    """
    changed = sums[sums != 0]
    if not len(changed):
        return 1.0
    seen = float(changed.sum()) + _TIE
    root = float(np.sqrt((changed**2).sum()))
    if len(changed) > _DRAWN_UP_TO:
        return NormalDist().cdf(seen / root)
    if len(changed) <= _ENUMERATED_UP_TO:
        patterns = np.arange(2 ** len(changed))[:, None] >> np.arange(len(changed)) & 1
        return float(((2.0 * patterns - 1) @ changed <= seen).mean())
    as_low = 0
    step = max(1, _CHUNK // len(changed))
    for start in range(0, resamples, step):
        shape = (min(step, resamples - start), len(changed))
        signs = 2.0 * generator.integers(0, 2, shape, dtype=np.int8) - 1
        as_low += int(np.count_nonzero(signs @ changed <= seen))
    drawn = (as_low + 1) / (resamples + 1)
    if seen >= 0:
        return drawn
    # Draws cannot show a p value below 1 / resamples, which a family of hundreds needs.
    # Hoeffding's bound can, and is never below the true one (JASA 58, 1963, theorem 2).
    return min(drawn, float(np.exp(-0.5 * (seen / root) ** 2)))


def holm(
    p_values: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    total: float | None = None,
) -> list[float]:
    """Return p values adjusted for their number, in the order given.

    Rejecting where they are at most alpha keeps the chance of any false rejection in the family
    at most alpha, however the tests depend on each other. Holm, Scand. J. Statistics 6 (1979),
    section 4 for weights: a test has its weight's share of alpha, and inherits from rejected ones.

    Args:
        p_values: one a test.
        weights: above 0, of any sum; all alike where None.
        total: the weight of the whole family, where it has tests that were not made: it is as if
            these had not rejected.
    """
    weights = weights or [1.0] * len(p_values)
    adjusted = [0.0] * len(p_values)
    running, left = 0.0, math.fsum(weights) if total is None else total
    for index in sorted(range(len(p_values)), key=lambda test: p_values[test] / weights[test]):
        running = max(running, min(1.0, left / weights[index] * p_values[index]))
        adjusted[index] = running
        left -= weights[index]
    return adjusted
