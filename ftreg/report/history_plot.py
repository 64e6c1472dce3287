"""The plot of a run's history: loss, learning rate, gradient norm and step size, as SVG.

Vega-Altair draws it, and vl-convert turns it into SVG in this process: no browser, no network, the
same bytes for the same history.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

from ftreg.checkpoint import Checkpoint
from ftreg.report import words
from ftreg.store import damaged, read_jsonl

HISTORY = "history.jsonl"

# A panel is 640 pixels wide: two points in each of so many buckets lose nothing that can be seen.
_BUCKETS = 400
_WIDTH, _HEIGHT = 640, 120
# Below this many steps each one is a dot of its own.
_FEW = 60
# A range of values beyond this ratio is drawn on a logarithmic axis.
_WIDE = 30.0
# 0.0005 as 5e-4, 20000 as 20k, everything between as it is.
_LABEL = (
    "datum.value != 0 && abs(datum.value) < 0.001 ? format(datum.value, '~e') : "
    "format(datum.value, abs(datum.value) < 10000 ? '~g' : '~s')"
)
_GREY, _LINES = "#52585e", "#9aa0a6"
# Okabe and Ito's colours, which colour-blind readers tell apart (Wong 2011, Nature Methods 8:441).
_BLUE, _GREEN, _VERMILLION, _PURPLE = "#0072b2", "#009e73", "#d55e00", "#aa4a83"

Step = Mapping[str, Any]


def draw_history(history: Sequence[Step], *, title: str) -> str:
    """Draw a run's steps as four panels above one axis, and return the SVG.

    A long run is thinned: each bucket of neighbouring steps keeps its lowest and its highest value,
    so no spike is lost. A number that is not finite is a gap, and a dashed line marks its step.

    Args:
        history: the lines of `history.jsonl`, at least one.
        title: the heading; lines after the first are set smaller.

    Raises:
        ValueError: there is no step to draw.
    """
    if not history:
        raise ValueError("the history has no steps to draw")
    steps = [int(row["step"]) for row in history]
    loss, rate, norm = (
        [_number(row[key]) for row in history] for key in ("loss", "lr", "grad_norm")
    )
    moved = [_ratio(row["step_size"], row["lr"]) for row in history]
    alone = 0.5 if len(steps) == 1 else 0
    x = alt.Scale(domain=[steps[0] - alone, steps[-1] + alone], nice=False)
    gaps = [step for step, *values in zip(steps, loss, norm, strict=True) if None in values]

    def panel(name: str, values: Sequence[float | None], **more: Any) -> alt.LayerChart:
        return _panel(name, steps, values, x=x, gaps=gaps, **more)

    median = ", and its running median" if len(steps) > 1 else ""
    panels = [
        panel(f"loss per token in nats{median}", loss, colour=_BLUE, median=True),
        panel("learning rate", rate, colour=_GREEN, zero=True),
        panel(f"gradient norm before clipping{median}", norm, colour=_VERMILLION, median=True),
        panel(
            "mean change of the weights / learning rate",
            moved,
            colour=_PURPLE,
            zero=True,
            last=True,
        ),
    ]
    heading, *rest = title.split("\n")
    chart = alt.vconcat(*panels, spacing=14, background="white", padding=14).properties(
        title=alt.TitleParams(
            heading,
            subtitle=rest,
            anchor="start",
            frame="group",
            fontSize=15,
            subtitleFontSize=11.5,
            subtitleColor=_GREY,
            offset=14,
        )
    )
    spec = chart.configure(font="sans-serif").configure_view(stroke=None).to_dict()
    return str(vl_convert.vegalite_to_svg(spec))


def draw_checkpoint(checkpoint: Checkpoint) -> str:
    """Draw a checkpoint's own `history.jsonl`.

    Raises:
        UsageError: the file is missing, or is not a history.
    """
    path = checkpoint.folder / HISTORY
    manifest = checkpoint.manifest
    recipe = {"optimizer": manifest.optimizer["name"], "lr": manifest.optimizer["arguments"]["lr"]}
    training = manifest.training
    title = (
        f"{words.recipe(recipe)}\n{manifest.dataset.version}, {training.steps:,} "
        f"{'step' if training.steps == 1 else 'steps'} of {training.batch_size} examples, "
        f"{training.tokens:,} tokens, {training.precision}"
    )
    with damaged(path, kind="history"):
        return draw_history([row for _, row in read_jsonl(path)], title=title)


def svg_to_png(svg: str) -> bytes:
    """Return the picture as PNG, at twice the size for screens and documents."""
    return bytes(vl_convert.svg_to_png(svg, scale=2))


def _panel(
    name: str,
    steps: Sequence[int],
    values: Sequence[float | None],
    *,
    colour: str,
    x: alt.Scale,
    gaps: Sequence[int],
    zero: bool = False,
    median: bool = False,
    last: bool = False,
) -> alt.LayerChart:
    few = len(steps) <= _FEW
    across = alt.X("x:Q", scale=x, axis=_step_axis(last, most=min(10, len(steps))))
    up = _value_axis(values, zero=zero)
    line = {"color": colour, "invalid": "break-paths-show-domains"}
    layers = [
        alt.Chart(_points(steps, values, _thin(values)))
        .mark_line(
            **line,
            strokeWidth=1 if median or not few else 1.6,
            opacity=0.4 if median else 1,
            point=alt.OverlayMarkDef(color=colour, size=24, opacity=1) if few else False,
        )
        .encode(across, up)
    ]
    if median and len(steps) > 1:
        smooth = _running_median(values)
        layers.append(
            alt.Chart(_points(steps, smooth, sorted(smooth)))
            .mark_line(**line, strokeWidth=2)
            .encode(across, up)
        )
    if gaps:
        shown = gaps[:: max(1, len(gaps) // _BUCKETS)]
        layers.append(
            alt.Chart(alt.Data(values=[{"x": step} for step in shown]))
            .mark_rule(color="black", strokeDash=[3, 3], opacity=0.6)
            .encode(across)
        )
    heading = alt.TitleParams(
        name,
        anchor="start",
        frame="group",
        fontSize=11.5,
        fontWeight="normal",
        color=colour,
        offset=6,
    )
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT, title=heading)


def _step_axis(last: bool, *, most: int) -> alt.Axis:
    """The axis of steps, with its labels below the last panel only."""
    return alt.Axis(
        title="optimizer step" if last else None,
        labels=last,
        ticks=last,
        domain=last,
        format=",d",
        tickCount=most,
        tickMinStep=1,
        grid=False,
        labelFlush=False,
        labelColor=_GREY,
        titleColor=_GREY,
        titleFontWeight="normal",
        domainColor=_LINES,
        tickColor=_LINES,
    )


def _value_axis(values: Sequence[float | None], *, zero: bool) -> alt.Y:
    finite = [value for value in values if value is not None] or [0.0]
    low, high = min(finite), max(finite)
    logarithmic = not zero and 0 < low < high / _WIDE
    marks = {"values": _log_marks(low, high)} if logarithmic else {"tickCount": 4}
    return alt.Y(
        "y:Q",
        scale=alt.Scale(
            type="log" if logarithmic else "linear",
            # A single value has no range of its own.
            zero=zero or low == high,
            nice=not logarithmic,
        ),
        axis=alt.Axis(
            **marks,
            title=None,
            labelExpr=_LABEL,
            labelPadding=8,
            domain=False,
            ticks=False,
            gridColor="#e8eaed",
            labelColor=_GREY,
            minExtent=46,
        ),
    )


def _log_marks(low: float, high: float) -> list[float]:
    """Labels of a logarithmic axis: 1, 2 and 5 of each decade, or fewer where it has many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    each = (1, 2, 5) if len(decades) <= 3 else (1, 3) if len(decades) <= 4 else (1,)
    marks = [digit * 10.0**decade for decade in decades for digit in each]
    marks = [float(f"{mark:.1g}") for mark in marks if low <= mark <= high]
    return marks[:: max(1, math.ceil(len(marks) / 8))]


