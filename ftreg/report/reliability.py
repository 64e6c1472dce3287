"""How far a scorer agrees with people, for the terminal, and its reliability as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ftreg.gate.agreement import CONFIDENCE, Agreement, ReliabilityBin
from ftreg.gate.interval import Interval
from ftreg.gate.trust import Criterion, Trust
from ftreg.report.axis import AxisScale
from ftreg.report.curves import Curve, Frame, Panel, path
from ftreg.report.picture import picture
from ftreg.report.terminal import bare_table, hanging

_WIDTH = 33
_MARKS = " 0" + "1".rjust(_WIDTH - 1)
_PERCENT = f"{100 * CONFIDENCE:g} %"
_STYLES = {"trusted": "bold green", "not trusted": "bold red", "undecided": "bold yellow"}
_FRAME = Frame(width=420.0, height=400.0)
_COLOURS = """.good .median { stroke: #0072b2; } .good .dots { stroke: #0072b2; stroke-width: 8; }
.even .median { stroke: #565d66; stroke-width: 1; stroke-dasharray: 5 4; }
@media (prefers-color-scheme: dark) {
  .good .median, .good .dots { stroke: #56b4e9; } .even .median { stroke: #a5adb8; }
}
"""


def agreement_view(
    agreement: Agreement,
    criteria: Sequence[Criterion],
    *,
    trust: Trust,
    heading: str,
    counts: Sequence[str],
    overlap_with: str | None,
) -> RenderableType:
    """The statistics, the reliability, and the conclusion.

    Args:
        agreement: over the rows with a label and a score.
        criteria: the bars and whether they are met.
        trust: the conclusion.
        heading: what was compared with what.
        counts: lines on the rows.
        overlap_with: the part of an example that word overlap is computed with.
    """
    return Group(
        Text(heading, "bold"),
        *(Text(line) for line in counts),
        "",
        _figures(agreement, overlap_with),
        "",
        Text(f"Share of good by score: o, with its {_PERCENT} interval; x the mean score", "bold"),
        _stretches(agreement.reliability),
        "",
        hanging((Text(trust.upper(), _STYLES[trust]), Text(_CONCLUSIONS[trust]))),
        *(hanging((Text("  -"), Text(criterion_in_words(item)))) for item in criteria),
    )


_CONCLUSIONS = {
    "trusted": "The scorer may be trusted for gating on rows like these.",
    "not trusted": "The scorer is not to be trusted for gating on rows like these.",
    "undecided": "There are too few rows to tell whether the scorer may be trusted.",
}


def _figures(agreement: Agreement, overlap_with: str | None) -> RenderableType:
    table = bare_table()
    table.add_column("")
    table.add_column("value", justify="right")
    table.add_column(_PERCENT, justify="right")
    table.add_column("")
    rows: list[tuple[str, Any, str]] = [("AUROC", agreement.auroc, "")]
    if overlap_with is not None:
        rows.append(
            ("  of overlap", agreement.overlap, f"the words shared with the {overlap_with}")
        )
        rows.append(("  gain", agreement.gain, "over that, on the same rows"))
    rows.append(("Spearman", agreement.spearman, ""))
    chosen = f"at scores from {agreement.kappa.threshold:.2f}, chosen out of fold"
    rows.append(("Cohen's kappa", agreement.kappa, chosen))
    for name, measured, note in rows:
        if measured is None:
            table.add_row(name, "-", "-", "all scores, or all labels, are equal")
        else:
            table.add_row(name, f"{measured.value:.3f}", _ends(measured.interval), note)
    return table


def _ends(interval: Interval) -> str:
    return f"[{interval.low:.3f}, {interval.high:.3f}]"


def _stretches(bins: Sequence[ReliabilityBin]) -> RenderableType:
    table = bare_table()
    for heading in ("score", "rows", "mean", "good", _PERCENT):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(_MARKS, no_wrap=True)
    for item in bins:
        low, high = item.interval
        table.add_row(
            f"{item.low:.1f}-{item.high:.1f}",
            str(item.rows),
            f"{item.score:.2f}",
            f"{item.label:.2f}",
            f"[{low:.2f}, {high:.2f}]",
            f"|{_bar(item)}|",
        )
    return table


def _bar(item: ReliabilityBin) -> str:
    def column(share: float) -> int:
        return round(share * (_WIDTH - 1))

    low, high = map(column, item.interval)
    cells = ["-" if low <= place <= high else " " for place in range(_WIDTH)]
    cells[column(item.score)] = "x"
    cells[column(item.label)] = "@" if column(item.label) == column(item.score) else "o"
    return "".join(cells)


_NAMES: Mapping[str, str] = {
    "auroc": "AUROC",
    "gain": "the gain over the overlap of words",
    "missing": "labelled rows without a score",
}


def criterion_in_words(criterion: Criterion) -> str:
    """A criterion as a sentence: the bar, and the scorer's side of it."""
    name = _NAMES[criterion.name]
    if criterion.interval is None:
        if not criterion.value:
            return "every labelled row has a score"
        compared = "no more than" if criterion.finding == "met" else "more than"
        share, most = f"{100 * criterion.value:.1f} %", f"{100 * criterion.bar:g} %"
        return f"{name}: {share}, {compared} the {most} allowed"
    low, high = criterion.interval
    match criterion.finding:
        case "met":
            return f"{name} is at least {low:.3f}, above {criterion.bar:g}"
        case "not met":
            return f"{name} is at most {high:.3f}, not above {criterion.bar:g}"
    needed = f"; about {criterion.rows_needed} such rows would show it" * bool(
        criterion.rows_needed
    )
    return f"{name} may be as low as {low:.3f}, and must be above {criterion.bar:g}{needed}"


def draw_reliability(agreement: Agreement, *, title: str) -> str:
    """Draw the mean label by the mean score, with intervals, and return the SVG."""
    across = AxisScale(low=0.0, high=1.0, start=_FRAME.left, end=_FRAME.right)
    up = AxisScale(low=0.0, high=1.0, start=_FRAME.bottom, end=_FRAME.top)
    points = [(across.place(item.score), item) for item in agreement.reliability]
    bars = "".join(
        path([(x, item.interval.low), (x, item.interval.high)], up) for x, item in points
    )
    panel = Panel(
        title="Share of good rows",
        curves=[
            Curve(name="even", path=path([(_FRAME.left, 0.0), (_FRAME.right, 1.0)], up)),
            Curve(
                name="good",
                path=bars,
                dots=path([(x, it.label) for x, it in points], up, dots=True),
            ),
        ],
        up=up.marks(most=6),
        across=across.marks(most=6),
        across_title="mean score",
        frame=_FRAME,
    )
    low, high = agreement.auroc.interval
    subtitles = [
        f"{agreement.rows} rows, AUROC {agreement.auroc.value:.3f} [{low:.3f}, {high:.3f}]"
    ]
    hint = f"Bars: {_PERCENT} intervals. Dashed: a score means what it says."
    return picture(title, [panel], columns=1, subtitles=subtitles, hint=hint, style=_COLOURS)
