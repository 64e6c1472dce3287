"""Draw a dataset's evaluations and promotions over time, as an HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftreg.errors import UsageError
from ftreg.files.cache.untouched import remembered
from ftreg.files.store import write_text
from ftreg.gate.contest import Contest
from ftreg.gate.tournament import hold_tournament
from ftreg.jobs.evaluations import of_dataset
from ftreg.jobs.gate import policy_of
from ftreg.records.baseline import (
    Promotion,
    baseline_path,
    read_anchor,
    read_history,
)
from ftreg.records.evaluation.header import is_partial, stopped_after
from ftreg.records.evaluation.listing import Listed, listed_evaluations
from ftreg.records.evaluation.stored import read_evaluation
from ftreg.records.layout import HEADER
from ftreg.records.looks import all_looks
from ftreg.records.printed import Printed, printed
from ftreg.records.workspace import Workspace
from ftreg.report.history_page import Ledger, history_page
from ftreg.report.phrases import named
from ftreg.report.timeline import Course, Moment, PromotedThen, Slice, SliceMean

LAST = 100
"""The default number of newest evaluations of a dataset version that are drawn."""

_SECOND = len("2026-01-02T03:04:05")
"""The precision of a promotion's time."""
_Means = dict[Slice, SliceMean]


@printed
class WrittenHistory(Printed):
    """What `ftreg history --json` prints."""

    dataset: str
    """What was asked for: `name`, or `name@N`."""
    history: Path
    """Path of the HTML page."""
    versions: tuple[str, ...]
    """The dataset versions that were evaluated on, `name@N`, the newest first."""
    evaluations: int
    """Those that are drawn."""
    total: int
    """Those that there are."""
    promotions: int
    """Promotions of this dataset."""
    looks: int
    """Looks that its ledger has."""
    notes: tuple[str, ...]
    """Why an evaluation is not drawn."""


def write_history(
    dataset: str, *, workspace: Workspace, output: Path, last: int | None = LAST
) -> WrittenHistory:
    """Write the page of a dataset's history.

    Args:
        dataset: `name`, for all of its versions, or `name@N`.
        workspace: has evaluations and baselines.
        output: the HTML file.
        last: how many of a version's newest evaluations are drawn; None: all of them.

    Raises:
        UsageError: the dataset has no evaluations, a baseline or look is damaged, or the file
            cannot be written.
    """
    found = [item for item in listed_evaluations(workspace.evaluations) if item.header]
    found = of_dataset(found, dataset)
    name = dataset.partition("@")[0]
    file = baseline_path(workspace.baselines, name)
    promotions = read_history(file) if file.is_file() else []
    notes: list[str] = []
    courses = [
        _course(items, promotions, last=last, file=file, notes=notes)
        for items in _by_version(found).values()
    ]
    looks = [look for look in all_looks(file) if dataset in (name, look["dataset"])]
    page = history_page(dataset, courses, Ledger(promotions=promotions, looks=looks), notes=notes)
    write_text(output, page)
    return WrittenHistory(
        dataset=dataset,
        history=output,
        versions=tuple(dict.fromkeys(course.dataset for course in courses)),
        evaluations=sum(len(course.moments) for course in courses),
        total=len(found),
        promotions=len(promotions),
        looks=len(looks),
        notes=tuple(notes),
    )


def _by_version(found: Sequence[Listed]) -> dict[tuple[str, ...], list[Listed]]:
    """Return the evaluations grouped by equal rows, the most recently evaluated first."""
    groups: dict[tuple[str, ...], list[Listed]] = {}
    for item in found:
        rows = item.facts["dataset"]
        key = (rows["version"], rows["digest"], rows["split"], rows["rows_digest"])
        groups.setdefault(key, []).append(item)
    return dict(sorted(groups.items(), key=lambda group: group[1][-1].created, reverse=True))


def _course(
    items: Sequence[Listed],
    promotions: Sequence[Promotion],
    *,
    last: int | None,
    file: Path,
    notes: list[str],
) -> Course:
    shown = items if last is None else items[-last:]
    ids = {item.folder.name: item for item in items}
    promoted = [item for item in promotions if item["evaluation"] in ids]
    needed = [item.folder.name for item in shown] + [item["evaluation"] for item in promoted]
    means = _all_means(items[0].folder.parent, list(dict.fromkeys(needed)), notes)
    drawn = [item for item in shown if item.folder.name in means]
    rows = items[-1].facts["dataset"]
    pinned = read_anchor(file) if file.is_file() else None
    return Course(
        dataset=rows["version"],
        rows=rows["rows"],
        moments=[
            Moment(
                id=item.folder.name,
                created=item.created,
                label=_label(item.facts),
                outcome=item.outcome,
                against=item.held_against,
                means=means[item.folder.name],
                versions=item.facts["versions"],
            )
            for item in drawn
        ],
        total=len(items),
        promoted=[
            PromotedThen(
                evaluation=item["evaluation"],
                after=sum(it.created[:_SECOND] <= item["promoted"][:_SECOND] for it in drawn),
                anchor=item["anchor"],
            )
            for item in promoted
        ],
        anchor=str(pinned.header["id"]) if pinned else None,
        known=means,
    )


def _label(header: Mapping[str, Any]) -> str:
    """Return the checkpoint, and whether only a part of the rows was evaluated."""
    stopped = f", {stopped_after(header)}" if is_partial(header) else ""
    return named(header["checkpoint"]) + stopped


def _all_means(root: Path, names: Sequence[str], notes: list[str]) -> dict[str, _Means]:
    """Return evaluation id to means; unreadable ones are noted and left out."""
    found: dict[str, _Means] = {}
    headers = [f"{name}/{HEADER}" for name in names]
    for path, rows in remembered(root, headers, _means, what="means 1").items():
        if isinstance(rows, str):
            notes.append(rows)
            continue
        found[path.partition("/")[0]] = {
            (scorer, cohort): SliceMean(*values) for scorer, cohort, *values in rows
        }
    return found


def _means(path: Path) -> list[list[Any]] | str:
    """Return scorer, cohort, number, mean and interval of each slice, or why there are none."""
    try:
        evaluation = read_evaluation(path.parent)
        contests = hold_tournament(
            {evaluation.id: evaluation.scores},
            policy_of(evaluation),
            cohorts=evaluation.cohorts,
            clusters=evaluation.clusters or None,
        )
    except UsageError as error:
        return str(error)
    return [_row(contest) for contest in contests]


def _row(contest: Contest) -> list[Any]:
    (mean,) = contest.means
    interval = mean.interval or (None, None)
    return [contest.scorer, contest.cohort, contest.n, mean.mean, *interval]
