"""The course of one or two runs as panels of curves, ready for an SVG of 440 by 190 units.

Drawn here and not by Altair, whose start takes seconds, since every gate writes a report.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftreg.report.axis import label, linear_marks
from ftreg.report.history import WIDE, Step, log_marks, number, running_median, thin

LEFT, RIGHT, TOP, BOTTOM = 52.0, 432.0, 8.0, 162.0
"""The frame of the curves."""

_PANELS = (
    ("loss", "Loss per token, in nats"),
    ("lr", "Learning rate"),
    ("grad_norm", "Gradient norm before clipping"),
    ("step_size", "Effective step size: mean change of a weight in a step"),
)
# Noisy by nature, so that their running median says more than each step.
_NOISY = ("loss", "grad_norm")

Mark = tuple[float, str]
"""Position in the SVG, and label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One run's values: the path of each step, that of their running median, and four figures."""

    side: str
    path: str
    median: str
    figures: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One quantity of all runs."""

    title: str
    across: Sequence[Mark]
    up: Sequence[Mark]
    curves: Sequence[Curve]
    logarithmic: bool


def panels(runs: Mapping[str, Sequence[Step]]) -> list[Panel]:
    """Lay out loss, learning rate, gradient norm and effective step size.

    A value that is not finite is a gap in its curve. A long run is thinned without losing a spike.

    Args:
        runs: side ("baseline", "candidate") to the lines of its history, at least one line each.

    Raises:
        KeyError, TypeError, ValueError: a line is not that of a history.
    """
    steps = {side: [int(row["step"]) for row in history] for side, history in runs.items()}
    first = min(column[0] for column in steps.values())
    last = max(max(column[-1] for column in steps.values()), first + 1)
    marks = [mark for mark in linear_marks(first, last, most=6) if mark == int(mark)]
    across = [(_between(mark, first, last, LEFT, RIGHT), label(mark)) for mark in marks]
    found = []
    for key, title in _PANELS:
        columns = {side: [number(row[key]) for row in history] for side, history in runs.items()}
        scale = _Scale.of([value for column in columns.values() for value in column], key=key)
        places = {
            side: [_between(step, first, last, LEFT, RIGHT) for step in steps[side]]
            for side in runs
        }
        found.append(
            Panel(
                title=title,
                across=across,
                up=scale.marks(),
                curves=[
                    _curve(side, places[side], column, scale, noisy=key in _NOISY)
                    for side, column in columns.items()
                ],
                logarithmic=scale.logarithmic,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, values: Sequence[float | None], *, key: str) -> "_Scale":
        finite = [value for value in values if value is not None] or [0.0]
        low, high = min(finite), max(finite)
        if key != "lr" and 0 < low < high / WIDE:
            return cls(low, high, True)
        if key in ("lr", "step_size"):
            low = min(0.0, low)
        if low == high:
            low, high = (0.0, high) if high > 0 else (low - 0.5, high + 0.5)
        room = 0.04 * (high - low)
        return cls(low if low == 0 else low - room, high + room, False)

    def place(self, value: float) -> float:
        if self.logarithmic:
            low, high = math.log10(self.low), math.log10(self.high)
            return _between(math.log10(max(value, self.low)), low, high, BOTTOM, TOP)
        return _between(value, self.low, self.high, BOTTOM, TOP)

    def marks(self) -> list[Mark]:
        if self.logarithmic:
            values = log_marks(self.low, self.high)
            values = values[:: max(1, math.ceil(len(values) / 5))]
        else:
            values = linear_marks(self.low, self.high, most=5)
        return [(self.place(value), label(value)) for value in values]


def _between(value: float, low: float, high: float, start: float, end: float) -> float:
    return start + (value - low) / (high - low) * (end - start)


def _curve(
    side: str,
    places: Sequence[float],
    values: Sequence[float | None],
    scale: _Scale,
    *,
    noisy: bool,
) -> Curve:
    kept = thin(values)
    median = running_median(values) if noisy and len(values) > 1 else {}
    finite = [value for value in values if value is not None]
    figures = (
        {"first": values[0], "last": values[-1], "lowest": min(finite), "highest": max(finite)}
        if finite
        else dict.fromkeys(("first", "last", "lowest", "highest"))
    )
    return Curve(
        side=side,
        path=_path([(places[index], values[index]) for index in kept], scale),
        median=_path([(places[index], value) for index, value in median.items()], scale),
        figures={
            name: "not finite" if value is None else label(value) for name, value in figures.items()
        },
    )


def _path(points: Sequence[tuple[float, float | None]], scale: _Scale) -> str:
    """The `d` of an SVG path; a value that is missing ends a stroke."""
    parts = []
    pen = "M"
    for x, value in points:
        if value is None:
            pen = "M"
            continue
        # A stroke of no length is a dot with round caps, so a value between two gaps is seen.
        start = f"{x:.1f},{scale.place(value):.1f}"
        parts.append(f"{pen}{start}" + ("h0" if pen == "M" else ""))
        pen = "L"
    return "".join(parts)
