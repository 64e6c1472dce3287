"""The page of a dataset's history: evaluations over time, promotions, and the looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftreg.gate.verdict import PRIMARY
from ftreg.report import phrases
from ftreg.report.page import page
from ftreg.report.text_sections import TextSection
from ftreg.report.timeline import Course, TimePanel, time_panels

_MOST_LOOKS = 200


@dataclass(frozen=True, slots=True)
class Ledger:
    """The promotions, and every look at the rows; both oldest first."""

    promotions: Sequence[Mapping[str, Any]]
    looks: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The evaluations on the rows of one version."""

    course: Course
    panels: Sequence[TimePanel]
    cohorts: Mapping[str, Sequence[TimePanel]]
    """Scorer to its panels of cohorts."""
    table: TextSection


def history_page(
    dataset: str, courses: Sequence[Course], ledger: Ledger, *, notes: Sequence[str]
) -> str:
    """Return the page.

    Args:
        dataset: the requested name.
        courses: the evaluations of each dataset version, or of other rows of one; newest first.
        ledger: promotions and looks.
        notes: what could not be drawn, and why.
    """
    return page(
        "history.html",
        title=f"History of {dataset}",
        drawn=[_drawn(course) for course in courses],
        promotions=_promotions(ledger.promotions),
        looks=_looks(ledger.looks),
        notes=notes,
    )


def _drawn(course: Course) -> Drawn:
    panels = time_panels(course)
    cohorts: dict[str, list[TimePanel]] = {}
    for panel in panels:
        if panel.cohort != PRIMARY:
            cohorts.setdefault(panel.scorer, []).append(panel)
    primary = [panel for panel in panels if panel.cohort == PRIMARY]
    return Drawn(course, primary, cohorts, _table(course, [panel.scorer for panel in primary]))


def _table(course: Course, scorers: Sequence[str]) -> TextSection:
    rows = [
        [
            f"{moment.label}\n{moment.id}",
            _minute(moment.created),
            phrases.OUTCOME_WORDS.get(moment.outcome or "", "not gated"),
            *(
                found.text if (found := moment.means.get((name, PRIMARY))) else "-"
                for name in scorers
            ),
        ]
        for moment in reversed(course.moments)
    ]
    headings = ("evaluation", "made", "verdict", *map(phrases.scorer_title, scorers))
    title = f"Evaluations on {course.dataset}, in points"
    return TextSection(title, headings, rows, _changes(course, scorers))


def _changes(course: Course, scorers: Sequence[str]) -> list[str]:
    """Where means are not comparable, because a scorer changed its version."""
    said = []
    for name in scorers:
        firsts: dict[Any, str] = {}
        for moment in course.moments:
            if name in moment.versions:
                firsts.setdefault(moment.versions[name], moment.id)
        if len(firsts) > 1:
            parts = ", ".join(
                f"version {version} since {first}" for version, first in firsts.items()
            )
            said.append(f"{phrases.scorer_title(name)}: {parts}; their scores cannot be compared")
    return said


def _promotions(promotions: Sequence[Mapping[str, Any]]) -> TextSection:
    rows = [
        [
            f"{phrases.named(item['checkpoint'])}\n{item['evaluation']}",
            _minute(item["promoted"]),
            ", ".join(
                word
                for word, said in (("forced", item["forced"]), ("anchor", item["anchor"]))
                if said
            ),
            str(item.get("chosen_from", "-")),
            item["why"] or "",
        ]
        for item in reversed(promotions)
    ]
    headings = ("promoted", "when", "how", "chosen from", "why")
    return TextSection("Promotions", headings, rows)


def _looks(looks: Sequence[Mapping[str, Any]]) -> TextSection:
    rows = [
        [
            look["candidate"],
            _minute(look["created"]),
            look["dataset"],
            look["baseline"] or "nothing yet",
        ]
        for look in reversed(looks)
    ]
    rest = len(rows) - _MOST_LOOKS
    said = [f"{rest:,} older looks are not shown"] if rest > 0 else []
    headings = ("candidate", "made", "rows", "held against")
    return TextSection("Looks", headings, rows[:_MOST_LOOKS], said)


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")
