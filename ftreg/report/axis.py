"""The marks of a linear axis, and their labels."""

import math


def linear_marks(low: float, high: float, *, most: int) -> list[float]:
    """Return round numbers (steps of 1, 2 or 5 times a power of ten) within [low, high].

    Args:
        low: the lower end.
        high: the upper end, above `low`.
        most: how many marks there may be, at least 2.
    """
    raw = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def label(value: float) -> str:
    """A number as short as it reads well: `0.25`, `1,200`, `20k`, `5e-4`."""
    size = abs(value)
    if size and size < 1e-3:
        digits, _, exponent = f"{value:.2e}".partition("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    if size >= 1e4:
        return f"{value / 1000:,.4g}k"
    return f"{value:,.4g}" if size < 1000 else f"{value:,.0f}"
