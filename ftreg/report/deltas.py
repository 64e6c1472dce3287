"""The positions of the forest plot's marks, and the colours of the heat map's cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftreg.gate import Row, Verdict
from ftreg.report import phrases
from ftreg.report.axis import linear_marks
from ftreg.report.material import MeanScores

LEVELS = 5
"""Steps of colour on each side of none."""
_ROOM = 4
# Full colour at this multiple of the largest margin.
_FULL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A row on the shared scale, in percent of the plot's width; None if nothing was compared.

    `cut_low` and `cut_high` say that the interval continues beyond the plot.
    """

    row: Row
    margin: float
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    cut_low: bool = False
    cut_high: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One scorer's rows over its cohorts; `open` if one of them needs attention."""

    scorer: str
    cohorts: Sequence[Place]
    open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """The forest plot: the scale, the rows over all examples, and those of the cohorts."""

    zero: float
    marks: Sequence[tuple[float, float]]
    """Position in percent, and value in points."""
    primary: Sequence[Place]
    groups: Sequence[Group]


def forest(verdict: Verdict) -> Forest:
    """Lay out every row of a verdict on one scale."""
    primary = phrases.primary_rows(verdict)
    low, high = _domain(primary, verdict.rows)

    def across(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    def place(row: Row) -> Place:
        margin = max(0.0, across(-row.margin))
        delta = None if row.delta is None else min(max(across(row.delta), 0.0), 100.0)
        if row.interval is None:
            return Place(row=row, margin=margin, delta=delta)
        return Place(
            row=row,
            margin=margin,
            delta=delta,
            low=max(across(row.interval.low), 0.0),
            high=min(across(row.interval.high), 100.0),
            cut_low=row.interval.low < low,
            cut_high=row.interval.high > high,
        )

    groups = []
    for scorer in phrases.scorers(primary):
        rows = [
            by_scorer[scorer]
            for by_scorer in phrases.cohort_rows(verdict).values()
            if scorer in by_scorer
        ]
        if rows:
            groups.append(
                Group(
                    scorer=scorer,
                    cohorts=[place(row) for row in rows],
                    open=any(row.outcome == "regression" for row in rows),
                )
            )
    marks = linear_marks(100 * low, 100 * high, most=7)
    return Forest(
        zero=across(0.0),
        marks=[(across(mark / 100), mark) for mark in marks],
        primary=[place(row) for row in primary],
        groups=groups,
    )


def _domain(primary: Sequence[Row], rows: Sequence[Row]) -> tuple[float, float]:
    """The ends of the scale: all intervals of the scorers, and the nearby part of the cohorts'."""
    margin = max(row.margin for row in rows)
    ends = [end for row in rows if row.interval is not None for end in row.interval]
    near = [end for row in primary if row.interval is not None for end in row.interval]
    most = max([1.5 * margin, 0.02, *(1.5 * abs(end) for end in near)], default=0.02)
    reach = [min(max(end, -_ROOM * most), _ROOM * most) for end in ends]
    low, high = min([*reach, -1.25 * margin, -0.01]), max([*reach, 0.01])
    room = 0.03 * (high - low)
    return max(low - room, -1.05), min(high + room, 1.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatCell:
    """A cell of the heat map; `level` from -5 (a drop) to 5, or 0 to 10 for mean scores."""

    value: float | None
    level: int
    n: int
    row: Row | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """Cohort to scorer to cell, all examples first; `full` is the value at full colour."""

    scorers: Sequence[str]
    rows: Mapping[str, Mapping[str, HeatCell]]
    full: float


def delta_heat(verdict: Verdict) -> Heat:
    """Colour the deltas against the baseline by their size."""
    rows = [row for row in verdict.rows if row.against == "baseline"]
    full = _FULL * max((row.margin for row in rows), default=0.0) or 0.1
    table: dict[str, dict[str, HeatCell]] = {}
    for row in sorted(rows, key=lambda row: (row.cohort != "all", row.cohort)):
        table.setdefault(row.cohort, {})[row.scorer] = HeatCell(
            value=row.delta,
            # Untested cells get no colour, which would look like a finding.
            level=0 if row.interval is None else _level(row.delta, full),
            n=row.n,
            row=row,
        )
    return Heat(scorers=phrases.scorers(rows), rows=table, full=full)


def _level(delta: float | None, full: float) -> int:
    if delta is None or phrases.signed(delta) == "0.0":
        return 0
    size = min(LEVELS, max(1, round(LEVELS * abs(delta) / full)))
    return size if delta > 0 else -size


def score_heat(scores: MeanScores, cohorts: Mapping[str, Mapping[str, str]]) -> Heat:
    """Colour mean scores by cohort, for an evaluation that is not compared."""
    members: dict[str, list[str]] = {}
    for name, tags in cohorts.items():
        for tag, value in tags.items():
            members.setdefault(f"{tag}={value}", []).append(name)
    table = {}
    for cohort, names in [("all", list(cohorts)), *sorted(members.items())]:
        table[cohort] = {scorer: _mean(column, names) for scorer, column in scores.items()}
    return Heat(scorers=list(scores), rows=table, full=1.0)


def _mean(column: Mapping[str, float | None], names: Sequence[str]) -> HeatCell:
    found = [value for name in names if (value := column.get(name)) is not None]
    mean = sum(found) / len(found) if found else None
    return HeatCell(value=mean, level=0 if mean is None else round(2 * LEVELS * mean), n=len(found))
