"""Tables for the terminal, readable at 80 columns, in pipes and without colour."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ftreg.gate import Verdict
from ftreg.records.evaluation.header import all_summaries, is_partial
from ftreg.report import phrases
from ftreg.report.console import InertConsole
from ftreg.report.noise_line import noise_line

OUTCOME_STYLES = {"pass": "bold green", "regression": "bold red", "undecided": "bold yellow"}
_MOST_REASONS = 6
_MOST_COLUMNS = 4
"""Scorers that leave a cohort's name its room at 80 columns."""


def bare_table(*, show_header: bool = True) -> Table:
    """A table without lines, ready for its columns."""
    return Table(box=None, show_header=show_header, pad_edge=False, padding=(0, 2, 0, 0))


def facts_table() -> Table:
    """A table of names and values, one fact per row."""
    facts = bare_table(show_header=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    return facts


def _titled(title: str, table: Table) -> Group:
    """A table below its title, which may be wider than the table."""
    return Group(Text(title, "bold"), table)


def verdict_view(
    verdict: Verdict, *, baseline: Mapping[str, Any], candidate: Mapping[str, Any]
) -> RenderableType:
    """The complete verdict: deltas by scorer and by cohort, and the outcome."""
    parts: list[RenderableType] = [_by_scorer(verdict)]
    if is_partial(candidate):
        parts.append(Text(phrases.rows_evaluated(candidate)))
    noise = noise_line(baseline, candidate)
    if noise:
        parts.append(Text(noise))
    if verdict.costs:
        parts += ["", rows_view("Costs (less is better)", phrases.cost_table(verdict))]
    if looks := phrases.looks_sentence(verdict):
        parts.append(Text(f"Looks: {looks}"))
    seeds = phrases.seed_table(verdict)
    if seeds:
        title = f"Noise, in points ({phrases.seeds_sentence(verdict)})"
        parts += ["", rows_view(title, seeds)]
    names = phrases.scorers_of_cohorts(verdict)
    for start in range(0, len(names), _MOST_COLUMNS):
        parts += ["", _by_cohort(verdict, names[start : start + _MOST_COLUMNS])]
    outcome = phrases.OUTCOME_WORDS[verdict.outcome].upper()
    sentence = phrases.headline(verdict, baseline=baseline, candidate=candidate)
    parts += ["", hanging((Text(outcome, OUTCOME_STYLES[verdict.outcome]), Text(sentence)))]
    shown = verdict.reasons[:_MOST_REASONS]
    parts += [hanging((Text("  -"), Text(reason))) for reason in shown]
    rest = len(verdict.reasons) - len(shown)
    if rest > 0:
        parts.append(f"  - and {rest} more, in the report")
    return Group(*parts)


def hanging(*items: tuple[Text, Text]) -> Table:
    """Texts with their marks; further lines of a text are below its first."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for item in items:
        grid.add_row(*item)
    return grid


def _by_scorer(verdict: Verdict) -> Group:
    table = bare_table()
    table.add_column("scorer", overflow="fold")
    for heading in ("n", "base", "cand", "delta", phrases.confidence(verdict), "margin"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    for row in phrases.primary_rows(verdict):
        name = row.scorer if row.against == "baseline" else f"{row.scorer} (anchor)"
        table.add_row(
            name,
            str(row.n),
            phrases.points(row.baseline_mean),
            phrases.points(row.candidate_mean),
            phrases.signed(row.delta),
            phrases.interval(row),
            phrases.points(row.margin),
            Text(phrases.OUTCOME_WORDS[row.outcome], OUTCOME_STYLES[row.outcome]),
        )
    return _titled("Deltas by scorer, in points (candidate - baseline)", table)


def _by_cohort(verdict: Verdict, names: Sequence[str]) -> Group:
    """The deltas of some scorers, in several tables if one would be too wide."""
    cohorts = phrases.cohort_rows(verdict)
    table = bare_table()
    table.add_column("cohort", overflow="fold")
    table.add_column("n", justify="right")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right", max_width=12)
    for cohort, row in cohorts.items():
        cells = []
        for name in names:
            item = row.get(name)
            style = "bold red" if item is not None and item.outcome == "regression" else ""
            cells.append(Text(phrases.cohort_cell(item), style))
        table.add_row(cohort, str(max(item.n for item in row.values())), *cells)
    return _titled("Deltas by cohort, in points (! regression, in brackets not tested)", table)


def evaluation_view(header: Mapping[str, Any]) -> RenderableType:
    """An evaluation's mean scores."""
    checkpoint, dataset = header["checkpoint"], header["dataset"]
    counted = phrases.rows_evaluated(header)
    title = f"{checkpoint['name']} on {dataset['version']}, {counted}, mean scores"
    table = bare_table()
    table.add_column("scorer")
    for heading in ("mean", "scored", "missing"):
        table.add_column(heading, justify="right")
    for name, summary in all_summaries(header).items():
        table.add_row(
            name, phrases.points(summary["mean"]), str(summary["n"]), str(summary["missing"])
        )
    return _titled(title, table)


def baseline_view(
    header: Mapping[str, Any], history: Sequence[Mapping[str, Any]], *, looks: int
) -> RenderableType:
    """The baseline's scores, how many were judged on its rows, and the history of promotions."""
    table = bare_table()
    for heading in ("when", "checkpoint", "recipe", "why"):
        table.add_column(heading, overflow="fold")
    for item in history:
        marks = [item["why"] or "", "forced" if item["forced"] else "", "anchor" * item["anchor"]]
        if "artefact" in item:
            released = item["artefact"]
            marks.append(f"released as {released['file']} ({released['digest'][:12]})")
        table.add_row(
            item["promoted"][:16].replace("T", " "),
            item["checkpoint"]["name"],
            phrases.recipe(item["checkpoint"]),
            ", ".join(mark for mark in marks if mark),
        )
    judged = f"Looks: {looks:,} candidate{'s' * (looks != 1)} judged on these rows"
    return Group(evaluation_view(header), judged, "", _titled("Promotions, the newest last", table))


def rows_view(title: str, rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Rows with the same keys as a table, numbers right-aligned."""
    if not rows:
        return f"{title}: none"
    table = bare_table()
    for key, value in rows[0].items():
        table.add_column(key, justify="right" if isinstance(value, int | float) else "left")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return _titled(title, table)


def optimizer_view(record: Mapping[str, Any]) -> RenderableType:
    """The effective optimizer: class, every value in force, parameter groups."""
    facts = facts_table()
    facts.add_row("class", f"{record['import_path']} ({record['library_version']})")
    facts.add_row("implementation", record["implementation"])
    facts.add_row("decay", record["decay_coupling"])
    for key, value in record["arguments"].items():
        facts.add_row(key, str(value))
    table = bare_table()
    for heading in ("group", "weight decay", "tensors", "parameters"):
        table.add_column(heading, justify="left" if heading == "group" else "right")
    for group in record["groups"]:
        table.add_row(
            group["name"],
            f"{group['weight_decay']:g}",
            str(group["tensors"]),
            f"{group['elements']:,}",
        )
    return Group(Text(record["name"], "bold"), facts, "", _titled("Parameter groups", table))


def findings_view(findings: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Findings on a machine, one per line, with the remedy below."""
    styles = {"ok": "green", "note": "yellow", "problem": "bold red"}
    grid = Table.grid(padding=(0, 2, 0, 0))
    for column in range(3):
        grid.add_column(no_wrap=column < 2, overflow="fold")
    for finding in findings:
        state = finding["state"]
        grid.add_row(Text(state, styles[state]), finding["name"], Text(finding["found"]))
        if finding["fix"]:
            grid.add_row("", "", Text(f"-> {finding['fix']}"))
    return grid


def console() -> InertConsole:
    """A console that leaves numbers unstyled and treats brackets as plain text."""
    return _Console(highlight=False, markup=False)


class _Console(InertConsole):
    """Rich exits with 1 when the reader closes the pipe, which would mean a regression here."""

    def on_broken_pipe(self) -> None:
        """Leave it to the command."""
        raise BrokenPipeError
