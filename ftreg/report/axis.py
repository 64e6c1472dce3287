"""Axes: the positions of values in a figure, round tick marks, and their labels."""

import math
from dataclasses import dataclass

Mark = tuple[float, str]
"""Position in the picture, and label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisScale:
    """An axis: values from `low` to `high`, drawn from position `start` to position `end`.

    `low` is below `high`, and above 0 if the axis is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return the position of a value."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def marks(self, *, most: int, whole: bool = False) -> list[Mark]:
        """Return at most `most` round values with their positions; `whole` omits fractions."""
        find = log_marks if self.logarithmic else linear_marks
        values = find(self.low, self.high, most=most)
        return [(self.place(it), label(it)) for it in values if not whole or it == int(it)]


def linear_marks(low: float, high: float, *, most: int) -> list[float]:
    """Return round numbers (steps of 1, 2 or 5 times a power of ten) within [low, high].

    Args:
        low: the lower end.
        high: the upper end, above `low`.
        most: maximum number of marks, at least 2.
    """
    raw = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def log_marks(low: float, high: float, *, most: int) -> list[float]:
    """Return 1, 2 and 5 of each decade within [low, high], or fewer if there are many decades.

    Args:
        low: the lower end, above 0.
        high: the upper end, above `low`.
        most: maximum number of marks.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for each in ((1, 2, 5), (1, 3), (1,)):
        marks = [float(f"{digit}e{decade}") for decade in decades for digit in each]
        marks = [mark for mark in marks if low <= mark <= high]
        if len(marks) <= most:
            return marks
    return marks[:: math.ceil(len(marks) / most)]


def label(value: float) -> str:
    """A number in a short, readable form: `0.25`, `1,200`, `20k`, `5e-4`."""
    size = abs(value)
    if size and size < 1e-3:
        digits, _, exponent = f"{value:.2e}".partition("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    if size >= 1e4:
        return f"{value / 1000:,.4g}k"
    return f"{value:,.4g}" if size < 1000 else f"{value:,.0f}"
