"""How many examples a margin needs, and what a number of examples can see."""

import math
from statistics import NormalDist

_NORMAL = NormalDist()
POWER = 0.8


def detectable_drop(
    standard_error: float, *, confidence: float = 0.95, power: float = POWER
) -> float:
    """Return the true mean drop that the one-sided test finds with probability `power`.

    Args:
        standard_error: of the mean delta.
        confidence: 1 - confidence is the level of the test.
        power: in (0, 1).
    """
    return (_NORMAL.inv_cdf(confidence) + _NORMAL.inv_cdf(power)) * standard_error


def pass_probability(
    spread: float,
    *,
    examples: int,
    margin: float,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> float:
    """Return the chance that a candidate passes, by the normal approximation.

    Args:
        spread: standard deviation of the paired deltas; positive.
        examples: number of paired examples.
        margin: the allowed mean drop.
        delta: the true mean delta.
        confidence: of the two-sided interval.
    """
    error = spread / math.sqrt(examples)
    return _NORMAL.cdf((margin + delta) / error - _NORMAL.inv_cdf((1 + confidence) / 2))


def examples_for_pass(
    spread: float,
    *,
    margin: float,
    delta: float = 0.0,
    confidence: float = 0.95,
    power: float = POWER,
    worst: float = 0.0,
) -> int | None:
    """Return how many examples show, with probability `power`, that no drop exceeds `margin`.

    Solves `n * room = z * spread * sqrt(n) + worst`: the interval's half width and the one
    pseudo-observation of its guard (`ftreg.gate.guard`) must fit between delta and -margin.

    Args:
        spread: standard deviation of the paired deltas, in [0, 1].
        margin: the allowed mean drop.
        delta: the true mean delta to plan for; 0 means equal models.
        confidence: of the two-sided interval.
        power: in (0, 1).
        worst: the drop of one example that is reckoned with: 1 for scores of 0 and 1.

    Returns:
        The number of examples, or None if a true `delta` at or below -margin can never pass.
    """
    room = margin + delta
    if room <= 0:
        return None
    reach = (_NORMAL.inv_cdf((1 + confidence) / 2) + _NORMAL.inv_cdf(power)) * spread
    root = (reach + math.sqrt(reach**2 + 4 * room * worst)) / (2 * room)
    unchanged = math.log(1 - confidence) / math.log1p(-min(margin / worst, 0.999)) if worst else 1
    return max(math.ceil(root**2), math.ceil(unchanged), 1)


def examples_for_regression(
    spread: float, *, delta: float, confidence: float = 0.95, power: float = POWER
) -> int | None:
    """Return how many examples show a true `delta` below 0 with probability `power`, or None."""
    if delta >= 0:
        return None
    reach = (_NORMAL.inv_cdf(confidence) + _NORMAL.inv_cdf(power)) * spread
    return max(math.ceil((reach / delta) ** 2), 1)
