"""What `ftreg evaluations list` shows: what was evaluated, and what came of it."""

from collections.abc import Mapping

from ftreg.errors import UsageError, did_you_mean
from ftreg.records.baseline import promoted_ids
from ftreg.records.evaluation.header import is_partial
from ftreg.records.evaluation.listing import Listed, listed_evaluations
from ftreg.records.printed import Printed, printed
from ftreg.records.workspace import Workspace
from ftreg.report.phrases import named


@printed
class ListedEvaluation:
    """An evaluation of the workspace."""

    id: str
    """Its name, that of its folder."""
    created: str
    """When it was made, ISO 8601 in UTC."""
    dataset: str
    """`name@N`."""
    rows: int
    """Rows that were evaluated."""
    checkpoint: str
    """The name of the checkpoint."""
    label: str
    """The checkpoint's name and recipe in a few words; the name is left out where it is that of the
    optimizer."""
    optimizer: str
    """As the configuration names it."""
    lr: float | None
    """The learning rate; null where it is not known."""
    lora: int | None
    """The rank of the adapters; null where every weight was trained, or it is not known."""
    seeds: int
    """Training seeds."""
    outcome: str | None
    """Of its last gate: pass, regression or undecided; null where it was not gated."""
    against: str | None
    """Id of the evaluation that it was held against."""
    promoted: str | None
    """`baseline`, `anchor` or `baseline, anchor` where it is that now."""
    means: Mapping[str, float | None]
    """Scorer to mean score in [0, 1]; null where no example has one."""


@printed
class EvaluationList(Printed):
    """What `ftreg evaluations list --json` prints."""

    evaluations: tuple[ListedEvaluation, ...]
    """Newest first."""
    total: int
    """Evaluations that there are, of the dataset that was asked for."""
    damaged: tuple[str, ...]
    """What is wrong with those that cannot be read."""


def evaluations_of(
    workspace: Workspace, *, dataset: str | None = None, last: int | None = None
) -> EvaluationList:
    """List evaluations of a workspace, the newest first.

    Args:
        workspace: where they are stored.
        dataset: `name`, or `name@N`; default: all.
        last: the maximum number; None: all of them.

    Raises:
        UsageError: there is none on this dataset, or a baseline's file is damaged.
    """
    listed = listed_evaluations(workspace.evaluations)
    found = [item for item in listed if item.header is not None]
    if dataset is not None:
        found = of_dataset(found, dataset)
    shown = found[::-1] if last is None else found[::-1][:last]
    marks = _marks(workspace)
    return EvaluationList(
        evaluations=tuple(_listed(item, marks) for item in shown),
        total=len(found),
        damaged=tuple(item.problem for item in listed if item.problem),
    )


def of_dataset(found: list[Listed], dataset: str) -> list[Listed]:
    """Return the evaluations on a dataset, `name` or `name@N`.

    Raises:
        UsageError: there are none; suggests the closest name.
    """
    key = "version" if "@" in dataset else "name"
    chosen = [item for item in found if item.facts["dataset"][key] == dataset]
    if not chosen:
        known = sorted({str(item.facts["dataset"][key]) for item in found})
        there = f"; there are evaluations on {', '.join(known)}" if known else ""
        raise UsageError(f"no evaluation on {dataset}{did_you_mean(dataset, known)}{there}")
    return chosen


def _marks(workspace: Workspace) -> dict[str, str]:
    """Return id to its current role, for every baseline and anchor."""
    found: dict[str, list[str]] = {}
    for sides in promoted_ids(workspace.baselines):
        for side, name in sides.items():
            found.setdefault(name, []).append(side)
    return {name: ", ".join(sides) for name, sides in found.items()}


def _listed(item: Listed, marks: Mapping[str, str]) -> ListedEvaluation:
    header = item.facts
    checkpoint, rows = header["checkpoint"], header["dataset"]["rows"]
    return ListedEvaluation(
        id=item.folder.name,
        created=item.created,
        dataset=header["dataset"]["version"],
        rows=header["sequence"]["evaluated"] if is_partial(header) else rows,
        checkpoint=checkpoint["name"],
        label=named(checkpoint),
        optimizer=checkpoint["optimizer"],
        lr=checkpoint["lr"],
        lora=checkpoint["recipe"].get("lora.r"),
        seeds=len(checkpoint.get("seeds", ())) or 1,
        outcome=item.outcome,
        against=item.held_against,
        promoted=marks.get(header["id"]),
        means={name: column["mean"] for name, column in header["summary"].items()},
    )
