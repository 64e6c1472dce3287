"""The history of one or two runs as panels of curves, ready to draw as SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ftreg.report.axis import AxisScale, Mark, label
from ftreg.report.history import Step, number, running_median, thin

HINT = (
    "Faint: each step. Strong: its running median. "
    "Gap and dashed line: a step whose loss or gradient norm was not finite."
)
"""What the strokes mean."""

_TITLES = {
    "loss": "Loss per token, in nats",
    "lr": "Learning rate",
    "grad_norm": "Gradient norm before clipping",
    "step_size": "Effective step size: mean change of a weight",
}
_PER_RATE = "Mean change of a weight / learning rate"
# Noisy, so the running median says more than the single steps.
_NOISY = ("loss", "grad_norm")
# A range of values beyond this ratio is drawn on a logarithmic axis.
_WIDE = 30.0
# Up to this many steps each one has a dot.
_FEW = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The size of a panel's drawing, and the box of its curves; the labels are around the box."""

    width: float = 440.0
    height: float = 194.0
    left: float = 52.0
    top: float = 8.0

    @property
    def right(self) -> float:
        """The right end of the box."""
        return self.width - 8

    @property
    def bottom(self) -> float:
        """The lower end of the box."""
        return self.height - 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of a panel.

    `path`, `median` and `dots` are the `d` of SVG paths: each value, the running median, and a dot
    for each value.
    """

    name: str
    """The side of a run, or another class of the style sheet."""
    path: str
    median: str = ""
    dots: str = ""
    kind: str = ""
    """`validation` for the loss of that split, else empty."""
    gaps: Sequence[float] = ()
    """Where the run's loss or gradient norm is missing, for all of its panels."""
    figures: Mapping[str, str] = field(default_factory=dict)
    """The first, last, lowest and highest value."""

    @property
    def label(self) -> str:
        """Its label in the legend."""
        return f"{self.name}, {self.kind}" if self.kind else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One quantity of all runs."""

    title: str
    curves: Sequence[Curve]
    up: Sequence[Mark]
    across: Sequence[Mark]
    across_title: str = "optimizer step"
    logarithmic: bool = False
    frame: Frame = Frame()


def panels(runs: Mapping[str, Sequence[Step]], *, per_rate: bool = False) -> list[Panel]:
    """Lay out loss, learning rate, gradient norm and effective step size.

    A run's validation loss, if any, is in the panel of the loss. A value that is not finite is a
    gap in its curve. A long run is thinned without losing a spike.

    Args:
        runs: side ("baseline", "candidate") to the lines of its history, at least one line each.
        per_rate: draw the step size over the learning rate, which separates the optimizer's effect
            from the schedule's.

    Raises:
        KeyError, TypeError, ValueError: a line is not part of a history.
    """
    frame = Frame()
    steps = {side: [int(row["step"]) for row in history] for side, history in runs.items()}
    values = {
        side: {key: [number(row[key]) for row in history] for key in _TITLES}
        for side, history in runs.items()
    }
    if per_rate:
        for columns in values.values():
            pairs = zip(columns["step_size"], columns["lr"], strict=True)
            columns["step_size"] = [None if a is None or not b else a / b for a, b in pairs]
    first = min(column[0] for column in steps.values())
    last = max(column[-1] for column in steps.values())
    room = 0.5 if first == last else 0.0
    across = AxisScale(low=first - room, high=last + room, start=frame.left, end=frame.right)
    places = {side: [across.place(step) for step in column] for side, column in steps.items()}
    gaps = {side: _gaps(places[side], columns) for side, columns in values.items()}
    validated = {side: _validation(places[side], history) for side, history in runs.items()}
    found = []
    for key, title in (_TITLES | ({"step_size": _PER_RATE} if per_rate else {})).items():
        also = validated if key == "loss" else {}
        losses = [[value for _, value in points] for points in also.values()]
        up = _scale([*(columns[key] for columns in values.values()), *losses], key, frame)
        curves = [
            Curve(
                name=side,
                gaps=gaps[side],
                **_strokes(places[side], columns[key], up, noisy=key in _NOISY),
                figures=_figures(columns[key]),
            )
            for side, columns in values.items()
        ]
        curves += [_validation_curve(side, points, up) for side, points in also.items() if points]
        found.append(
            Panel(
                title=title,
                curves=curves,
                up=up.marks(most=7),
                across=across.marks(most=8, whole=True),
                logarithmic=up.logarithmic,
                frame=frame,
            )
        )
    return found


def path(points: Sequence[tuple[float, float | None]], up: AxisScale, *, dots: bool = False) -> str:
    """Return the `d` of an SVG path; a missing value ends a stroke.

    Args:
        points: horizontal positions, and values.
        up: maps a value to its vertical position.
        dots: draw each point separately, as a stroke of length zero with round caps.
    """
    parts = []
    pen = "M"
    for x, value in points:
        if value is None:
            pen = "M"
            continue
        # A value between two gaps is also a stroke of length zero, to be visible.
        parts.append(f"{pen}{x:.1f},{up.place(value):.1f}" + ("h0" if pen == "M" else ""))
        pen = "M" if dots else "L"
    return "".join(parts)


def _gaps(places: Sequence[float], columns: Mapping[str, Sequence[float | None]]) -> list[int]:
    """Positions at which a noisy value is missing, at most one per unit: a run may have many."""
    rows = zip(places, *(columns[key] for key in _NOISY), strict=True)
    return sorted({round(x) for x, *row in rows if None in row})


def _validation(places: Sequence[float], history: Sequence[Step]) -> list[tuple[float, float]]:
    """Positions and values of the validation losses. Older histories have none."""
    rows = zip(places, history, strict=True)
    found = ((x, number(row.get("validation_loss"))) for x, row in rows)
    return [(x, value) for x, value in found if value is not None]


def _validation_curve(side: str, points: Sequence[tuple[float, float]], up: AxisScale) -> Curve:
    values = [value for _, value in points]
    strokes = _strokes([x for x, _ in points], values, up, noisy=False)
    return Curve(
        name=side,
        kind="validation",
        path=strokes["path"],
        dots=strokes["dots"],
        figures=_figures(values),
    )


def _scale(columns: Sequence[Sequence[float | None]], key: str, frame: Frame) -> AxisScale:
    finite = [value for column in columns for value in column if value is not None] or [0.0]
    low, high = min(finite), max(finite)
    # One run's step size follows its learning rate to nothing, which is no news; the step sizes of
    # two runs may be of different orders.
    may = key in _NOISY or (key == "step_size" and len(columns) > 1)
    logarithmic = may and 0 < low < high / _WIDE
    if not logarithmic:
        if key in ("lr", "step_size"):
            low = min(0.0, low)
        if low == high:
            low, high = (0.0, high) if high > 0 else (low - 0.5, high + 0.5)
        room = 0.04 * (high - low)
        low, high = low if low == 0 else low - room, high + room
    return AxisScale(low=low, high=high, start=frame.bottom, end=frame.top, logarithmic=logarithmic)


def _strokes(
    places: Sequence[float], values: Sequence[float | None], up: AxisScale, *, noisy: bool
) -> dict[str, str]:
    each = [(places[index], values[index]) for index in thin(values)]
    median = running_median(values) if noisy and len(values) > 1 else {}
    return {
        "path": path(each, up),
        "median": path([(places[index], value) for index, value in median.items()], up),
        "dots": path(each, up, dots=True) if len(values) <= _FEW else "",
    }


def _figures(values: Sequence[float | None]) -> dict[str, str]:
    finite = [value for value in values if value is not None]
    figures = {
        "first": values[0],
        "last": values[-1],
        "lowest": min(finite, default=None),
        "highest": max(finite, default=None),
    }
    return {
        name: "not finite" if value is None else label(value) for name, value in figures.items()
    }