def _points(
    steps: Sequence[int],
    values: Sequence[float | None] | Mapping[int, float | None],
    kept: Sequence[int],
) -> alt.Data:
    return alt.Data(values=[{"x": steps[index], "y": values[index]} for index in kept])


def _thin(values: Sequence[float | None]) -> list[int]:
    """Indices of each bucket's lowest and highest value, and of one gap if it has any; in order."""
    if len(values) <= 2 * _BUCKETS:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    for bucket in range(_BUCKETS):
        start = bucket * len(values) // _BUCKETS
        end = (bucket + 1) * len(values) // _BUCKETS
        finite = [(value, i) for i in range(start, end) if (value := values[i]) is not None]
        if finite:
            kept |= {min(finite)[1], max(finite)[1]}
        if len(finite) < end - start:
            kept.add(next(i for i in range(start, end) if values[i] is None))
    return sorted(kept)


def _running_median(values: Sequence[float | None]) -> dict[int, float | None]:
    """Index to the median of its neighbours, a thirtieth of the run in all (five at least).

    In a long run it is taken at every so many steps only, and over 301 of the neighbours.
    """
    reach = max(2, len(values) // 60)
    indices = {*range(0, len(values), max(1, len(values) // _BUCKETS)), len(values) - 1}
    result: dict[int, float | None] = {}
    for index in sorted(indices):
        near = values[max(0, index - reach) : index + reach + 1]
        finite = [value for value in near[:: max(1, len(near) // 301)] if value is not None]
        result[index] = statistics.median(finite) if finite else None
    return result


def _number(value: object) -> float | None:
    """A finite number; what a history holds for one that is not (`"nan"`, `"inf"`) is a gap."""
    number = float(value) if isinstance(value, int | float | str) else math.nan
    return number if math.isfinite(number) else None


def _ratio(value: object, by: object) -> float | None:
    above, below = _number(value), _number(by)
    return above / below if above is not None and below else None
