"""The confidence interval of a mean delta: which method serves which scores."""

from enum import Enum
from typing import NamedTuple

import numpy as np

from ftreg.gate.bootstrap import bca, bca_large
from ftreg.gate.guard import bounds, drop_p_value, unseen_bound
from ftreg.gate.permutation import sign_flip
from ftreg.gate.units import Floats, Units

# Above this many units the bootstrap's closed form is as good and costs nothing.
_RESAMPLED_UP_TO = 200


class Interval(NamedTuple):
    """The ends of a confidence interval of a mean delta, within [-1, 1]."""

    low: float
    high: float


class Estimate(NamedTuple):
    """An interval and the name of the method that made it."""

    interval: Interval
    method: str


_IDENTICAL = Estimate(Interval(0.0, 0.0), "identical")


class Scale(Enum):
    """How finely a scorer scores; what one unseen example could do follows from it."""

    BINARY = "binary"
    """0 and 1 only."""
    COARSE = "coarse"
    """Halves, thirds or quarters: equal scores say little about equal outputs."""
    GRADED = "graded"
    """Anything finer."""


def scale_of(scores: Floats) -> Scale:
    """Return how finely `scores`, of both sides together, are graded."""
    distinct = np.unique(scores)
    if np.isin(distinct, (0.0, 1.0)).all():
        return Scale.BINARY
    if 2 <= len(distinct) <= 5:
        for parts in (2, 3, 4):
            if np.allclose(distinct * parts, np.round(distinct * parts), rtol=0, atol=1e-6):
                return Scale.COARSE
    return Scale.GRADED


def worst_change(units: Units, scale: Scale, *, unseen_drop: float) -> float:
    """Return how far one unit's delta may lie from 0, those not seen included.

    Scores of a few levels may always jump from end to end. Finer ones are taken to reach a little
    beyond the largest change seen: by 1 / k of it after k changes, which is how far the largest of
    a larger population lies beyond the largest of k draws on average if all sizes are alike.
    """
    if scale is not Scale.GRADED:
        return 1.0
    values = np.abs(units.values())
    changed = np.count_nonzero(values)
    seen = float(values.max()) * (1 + 1 / changed) if changed else 0.0
    return max(seen, unseen_drop)


def estimate_interval(
    units: Units,
    *,
    scale: Scale,
    confidence: float,
    worst: float,
    resamples: int,
    generator: np.random.Generator,
) -> Estimate:
    """Return the two-sided interval of the mean delta.

    Args:
        units: at least one.
        scale: of the scorer.
        confidence: of the interval; each end errs with probability (1 - confidence) / 2.
        worst: the largest change to reckon with, see `worst_change`.
        resamples: of the bootstrap.
        generator: source of randomness.
    """
    error = 1 - confidence
    if not units.sums.any():
        low = unseen_bound(units.count, worst=worst, error=error) if worst else 0.0
        return Estimate(Interval(low, -low), "rule of three") if worst else _IDENTICAL
    if units.count < 2:
        return Estimate(Interval(-1.0, 1.0), "none")
    if scale is Scale.BINARY and not units.clustered:
        return Estimate(_exact_binary(units.sums, error / 2), "exact")
    values = units.values()
    low, high = bounds(values, worst=worst, level=error / 2)
    method = "guarded bootstrap"
    if np.ptp(values) > 0:
        if units.count > _RESAMPLED_UP_TO:
            ends = bca_large(units, level=error / 2)
            method = f"{method}, closed form"
        else:
            ends = bca(units, level=error / 2, resamples=resamples, generator=generator)
        low, high = min(low, ends[0]), max(high, ends[1])
    if units.clustered:
        method = f"cluster {method}"
    return Estimate(Interval(max(low, -1.0), min(high, 1.0)), method)


def p_values(
    units: Units,
    *,
    scale: Scale,
    worst: float,
    resamples: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return two p values of a drop: by exchange of the sides, and by the interval's guard.

    The first supposes that equal models could swap their scores, which is exact for binary ones;
    the second only that their mean delta is 0. A drop should be significant by both.
    """
    if scale is Scale.BINARY and not units.clustered:
        exact = _mcnemar(units.sums)
        return exact, exact
    exchanged = sign_flip(units.sums, resamples=resamples, generator=generator)
    if not units.sums.any():
        return exchanged, 1.0
    return exchanged, drop_p_value(units.values(), worst=worst)


def _mcnemar(deltas: Floats) -> float:
    # scipy takes longer to load than most comparisons take to run: only where it is needed.
    from ftreg.gate.stats import mcnemar

    return mcnemar(int((deltas < 0).sum()), int((deltas > 0).sum()))


def _exact_binary(deltas: Floats, level: float) -> Interval:
    from ftreg.gate.stats import paired_lower_bound

    losses, gains = int((deltas < 0).sum()), int((deltas > 0).sum())
    total = len(deltas)
    return Interval(
        paired_lower_bound(losses, gains, total=total, level=level),
        -paired_lower_bound(gains, losses, total=total, level=level),
    )
