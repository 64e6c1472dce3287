"""The confidence interval of a mean delta: which method serves which scores."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np

from ftreg.gate.bootstrap import bca
from ftreg.gate.guard import bounds, drop_p_values, unseen_bound
from ftreg.gate.permutation import sign_flip
from ftreg.gate.units import Floats, Units

# A scorer of more different scores than this is a fine one, which the first few scores show.
_LEVELS = 5
_LOOKED_AT = 1000


class Interval(NamedTuple):
    """The ends of a confidence interval of a mean delta, within [-1, 1]."""

    low: float
    high: float


class Estimate(NamedTuple):
    """An interval and the name of the method that made it."""

    interval: Interval
    method: str


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
    scores = scores.ravel()
    if len(set(scores[:_LOOKED_AT].tolist())) > _LEVELS:
        return Scale.GRADED
    distinct = np.array(sorted(set(scores.tolist())))  # np.unique loads numpy.ma first
    if np.isin(distinct, (0.0, 1.0)).all():
        return Scale.BINARY
    if 2 <= len(distinct) <= _LEVELS:
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


def estimate_intervals(
    rows: Sequence[Units], *, confidence: float, worst: Sequence[float], guard: float
) -> list[Estimate]:
    """Return the two-sided interval of each row's mean delta.

    Two bounds make each end, and the wider one counts: the BCa interval's, which errs with
    probability (1 - confidence) / 2 where there are enough units, and the guard's, which errs at
    most as often as `guard` says whatever the distribution.

    Args:
        rows: units, at least one in each.
        confidence: of the intervals.
        worst: of each row, the largest change to reckon with, see `worst_change`.
        guard: error probability of each of the guard's bounds.
    """
    level = (1 - confidence) / 2
    found: list[Estimate | None] = [
        _special(units, worst=most, level=level) for units, most in zip(rows, worst, strict=True)
    ]
    left = [row for row, estimate in enumerate(found) if estimate is None]
    lows, highs = bounds(
        [rows[row].values() for row in left], worst=[worst[row] for row in left], level=guard
    )
    for row, low, high in zip(left, lows.tolist(), highs.tolist(), strict=True):
        ends = bca(rows[row], level=level)
        method = "cluster BCa, guarded" if rows[row].clustered else "BCa, guarded"
        interval = Interval(max(min(low, ends[0]), -1.0), min(max(high, ends[1]), 1.0))
        found[row] = Estimate(interval, method)
    return [estimate for estimate in found if estimate is not None]


def _special(units: Units, *, worst: float, level: float) -> Estimate | None:
    """Return the interval of units that need no bootstrap; None for all others."""
    if not units.sums.any():
        if not worst:
            return Estimate(Interval(0.0, 0.0), "identical")
        low = unseen_bound(units.count, worst=worst, error=2 * level)
        return Estimate(Interval(low, -low), "rule of three")
    if units.count < 2:
        return Estimate(Interval(-1.0, 1.0), "none")
    return None


class PValues(NamedTuple):
    """The p values of one row, before any correction for their number."""

    exchanged: float
    """Of a drop at all, if equal models could swap their scores: McNemar's for binary ones."""
    guarded: float
    """Of a drop at all, supposing only that scores lie in [0, 1]."""
    beyond: float
    """Of a drop of more than the margin, supposing no more either."""


def p_values(
    rows: Sequence[Units], *, gains: Sequence[float], margins: Sequence[float]
) -> list[PValues]:
    """Return the p values of each row: of a drop, and of one beyond the margin.

    That a drop exists should be significant by exchange and by the guard.

    Args:
        rows: units, at least one in each.
        gains: of each row, the largest gain that an example might have though the sample does not
            hold it.
        margins: of each row, the drop that is allowed.
    """
    values = [units.values() for units in rows]
    most = [max(gain, float(each.max())) for gain, each in zip(gains, values, strict=True)]
    guarded = drop_p_values(values, gains=most, margins=[0.0] * len(rows))
    beyond = drop_p_values(values, gains=most, margins=margins)
    return [
        PValues(sign_flip(units.sums), float(drop), float(more))
        if units.sums.any()
        else PValues(1.0, 1.0, 1.0)
        for units, drop, more in zip(rows, guarded, beyond, strict=True)
    ]
