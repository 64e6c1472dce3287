"""A comparison of several evaluations, for the terminal and as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ftreg.gate.choice import pareto_front
from ftreg.gate.contest import Contest, Mean
from ftreg.gate.verdict import PRIMARY
from ftreg.report import phrases
from ftreg.report.markdown import escaped, grid
from ftreg.report.terminal import bare_table, hanging
from ftreg.report.text_sections import TextSection

# Columns of two lines each that fit beside a scorer's name at 80 characters.
_COLUMNS = 4
_NARROW = 12
_NONE = "-"


def comparison_sections(
    contests: Sequence[Contest],
    *,
    labels: Mapping[str, str],
    against: str,
    confidence: float,
    notes: Sequence[str],
    artefacts: Mapping[str, Mapping[str, Any]],
) -> list[TextSection]:
    """Return everything that a comparison shows, in order.

    Args:
        contests: of the tournament.
        labels: id to heading, in the order of the columns.
        against: id of the evaluation that the others are compared with.
        confidence: of the intervals.
        notes: sentences on what the intervals do not cover.
        artefacts: heading to what was served, if that was not the checkpoint itself.
    """
    primary = [contest for contest in contests if contest.cohort == PRIMARY]
    cohorts = [contest for contest in contests if contest.cohort != PRIMARY]
    percent = f"{100 * confidence:g} %"
    others = [name for name in labels if name != against]
    sections = [
        TextSection(
            "Evaluations",
            ("", "evaluation", "seeds"),
            [[label, name, str(_seeds(contests, name))] for name, label in labels.items()],
        ),
        *_artefacts(artefacts),
        TextSection(
            f"Mean scores in points with {percent} intervals; in brackets the ranks possible",
            ("scorer", *labels.values()),
            [
                [f"{item.scorer}\nn {item.n}", *(_mean(item, name) for name in labels)]
                for item in primary
            ],
            [_winner(item, labels) for item in primary],
        ),
        TextSection(
            f"Deltas from {labels[against]}, in points (* distinguishable)",
            ("scorer", *(labels[name] for name in others)),
            [[item.scorer, *(_delta(item, against, name) for name in others)] for item in primary],
        ),
    ]
    if cohorts:
        sections.append(_by_cohort(cohorts, labels))
    sections.append(TextSection("Pareto front", sentences=_front(contests, labels)))
    level = f"{1 - confidence:.2g}"
    sentences = [
        "distinguishable: the interval excludes 0, and the two-sided p value is at most "
        f"{level} after Holm's correction over all pairs and scorers (for cohorts: over all "
        "cohorts)",
        *notes,
        *_missing(primary, labels),
    ]
    return [*sections, TextSection("Notes", sentences=sentences)]


def _artefacts(artefacts: Mapping[str, Mapping[str, Any]]) -> list[TextSection]:
    """The size and speed of each served form, next to what it costs in scores."""
    rows = [
        [
            label,
            item["file"],
            f"{item['bytes'] / 1e6:,.1f}",
            "" if item["tokens_per_second"] is None else f"{item['tokens_per_second']:,.0f}",
            item["paired_by"],
        ]
        for label, item in sorted(artefacts.items(), key=lambda pair: -pair[1]["bytes"])
    ]
    headings = ("", "file", "MB", "tokens/s", "paired by")
    return [TextSection("Artefacts, the largest first", headings, rows)] if rows else []


def _seeds(contests: Iterable[Contest], name: str) -> int:
    found = (mean for contest in contests for mean in contest.means)
    return max((mean.seeds for mean in found if mean.evaluation == name), default=1)


def _find(contest: Contest, name: str) -> Mean | None:
    return next((mean for mean in contest.means if mean.evaluation == name), None)


def _mean(contest: Contest, name: str) -> str:
    mean = _find(contest, name)
    if mean is None or mean.mean is None:
        return _NONE
    ranks = ""
    if mean.ranks is not None:
        best, worst = mean.ranks
        ranks = f" ({best})" if best == worst else f" ({best}-{worst})"
    text = f"{phrases.points(mean.mean)}{ranks}"
    if mean.interval is None:
        return text
    low, high = mean.interval
    return f"{text}\n[{phrases.points(low)}, {phrases.points(high)}]"


def _delta(contest: Contest, against: str, name: str) -> str:
    pair = contest.pair(against, name)
    if pair is None:
        return _NONE
    low, high = pair.interval
    mark = " *" if pair.told_apart else ""
    return f"{phrases.signed(pair.delta)}{mark}\n[{phrases.signed(low)}, {phrases.signed(high)}]"


def _winner(contest: Contest, labels: Mapping[str, str]) -> str:
    if contest.winner is not None:
        return f"{contest.scorer}: {labels[contest.winner]} wins"
    return f"{contest.scorer}: no winner"


def _by_cohort(cohorts: Sequence[Contest], labels: Mapping[str, str]) -> TextSection:
    scorers = list(dict.fromkeys(contest.scorer for contest in cohorts))
    table: dict[str, dict[str, Contest]] = {}
    for contest in cohorts:
        table.setdefault(contest.cohort, {})[contest.scorer] = contest
    rows = []
    for cohort, row in table.items():
        cells = [_champion(row[scorer], labels) for scorer in scorers]
        rows.append([f"{cohort}\nn {max(item.examples for item in row.values())}", *cells])
    title = "Winners by cohort (distinguishable from every other)"
    return TextSection(title, ("cohort", *(name.replace("_", " ") for name in scorers)), rows)


def _champion(contest: Contest, labels: Mapping[str, str]) -> str:
    if contest.winner is not None:
        return labels[contest.winner]
    return "no winner" if contest.pairs else "not compared"


def _front(contests: Sequence[Contest], labels: Mapping[str, str]) -> list[str]:
    found = pareto_front(contests)
    if not found.scorers:
        return ["no scorer has a mean of every evaluation"]
    names = ", ".join(labels[name] for name in labels if name in found.front)
    sentences = [f"by the means of {', '.join(found.scorers)}: {names}"]
    for name, label in labels.items():
        by = [
            f"{labels[item.by]} ({_how(item.told_apart)})"
            for item in found.dominated
            if item.evaluation == name
        ]
        if by:
            sentences.append(f"{label} is dominated by {', '.join(by)}")
    return sentences


def _how(scorers: Sequence[str]) -> str:
    return f"distinguishable by {', '.join(scorers)}" if scorers else "in means only"


def _missing(contests: Iterable[Contest], labels: Mapping[str, str]) -> list[str]:
    found = []
    for contest in contests:
        lacking = [
            f"{labels[mean.evaluation]} lacks {mean.missing}"
            for mean in contest.means
            if mean.missing
        ]
        absent = [label for name, label in labels.items() if _find(contest, name) is None]
        if absent:
            found.append(f"{contest.scorer}: no such scorer in {', '.join(absent)}")
        if lacking:
            found.append(
                f"{contest.scorer}: of {contest.examples} scores {', '.join(lacking)}; the means "
                f"are over the {contest.n} examples that all have"
            )
        if contest.note:
            found.append(f"{contest.scorer}: {contest.note}")
    return found


def comparison_view(sections: Sequence[TextSection]) -> RenderableType:
    """The sections for the terminal; tables that are too wide continue below."""
    parts: list[RenderableType] = []
    for section in sections:
        parts += ["", Text(section.title, "bold")]
        if section.rows:
            parts += _tables(section)
        parts += [hanging((Text("-"), Text(sentence))) for sentence in section.sentences]
    return Group(*parts[1:])


def _tables(section: TextSection) -> list[RenderableType]:
    first, rest = section.headings[0], section.headings[1:]
    made: list[RenderableType] = []
    for start in range(0, len(rest), _COLUMNS):
        stop = start + _COLUMNS
        table = bare_table()
        table.add_column(first, overflow="fold", max_width=20)
        for heading in rest[start:stop]:
            table.add_column(heading, overflow="fold", min_width=min(_NARROW, len(heading)))
        for row in section.rows:
            table.add_row(*(Text(cell) for cell in (row[0], *row[1:][start:stop])))
        made.append(table)
    return made


def comparison_markdown(title: str, sections: Sequence[TextSection]) -> str:
    """The sections as a Markdown page."""
    parts = [f"# {escaped(title)}"]
    for section in sections:
        parts.append(f"## {escaped(section.title)}")
        if section.rows:
            parts.append(grid(section.headings, section.rows))
        if section.sentences:
            parts.append("\n".join(f"- {escaped(sentence)}" for sentence in section.sentences))
    return "\n\n".join(parts) + "\n"
