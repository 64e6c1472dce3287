"""The confidence interval of a mean delta, and the p values of a drop."""

from collections.abc import Sequence
from typing import NamedTuple

from ftreg.gate.bootstrap import bca
from ftreg.gate.guard import Guard
from ftreg.gate.permutation import sign_flip
from ftreg.gate.units import Units

UNCHANGED = "rule of three"
"""The method of rows of which no score changed."""


class Interval(NamedTuple):
    """The ends of a confidence interval of a mean delta, within [-1, 1]."""

    low: float
    high: float


class Estimate(NamedTuple):
    """An interval and the name of its method."""

    interval: Interval
    method: str


class Guards(NamedTuple):
    """Tests of rows' means that assume only how far a unit may be from 0."""

    rows: Sequence[Units]
    high: Guard
    """Tests of high means."""
    low: Guard
    """Tests of low means: those of the negated values."""

    @classmethod
    def of(cls, rows: Sequence[Units], *, worst: float = 1.0) -> "Guards":
        """Prepare the tests, once for intervals and p values.

        Args:
            rows: units, at least one in each.
            worst: how far from 0 a unit may be, seen or unseen.
        """
        values = [units.values() for units in rows]
        return cls(rows, Guard.of(values, worst=worst), Guard.of([-x for x in values], worst=worst))


def estimate_intervals(guards: Guards, *, confidence: float, level: float) -> list[Estimate]:
    """Return the two-sided interval of each row's mean delta.

    Each end is the wider of two bounds: the BCa interval's, with error (1 - confidence) / 2 if
    there are enough units, and the guard's, with an error of at most `level` for any distribution.

    Args:
        guards: the rows' tests.
        confidence: of the intervals.
        level: error probability of each of the guards' bounds.
    """
    lows, highs = guards.high.lower_bounds(level), -guards.low.lower_bounds(level)
    found = []
    for units, low, high in zip(guards.rows, lows.tolist(), highs.tolist(), strict=True):
        ends = bca(units, level=(1 - confidence) / 2)
        method = "cluster BCa, guarded" if units.clustered else "BCa, guarded"
        interval = Interval(max(min(low, ends[0]), -1.0), min(max(high, ends[1]), 1.0))
        found.append(Estimate(interval, method if units.sums.any() else UNCHANGED))
    return found


class PValues(NamedTuple):
    """The p values of one row, before any correction for their number."""

    exchanged: float
    """Of a drop at all, if equal models could swap their scores: McNemar's for binary scores."""
    guarded: float
    """Of a drop at all, assuming only that scores are in [0, 1]."""
    beyond: float
    """Of a drop of more than the margin, under the same assumption."""


def p_values(guards: Guards, *, margins: Sequence[float]) -> list[PValues]:
    """Return the p values of each row: of a drop, and of one beyond the margin.

    A drop should be significant both by sign flips and by the guard.

    Args:
        guards: the rows' tests.
        margins: the allowed drop of each row.
    """
    drops, more = guards.low.p_values([0.0] * len(margins)), guards.low.p_values(margins)
    return [
        PValues(sign_flip(units.sums), drop, beyond)
        for units, drop, beyond in zip(guards.rows, drops.tolist(), more.tolist(), strict=True)
    ]
