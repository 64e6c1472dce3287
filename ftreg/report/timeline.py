"""Evaluations over time, a panel for each scorer and cohort, with promotions and the anchor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftreg.report import phrases
from ftreg.report.axis import AxisScale, Mark, linear_marks
from ftreg.report.curves import Frame

Slice = tuple[str, str]
"""Scorer, and `all` or a cohort as `tag=value`."""
_MOST_DATES = 4
_ROOM = 0.04
# Scores that hardly differ are drawn over at least this range.
_NARROWEST = 0.1


@dataclass(frozen=True, slots=True)
class SliceMean:
    """A mean score on a slice, in [0, 1], with its interval, if any."""

    n: int
    mean: float | None
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        """In points: the mean, and on a separate line the interval."""
        if self.low is None or self.high is None:
            return phrases.points(self.mean)
        low, high = phrases.points(self.low), phrases.points(self.high)
        return f"{phrases.points(self.mean)}\n[{low}, {high}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """An evaluation at its point in time."""

    id: str
    created: str
    label: str
    outcome: str | None
    against: str | None
    means: Mapping[Slice, SliceMean]
    versions: Mapping[str, Any] = field(default_factory=dict)
    """Scorer to its version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotedThen:
    """A promotion; `after` is the number of evaluations before it."""

    evaluation: str
    after: int
    anchor: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The evaluations on one dataset version, oldest first, and the promotions between them."""

    dataset: str
    rows: int
    moments: Sequence[Moment]
    total: int
    """Including older ones, which are not shown."""
    promoted: Sequence[PromotedThen]
    anchor: str | None
    """Id of the evaluation that is the anchor now."""
    known: Mapping[str, Mapping[Slice, SliceMean]] = field(default_factory=dict)
    """The means of every promoted evaluation, as far as available."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """An evaluation in a panel: its position and its label."""

    x: float
    y: float
    low: float | None
    high: float | None
    outcome: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePanel:
    """One slice, ready to be drawn; positions are those of the frame."""

    scorer: str
    cohort: str
    said: str
    spots: Sequence[Spot]
    up: Sequence[Mark]
    across: Sequence[Mark]
    baseline: str
    """The `d` of the steps of the baseline's mean."""
    promotions: Sequence[float]
    anchor: float | None
    frame: Frame


def time_panels(course: Course) -> list[TimePanel]:
    """Lay out a panel for each slice that has a mean: all examples first, then the cohorts."""
    slices = dict.fromkeys(key for moment in course.moments for key in moment.means)
    ordered = sorted(slices, key=lambda key: (key[1] != "all", *key))
    return [panel for key in ordered if (panel := _panel(course, key))]


def _panel(course: Course, key: Slice) -> TimePanel | None:
    frame = Frame(height=200.0)
    found = [
        (index, moment, mean)
        for index, moment in enumerate(course.moments)
        if (mean := moment.means.get(key)) is not None and mean.mean is not None
    ]
    if not found:
        return None
    anchor = _mean(course.known, course.anchor, key)
    steps = [(item.after, _mean(course.known, item.evaluation, key)) for item in course.promoted]
    lines = [anchor, *(mean for _, mean in steps)]
    up = _scale([mean for _, _, mean in found], [line for line in lines if line is not None], frame)
    across = AxisScale(low=-0.5, high=len(course.moments) - 0.5, start=frame.left, end=frame.right)
    spots = [
        Spot(
            x=round(across.place(index), 1),
            y=round(up.place(mean.mean or 0.0), 1),
            low=None if mean.low is None else round(up.place(mean.low), 1),
            high=None if mean.high is None else round(up.place(mean.high), 1),
            outcome=moment.outcome or "alone",
            said=f"{moment.id}: {mean.text} {moment.outcome or ''}".replace("\n", " ").strip(),
        )
        for index, moment, mean in found
    ]
    marks = linear_marks(100 * up.low, 100 * up.high, most=6)
    first, last = (phrases.points(mean.mean) for mean in (found[0][2], found[-1][2]))
    return TimePanel(
        scorer=key[0],
        cohort=key[1],
        said=f"{phrases.scorer_title(key[0])}, {key[1]}: {len(found)} evaluations, the first "
        f"{first}, the last {last} points",
        spots=spots,
        up=[(up.place(mark / 100), f"{mark:g}") for mark in marks],
        across=_dates(course.moments, across),
        baseline=_steps(steps, across, up, end=len(course.moments)),
        promotions=[round(across.place(after - 0.5), 1) for after, _ in steps if after > 0],
        anchor=None if anchor is None else round(up.place(anchor), 1),
        frame=frame,
    )


def _mean(
    known: Mapping[str, Mapping[Slice, SliceMean]], evaluation: str | None, key: Slice
) -> float | None:
    found = known.get(evaluation or "", {}).get(key)
    return None if found is None else found.mean


def _scale(means: Sequence[SliceMean], lines: Sequence[float], frame: Frame) -> AxisScale:
    """A vertical axis that includes every interval and every line."""
    ends = [
        end for item in means for end in (item.mean, item.low, item.high) if end is not None
    ] + list(lines)
    low, high = min(ends), max(ends)
    spare = max(_ROOM * (high - low), (_NARROWEST - (high - low)) / 2)
    low, high = max(0.0, low - spare), min(1.0, high + spare)
    return AxisScale(low=low, high=high, start=frame.bottom, end=frame.top)


def _dates(moments: Sequence[Moment], across: AxisScale) -> list[Mark]:
    """Labels for a few of the days, each at its first evaluation."""
    firsts: dict[str, int] = {}
    for index, moment in enumerate(moments):
        firsts.setdefault(moment.created[:10], index)
    days = list(firsts.items())
    every = -(-len(days) // _MOST_DATES)
    return [(across.place(index), day) for day, index in days[::every]]


def _steps(
    steps: Sequence[tuple[int, float | None]], across: AxisScale, up: AxisScale, *, end: int
) -> str:
    path = ""
    ends = [*(after for after, _ in steps[1:]), end]
    for (after, mean), until in zip(steps, ends, strict=False):
        if mean is not None:
            left, right = (round(across.place(place - 0.5), 1) for place in (after, until))
            path += f"M{left},{round(up.place(mean), 1)}H{right}"
    return path
