"""The list of evaluations for the terminal, by dataset, readable at 80 columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ftreg.report import phrases
from ftreg.report.terminal import OUTCOME_STYLES, hanging

_NOT_GATED = "not gated"


def evaluation_list(
    evaluations: Sequence[Mapping[str, Any]], *, total: int, damaged: Sequence[str]
) -> RenderableType:
    """The list, with a heading for each dataset version.

    Args:
        evaluations: those shown, with the keys of `ftreg evaluations list --json`.
        total: number of evaluations.
        damaged: the problems of those that cannot be read.
    """
    parts: list[RenderableType] = []
    by_dataset: dict[str, list[Mapping[str, Any]]] = {}
    for item in evaluations:
        by_dataset.setdefault(item["dataset"], []).append(item)
    for dataset, items in by_dataset.items():
        table = Table.grid(padding=(0, 2, 0, 0))
        for wrapped in (False, False, True):
            table.add_column(no_wrap=not wrapped, overflow="fold")
        for item in items:
            outcome = item["outcome"]
            words = phrases.OUTCOME_WORDS.get(outcome, _NOT_GATED)
            style = OUTCOME_STYLES.get(outcome, "dim")
            when = item["created"][:16].replace("T", " ")
            table.add_row(when, Text(words, style), Text(_said(item)))
        parts += ["", Text(dataset, "bold"), table]
    if not evaluations:
        parts += ["", "Evaluations: none"]
    if older := total - len(evaluations):
        parts += ["", f"not shown: {older:,} older evaluation{'s' * (older > 1)}; --all shows all"]
    parts += [hanging((Text("damaged:"), Text(problem))) for problem in damaged]
    return Group(*parts[1:])


def _said(item: Mapping[str, Any]) -> str:
    marks = "".join(f", {mark}" for mark in (item["promoted"],) if mark)
    means = ", ".join(f"{name} {phrases.points(mean)}" for name, mean in item["means"].items())
    return f"{item['label']}{marks}\n{means or 'no scores'}\n{item['id']}"
