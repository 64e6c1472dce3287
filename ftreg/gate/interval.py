"""The confidence interval of a mean delta: which method serves which scores."""

from enum import Enum
from typing import NamedTuple

import numpy as np

from ftreg.gate.bootstrap import bca, bca_large
from ftreg.gate.guard import bounds, drop_p_value, unseen_bound
from ftreg.gate.permutation import sign_flip
from ftreg.gate.units import Floats, Units

# Above this many units the bootstrap's closed form is as good and costs nothing.
RESAMPLED_UP_TO = 200


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
    distinct = np.array(sorted(set(scores.ravel().tolist())))  # np.unique loads numpy.ma first
    if np.isin(distinct, (0.0, 1.0)).all():
        return Scale.BINARY
    if 2 <= len(distinct) <= 5:
        for parts in (2, 3, 4):
            if np.allclose(distinct * parts, np.round(distinct * parts), rtol=0, atol=1e-6):
                return Scale.COARSE
    return Scale.GRADED


def largest_change(units: Units) -> float:
    """Return how far a unit's delta may lie from 0, a little beyond the furthest seen.

    By 1 / k of it after k changes, which is how far a population's largest value lies beyond the
    largest of k draws, on average, if all values are alike.
    """
    values = np.abs(units.values())
    changed = np.count_nonzero(values)
    return float(values.max()) * (1 + 1 / changed) if changed else 0.0


def worst_change(scale: Scale, *, seen: float, unseen_drop: float) -> float:
    """Return the change that a pass has to reckon with.

    Scores of few levels of which none changed may still jump; what is rarer than the fewest
    examples that may pass would show (`GatePolicy.least_units`) is within the margin.
    """
    jumps = scale is Scale.BINARY or (scale is Scale.COARSE and not seen)
    return 1.0 if jumps else max(seen, unseen_drop)


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
        if units.count > RESAMPLED_UP_TO:
            ends = bca_large(units, level=error / 2)
            method = f"{method}, closed form"
        else:
            ends = bca(units, level=error / 2, resamples=resamples, generator=generator)
        low, high = min(low, ends[0]), max(high, ends[1])
    if units.clustered:
        method = f"cluster {method}"
    return Estimate(Interval(max(low, -1.0), min(high, 1.0)), method)


class PValues(NamedTuple):
    """The p values of one row, before any correction for their number."""

    exchanged: float
    """Of a drop at all, if equal models could swap their scores: exact for binary ones."""
    guarded: float
    """Of a drop at all, supposing only that scores lie in [0, 1]."""
    beyond: float
    """Of a drop of more than the margin, supposing no more either."""


def p_values(
    units: Units,
    *,
    scale: Scale,
    gain: float,
    margin: float,
    resamples: int,
    generator: np.random.Generator,
) -> PValues:
    """Return the p values of a drop, and of one beyond the margin.

    That a drop exists should be significant by exchange and by the guard.

    Args:
        units: at least one.
        scale: of the scorer.
        gain: the largest gain that an example might have though the sample does not hold it.
        margin: the drop that is allowed.
        resamples: of the permutation test.
        generator: source of randomness.
    """
    if scale is Scale.BINARY and not units.clustered:
        # scipy takes longer to load than most comparisons take to run: only where it is needed.
        from ftreg.gate.stats import mcnemar, paired_drop_p_value

        losses, gains = int((units.sums < 0).sum()), int((units.sums > 0).sum())
        exact = mcnemar(losses, gains)
        beyond = paired_drop_p_value(losses, gains, total=units.count, margin=margin)
        return PValues(exact, exact, beyond)
    exchanged = sign_flip(units.sums, resamples=resamples, generator=generator)
    if not units.sums.any():
        return PValues(exchanged, 1.0, 1.0)
    values = units.values()
    most = max(gain, float(values.max()))
    return PValues(
        exchanged,
        drop_p_value(values, gain=most),
        drop_p_value(values, gain=most, margin=margin),
    )


def _exact_binary(deltas: Floats, level: float) -> Interval:
    from ftreg.gate.stats import paired_lower_bound

    losses, gains = int((deltas < 0).sum()), int((deltas > 0).sum())
    total = len(deltas)
    return Interval(
        paired_lower_bound(losses, gains, total=total, level=level),
        -paired_lower_bound(gains, losses, total=total, level=level),
    )
