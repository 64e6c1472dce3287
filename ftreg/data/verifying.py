"""Check all bytes and rows of a dataset version, and report every problem."""

from collections.abc import Sequence
from pathlib import Path

from ftreg.data.dataset import DatasetVersion, load_dataset
from ftreg.data.reference import list_refs
from ftreg.data.versions import RowChecks
from ftreg.errors import UsageError
from ftreg.records.printed import Printed, printed


@printed
class SplitCheck:
    """What was found of one split of a dataset version."""

    version: str
    """`name@N`."""
    split: str
    """The split's name."""
    rows: int
    """As the card says."""
    problem: str | None
    """What is wrong; null where all is well."""


@printed
class Verification(Printed):
    """What `ftreg data verify --json` prints, whether it ends with 0 or 2."""

    ok: bool
    """Whether no split has a problem."""
    splits: tuple[SplitCheck, ...]
    """In the order of the versions that were asked for."""


def verify_versions(refs: Sequence[str] = (), *, root: Path) -> Verification:
    """Check all bytes and rows of dataset versions.

    Args:
        refs: `name@N` each; none means all versions below `root`.
        root: the folder of datasets.

    Raises:
        UsageError: no such version, or none at all, or a card is invalid. Problems of files are in
            the return value.
    """
    chosen = refs or [str(ref) for ref in list_refs(root)]
    if not chosen:
        raise UsageError(f"{root}: there are no datasets")
    found = tuple(check for ref in chosen for check in _verify_version(ref, root=root))
    return Verification(ok=all(check.problem is None for check in found), splits=found)


def _verify_version(ref: str, *, root: Path) -> list[SplitCheck]:
    """Check every split of `name@N`: read its bytes again, then check each row."""
    dataset = load_dataset(ref, root=root)
    card = dataset.card
    checks = RowChecks(card)
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
