"""Shared code of the documentation's figures: the drawing code of reports, with more colours."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ftreg.report.axis import AxisScale
from ftreg.report.curves import Curve, Frame, Panel, path
from ftreg.report.picture import picture

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
FRAME = Frame(width=268, height=202, left=44)

# Okabe and Ito's colours, which colour-blind readers can distinguish (Wong 2011, Nature Methods
# 8:441); for a light page, and for a dark one.
_COLOURS = {
    "blue": ("#0072b2", "#56b4e9"),
    "green": ("#00855f", "#35c59b"),
    "vermillion": ("#d55e00", "#f28c45"),
    "purple": ("#aa4a83", "#de8fbb"),
    "grey": ("#868e96", "#7d858e"),
}
_STYLE = (
    ".dashed .median { stroke-dasharray: 6 5; stroke-linecap: butt; }\n"
    ".bar .median { stroke-width: 26; stroke-linecap: butt; } .bar .key { stroke-width: 11; }\n"
)


def lines(
    title: str,
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    across_title: str = "optimizer step",
    low: float | None = None,
    high: float | None = None,
    logarithmic: bool = False,
    frame: Frame = FRAME,
) -> Panel:
    """Return a panel of line plots.

    Args:
        title: label of the y axis.
        curves: style (a colour, optionally followed by "dashed") to the points of its line.
        across_title: label of the x axis.
        low: lower end of the y axis; default: the lowest value.
        high: upper end of the y axis; default: the highest value.
        logarithmic: whether the y axis is logarithmic.
        frame: the panel's size.
    """
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    across = AxisScale(low=min(xs), high=max(xs), start=frame.left, end=frame.right)
    up = AxisScale(
        low=min(ys) if low is None else low,
        high=max(ys) if high is None else high,
        start=frame.bottom,
        end=frame.top,
        logarithmic=logarithmic,
    )
    return Panel(
        title=title,
        curves=[
            Curve(name=name, path=path([(across.place(x), y) for x, y in points], up))
            for name, points in curves.items()
        ],
        up=up.marks(most=7),
        across=across.marks(most=8),
        across_title=across_title,
        logarithmic=logarithmic,
        frame=frame,
    )


def save(name: str, heading: str, panels: Sequence[Panel], *, key: Mapping[str, str]) -> Path:
    """Draw panels side by side into `docs/figures/NAME.svg`; returns its path."""
    light, dark = (
        " ".join(
            f".{colour} {{ stroke: {shades[scheme]}; }}" for colour, shades in _COLOURS.items()
        )
        for scheme in (0, 1)
    )
    style = f"{_STYLE}{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n"
    FIGURES.mkdir(parents=True, exist_ok=True)
    place = FIGURES / f"{name}.svg"
    svg = picture(heading, panels, columns=len(panels), key=key, style=style)
    place.write_text(svg, encoding="utf-8")
    return place
