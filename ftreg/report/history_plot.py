"""The plot of a run's history: loss, learning rate, gradient norm and step size, as SVG.

Vega-Altair draws it, and vl-convert turns it into SVG in this process: no browser, no network, the
same bytes for the same history.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

from ftreg.errors import UsageError
from ftreg.files.store import damaged
from ftreg.process import address_limit
from ftreg.records.checkpoint import Checkpoint
from ftreg.report import phrases
from ftreg.report.history import (
    BUCKETS,
    HISTORY,
    WIDE,
    Step,
    log_marks,
    number,
    ratio,
    read_steps,
    running_median,
    thin,
)

_WIDTH, _HEIGHT = 640, 120
# vl-convert's JavaScript engine reserves addresses (not memory) in a block, and ends the process
# where it gets none: 64 GiB were too few, 72 are enough.
_ADDRESSES = 72 << 30
# Below this many steps each one is a dot of its own.
_FEW = 60
# 0.0005 as 5e-4, 20000 as 20k, everything between as it is.
_LABEL = (
    "datum.value != 0 && abs(datum.value) < 0.001 ? format(datum.value, '~e') : "
    "format(datum.value, abs(datum.value) < 10000 ? '~g' : '~s')"
)
_GREY, _LINES = "#52585e", "#9aa0a6"
# Okabe and Ito's colours, which colour-blind readers tell apart (Wong 2011, Nature Methods 8:441).
_BLUE, _GREEN, _VERMILLION, _PURPLE = "#0072b2", "#009e73", "#d55e00", "#aa4a83"


def draw_history(history: Sequence[Step], *, title: str) -> str:
    """Draw a run's steps as four panels above one axis, and return the SVG.

    A long run is thinned: each bucket of neighbouring steps keeps its lowest and its highest value,
    so no spike is lost. A number that is not finite is a gap, and a dashed line marks its step.

    Args:
        history: the lines of `history.jsonl`, at least one.
        title: the heading; lines after the first are set smaller.

    Raises:
        ValueError: there is no step to draw.
        UsageError: the process may not reserve the addresses that drawing takes.
    """
    if not history:
        raise ValueError("the history has no steps to draw")
    steps = [int(row["step"]) for row in history]
    loss, rate, norm = (
        [number(row[key]) for row in history] for key in ("loss", "lr", "grad_norm")
    )
    moved = [ratio(row["step_size"], row["lr"]) for row in history]
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
    _check_addresses()
    return str(vl_convert.vegalite_to_svg(spec))


def _check_addresses() -> None:
    limit = address_limit()
    if limit is not None and limit < _ADDRESSES:
        raise UsageError(
            f"drawing reserves {_ADDRESSES >> 30} GiB of addresses, and this process may have "
            f"{limit / (1 << 30):.1f} GiB (ulimit -v); draw it without that limit: "
            "`ftreg checkpoints plot CHECKPOINT`"
        )


def draw_checkpoint(checkpoint: Checkpoint) -> str:
    """Draw a checkpoint's own `history.jsonl`.

    Raises:
        UsageError: the file is missing, or is not a history; or as `draw_history`.
    """
    manifest = checkpoint.manifest
    recipe = {"optimizer": manifest.optimizer["name"], "lr": manifest.optimizer["arguments"]["lr"]}
    training = manifest.training
    title = (
        f"{phrases.recipe(recipe)}\n{manifest.dataset.version}, {training.steps:,} "
        f"{'step' if training.steps == 1 else 'steps'} of {training.batch_size} examples, "
        f"{training.tokens:,} tokens, {training.precision}"
    )
    with damaged(checkpoint.folder / HISTORY, kind="history"):
        return draw_history(read_steps(checkpoint.folder), title=title)


def svg_to_png(svg: str) -> bytes:
    """Return the picture as PNG, at twice the size for screens and documents.

    Raises:
        UsageError: as `draw_history`.
    """
    _check_addresses()
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
        alt.Chart(_points(steps, values, thin(values)))
        .mark_line(
            **line,
            strokeWidth=1 if median or not few else 1.6,
            opacity=0.4 if median else 1,
            point=alt.OverlayMarkDef(color=colour, size=24, opacity=1) if few else False,
        )
        .encode(across, up)
    ]
    if median and len(steps) > 1:
        smooth = running_median(values)
        layers.append(
            alt.Chart(_points(steps, smooth, sorted(smooth)))
            .mark_line(**line, strokeWidth=2)
            .encode(across, up)
        )
    if gaps:
        shown = gaps[:: max(1, len(gaps) // BUCKETS)]
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
    logarithmic = not zero and 0 < low < high / WIDE
    marks = {"values": log_marks(low, high)} if logarithmic else {"tickCount": 4}
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


def _points(
    steps: Sequence[int],
    values: Sequence[float | None] | Mapping[int, float | None],
    kept: Sequence[int],
) -> alt.Data:
    return alt.Data(values=[{"x": steps[index], "y": values[index]} for index in kept])
