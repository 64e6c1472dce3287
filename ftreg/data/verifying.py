"""Check a dataset version from its bytes to its last row, and say everything that is wrong."""

from dataclasses import dataclass
from pathlib import Path

from ftreg.data.dataset import DatasetVersion, load_dataset
from ftreg.data.versions import RowChecks
from ftreg.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCheck:
    """What was found of one split; `rows` as the card says, `problem` None where all is well."""

    version: str
    split: str
    rows: int
    problem: str | None


def verify_version(ref: str, *, root: Path) -> list[SplitCheck]:
    """Check every split of `name@N`: its bytes are read again, then each row is checked.

    Raises:
        UsageError: no such version, or its card is wrong.
    """
    dataset = load_dataset(ref, root=root)
    card = dataset.card
    checks = RowChecks(prompt=card.prompt, cohorts=card.cohorts, cluster=card.cluster)
    found = [
        SplitCheck(
            version=ref, split=name, rows=entry.rows, problem=_problem(dataset, name, checks)
        )
        for name, entry in card.splits.items()
    ]
    if all(check.problem is None for check in found):
        try:
            checks.finish(where=str(dataset.folder / "dataset.yaml"))
        except UsageError as error:
            last = found[-1]
            found.append(
                SplitCheck(version=ref, split=last.split, rows=last.rows, problem=str(error))
            )
    return found


def _problem(dataset: DatasetVersion, name: str, checks: RowChecks) -> str | None:
    path = dataset.folder / dataset.card.splits[name].file
    try:
        dataset.verify(name, reread=True)
        for example in dataset.split(name):
            checks.check(example, split=name, place=f"{path}: row {example.id!r}")
    except UsageError as error:
        return str(error)
    return None
