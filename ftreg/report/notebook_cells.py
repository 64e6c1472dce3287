"""Results in a notebook, as HTML."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ftreg.data import DatasetVersion
from ftreg.errors import UsageError, cut
from ftreg.gate import Verdict
from ftreg.records.replicas import Replicas
from ftreg.records.samples import Example
from ftreg.report import phrases
from ftreg.report.history_plot import draw_checkpoint
from ftreg.report.page import sections_cell
from ftreg.report.text_sections import TextSection

_LONGEST_TEXT = 200
_LARGEST_FRAME = 8 * 2**20
"""Bytes of a report that a notebook holds itself; of a larger one it has the link."""


def dataset_cell(
    dataset: DatasetVersion, split: str, rows: Iterable[Example], *, scorers: Sequence[str]
) -> str:
    """A dataset version's card, and some of its rows."""
    card = dataset.card
    sizes = ", ".join(f"{name} {entry.rows:,} rows" for name, entry in card.splits.items())
    said = [sizes, card.description, *([f"scored by {', '.join(scorers)}"] if scorers else [])]
    table = TextSection(
        f"First rows of {split}",
        ("id", "input", "reference"),
        [
            [row.id, *(cut(text or "", _LONGEST_TEXT) for text in (row.input, row.references[0]))]
            for row in rows
        ],
    )
    return sections_cell([TextSection(str(dataset.ref), sentences=said), table])


def run_cell(folder: Path, replicas: Replicas) -> str:
    """A run's curves and recipe; for replicas, the first one's curves."""
    manifest = replicas.first.manifest
    training = manifest.training
    said = [
        f"{training.steps:,} steps on {manifest.dataset.version}, {training.tokens:,} tokens",
        f"loss per token {training.first_loss:.3f} at the first step, {training.last_loss:.3f} at "
        "the last",
        *filter(None, [phrases.validation_sentence(manifest), phrases.parted_sentence(manifest)]),
    ]
    if len(replicas.members) > 1:
        said.append(f"replicas of the seeds {', '.join(map(str, replicas.seeds))}")
    try:
        picture = draw_checkpoint(replicas.first)
    except UsageError as error:
        picture, said = "", [*said, str(error)]
    return sections_cell([TextSection(str(folder), sentences=said)], picture=picture)


def evaluation_cell(header: Mapping[str, Any]) -> str:
    """An evaluation's mean scores."""
    counted = f"{header['dataset']['version']}, {phrases.rows_evaluated(header)}"
    rows = [
        [name, phrases.points(column["mean"]), str(column["n"]), str(column["missing"])]
        for name, column in header["summary"].items()
    ]
    title = f"{phrases.named(header['checkpoint'])} on {counted}, mean scores in points"
    table = TextSection(title, ("scorer", "mean", "scored", "missing"), rows, [header["id"]])
    return sections_cell([table])


def verdict_cell(
    verdict: Verdict, *, baseline: Mapping[str, Any], candidate: Mapping[str, Any]
) -> str:
    """A verdict: the outcome, the reasons, and the deltas by scorer and by cohort."""
    sentence = phrases.headline(verdict, baseline=baseline, candidate=candidate)
    title = f"{phrases.OUTCOME_WORDS[verdict.outcome].upper()}: {sentence}"
    rows = [
        [
            row.scorer if row.against == "baseline" else f"{row.scorer} (anchor)",
            row.cohort,
            str(row.n),
            phrases.signed(row.delta),
            phrases.interval(row),
            phrases.points(row.margin),
            phrases.OUTCOME_WORDS[row.outcome] if row.interval else "not tested",
        ]
        for row in verdict.rows
    ]
    headings = ("scorer", "cohort", "n", "delta", phrases.confidence(verdict), "margin", "outcome")
    said = TextSection(title, sentences=verdict.reasons)
    return sections_cell([said, TextSection("Deltas in points", headings, rows)])


def report_cell(path: Path) -> str:
    """A report in an isolated frame."""
    link = f'<p><a href="{escape(str(path))}">{escape(str(path))}</a></p>'
    if path.stat().st_size > _LARGEST_FRAME:
        return link
    page = escape(path.read_text("utf-8"))
    return (
        f'{link}<iframe title="report" sandbox="allow-scripts" width="100%" height="700" '
        f'srcdoc="{page}"></iframe>'
    )
