"""The HTML page of a comparison: every mean with its interval drawn, and the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftreg.gate.contest import Contest
from ftreg.gate.verdict import PRIMARY
from ftreg.report import phrases
from ftreg.report.axis import AxisScale, Mark, linear_marks
from ftreg.report.form_plot import FormsPanel
from ftreg.report.page import page
from ftreg.report.text_sections import TextSection

_WIDTH, _LEFT, _RIGHT = 560.0, 14.0, 546.0
_TOP, _ROW, _AXIS = 6.0, 38.0, 26.0
# Means that hardly differ are drawn over at least this range.
_NARROWEST = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanRow:
    """One evaluation's mean in a panel; positions are those of the drawing."""

    y: float
    x: float
    low: float | None
    high: float | None
    label: str
    said: str
    wins: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MeansPanel:
    """The means of one scorer over all examples."""

    title: str
    said: str
    rows: Sequence[MeanRow]
    marks: Sequence[Mark]
    width: float
    height: float


def comparison_page(
    title: str,
    sections: Sequence[TextSection],
    contests: Sequence[Contest],
    *,
    labels: Mapping[str, str],
    forms: Sequence[FormsPanel] = (),
) -> str:
    """Return the page.

    Args:
        title: its heading.
        sections: what the comparison shows in its other formats.
        contests: of the tournament.
        labels: id to an evaluation's label, in the order of the rows.
        forms: what forms of a checkpoint cost, if any are compared.
    """
    primary = [contest for contest in contests if contest.cohort == PRIMARY]
    panels = [panel for contest in primary if (panel := _panel(contest, labels))]
    return page("comparison.html", title=title, sections=sections, panels=panels, forms=forms)


def _panel(contest: Contest, labels: Mapping[str, str]) -> MeansPanel | None:
    by_id = {item.evaluation: item for item in contest.means if item.mean is not None}
    means = [(name, by_id[name]) for name in labels if name in by_id]
    if not means:
        return None
    ends = [
        end for _, item in means for end in (item.mean, *(item.interval or ())) if end is not None
    ]
    spare = max(0.0, (_NARROWEST - max(ends) + min(ends)) / 2)
    scale = AxisScale(
        low=max(0.0, min(ends) - spare), high=min(1.0, max(ends) + spare), start=_LEFT, end=_RIGHT
    )
    rows = []
    for number, (name, item) in enumerate(means):
        low, high = item.interval or (None, None)
        said = f"{labels[name]}: {phrases.points(item.mean)}"
        if low is not None:
            said += f" [{phrases.points(low)}, {phrases.points(high)}]"
        rows.append(
            MeanRow(
                y=_TOP + _ROW * number + 28,
                x=round(scale.place(item.mean or 0.0), 1),
                low=None if low is None else round(scale.place(low), 1),
                high=None if high is None else round(scale.place(high), 1),
                label=labels[name],
                said=said,
                wins=name == contest.winner,
            )
        )
    title = phrases.scorer_title(contest.scorer)
    return MeansPanel(
        title=title,
        said=f"{title}. " + "; ".join(row.said for row in rows),
        rows=rows,
        marks=[
            (scale.place(mark / 100), f"{mark:g}")
            for mark in linear_marks(100 * scale.low, 100 * scale.high, most=7)
        ],
        width=_WIDTH,
        height=_TOP + _ROW * len(rows) + _AXIS,
    )
