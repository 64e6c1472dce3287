"""The scores that forms of one checkpoint cost, plotted over their size, to help choose one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftreg.gate.contest import Contest
from ftreg.gate.verdict import PRIMARY
from ftreg.report import phrases
from ftreg.report.axis import AxisScale, Mark, linear_marks

_WIDTH, _HEIGHT = 560.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 500.0, 14.0, 222.0
_SPARE = 0.08
"""Share of an axis that is left free at either end."""
_NARROWEST = 0.01
"""Deltas that hardly differ are drawn over this range at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormPoint:
    """One form: size on the horizontal axis, delta on the vertical; positions in the drawing."""

    x: float
    y: float
    low: float
    high: float
    label: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FormsPanel:
    """The forms by one scorer over all examples."""

    title: str
    said: str
    points: Sequence[FormPoint]
    across: Sequence[Mark]
    upwards: Sequence[Mark]
    none: float
    """The position of no loss."""
    margin: float | None
    """The position of the margin; None if it is far below."""
    width: float = _WIDTH
    height: float = _HEIGHT


def form_panels(
    contests: Sequence[Contest],
    *,
    against: str,
    labels: Mapping[str, str],
    artefacts: Mapping[str, Mapping[str, Any]],
    margins: Mapping[str, float],
) -> list[FormsPanel]:
    """Return a panel for each scorer with a delta of some artefact.

    Args:
        contests: of the tournament.
        against: id of the evaluation that the others are compared with.
        labels: id to an evaluation's label.
        artefacts: id to what was served.
        margins: scorer to the allowed drop of a form of the checkpoint.
    """
    panels = []
    for contest in (item for item in contests if item.cohort == PRIMARY):
        pairs = {name: contest.pair(against, name) for name in artefacts if name != against}
        found = {
            name: (pair.delta, pair.interval) for name, pair in pairs.items() if pair is not None
        }
        if found:
            margin = margins[contest.scorer]
            panels.append(_panel(contest.scorer, found, labels, artefacts, margin=margin))
    return panels


_Delta = tuple[float, tuple[float, float]]


def _panel(
    scorer: str,
    deltas: Mapping[str, _Delta],
    labels: Mapping[str, str],
    artefacts: Mapping[str, Mapping[str, Any]],
    *,
    margin: float,
) -> FormsPanel:
    sizes = {name: artefacts[name]["bytes"] / 1e6 for name in deltas}
    ends = [0.0, *(end for _, interval in deltas.values() for end in interval)]
    # A distant margin would squeeze the forms together.
    if min(ends) < -margin / 4:
        ends.append(-margin)
    across = _scale([0.0, *sizes.values()], start=_LEFT, end=_RIGHT, least=1.0)
    upwards = _scale(ends, start=_BOTTOM, end=_TOP, least=_NARROWEST)
    points = []
    for name, (delta, (low, high)) in sorted(deltas.items(), key=lambda item: sizes[item[0]]):
        speed = artefacts[name]["tokens_per_second"]
        rate = "" if speed is None else f", {speed:,.0f} tokens/s"
        points.append(
            FormPoint(
                x=round(across.place(sizes[name]), 1),
                y=round(upwards.place(delta), 1),
                low=round(upwards.place(low), 1),
                high=round(upwards.place(high), 1),
                label=str(artefacts[name]["precision"]),
                said=f"{labels[name]}: {sizes[name]:,.1f} MB{rate}, {phrases.signed(delta)} "
                f"[{phrases.signed(low)}, {phrases.signed(high)}]",
            )
        )
    title = phrases.scorer_title(scorer)
    return FormsPanel(
        title=title,
        said=f"{title}. " + "; ".join(point.said for point in points),
        points=points,
        across=across.marks(most=6),
        upwards=[
            (round(upwards.place(mark / 100), 1), f"{mark:g}")
            for mark in linear_marks(100 * upwards.low, 100 * upwards.high, most=6)
        ],
        none=round(upwards.place(0.0), 1),
        margin=round(upwards.place(-margin), 1) if -margin in ends else None,
    )


def _scale(values: Sequence[float], *, start: float, end: float, least: float) -> AxisScale:
    low, high = min(values), max(values)
    spare = max(_SPARE * (high - low), (least - high + low) / 2)
    floor = low if low == 0 and least == 1.0 else low - spare  # sizes begin at 0
    return AxisScale(low=floor, high=high + spare, start=start, end=end)
