"""The differences between two dataset versions: rows, order, cohorts, card."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ftreg.data.card import Card
from ftreg.data.cohorts import cohort_sizes
from ftreg.data.dataset import DatasetVersion
from ftreg.data.row_checks import fingerprint, row_of, row_text
from ftreg.records.printed import DESCRIBED, Printed, printed
from ftreg.records.samples import Example

SHOWN = 5
_OWN = {"name", "version", "changes", "splits"}


@dataclass(slots=True)
class Ids:
    """A number of rows, and the ids of the first of them."""

    __pydantic_config__ = DESCRIBED

    count: int
    """Number of rows."""
    first: list[str]
    """The ids of at most five."""

    def add(self, name: str) -> None:
        """Count one more row."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(name)


@printed
class SplitDifference:
    """What differs in one split."""

    rows: tuple[int, int]
    """Before and after; 0 where a version has no such split."""
    added: Ids
    """Rows of an id that only the new version has."""
    removed: Ids
    """Rows of an id that only the old version has."""
    changed: Ids
    """Rows of an id that both have, and that are not the same."""
    reordered: bool
    """Whether the rows that both have stand in another order."""
    cohorts: Mapping[str, tuple[int, int]]
    """Cohort, `tag=value`, to its rows before and after."""


@printed
class Difference(Printed):
    """What `ftreg data diff --json` prints."""

    old: str
    """`name@N`."""
    new: str
    """`name@N`."""
    card: Mapping[str, tuple[Any, Any]]
    """Key of the card to its old and its new value, where they differ."""
    splits: Mapping[str, SplitDifference]
    """By the name of the split, whether or not both versions have it."""


def difference(old: DatasetVersion, new: DatasetVersion) -> Difference:
    """Compare two versions row by row, matched by id, keeping 40 bytes per row.

    Raises:
        UsageError: the files of one of them do not match its card.
    """
    return Difference(
        old=str(old.ref),
        new=str(new.ref),
        card=_card_difference(old.card, new.card),
        splits={
            name: _split_difference(old, new, name)
            for name in dict.fromkeys([*old.card.splits, *new.card.splits])
        },
    )


def _card_difference(old: Card, new: Card) -> dict[str, tuple[Any, Any]]:
    before, after = old.model_dump(exclude=_OWN), new.model_dump(exclude=_OWN)
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def _split_difference(old: DatasetVersion, new: DatasetVersion, name: str) -> SplitDifference:
    sizes = [cohort_sizes(side, name) if name in side.card.splits else {} for side in (old, new)]
    rows = [side.card.splits[name].rows if name in side.card.splits else 0 for side in (old, new)]
    added, removed, changed, reordered = _compare(old, new, name)
    return SplitDifference(
        rows=(rows[0], rows[1]),
        added=added,
        removed=removed,
        changed=changed,
        reordered=reordered,
        cohorts={
            cohort: (sizes[0].get(cohort, 0), sizes[1].get(cohort, 0))
            for cohort in sorted({*sizes[0], *sizes[1]})
        },
    )


def _compare(old: DatasetVersion, new: DatasetVersion, name: str) -> tuple[Ids, Ids, Ids, bool]:
    """Return added, removed and changed rows, and whether the order of the others differs."""
    added, removed, changed = Ids(0, []), Ids(0, []), Ids(0, [])
    # Position and digest in one value: a million tuples would cost as much as the rows.
    rows = {
        fingerprint(example.id): position.to_bytes(8) + _digest(example)
        for position, example in enumerate(_examples(old, name))
    }
    last, reordered = -1, False
    for example in _examples(new, name):
        found = rows.pop(fingerprint(example.id), None)
        if found is None:
            added.add(example.id)
            continue
        position, digest = int.from_bytes(found[:8]), found[8:]
        reordered, last = reordered or position < last, position
        if digest != _digest(example):
            changed.add(example.id)
    if rows:
        for example in _examples(old, name):
            if fingerprint(example.id) in rows:
                removed.add(example.id)
                if len(removed.first) == min(SHOWN, len(rows)):
                    break
        removed.count = len(rows)
    return added, removed, changed, reordered


def _examples(side: DatasetVersion, name: str) -> Iterator[Example]:
    """Yield the rows of a split and close it: two mapped files would take twice the memory."""
    if name in side.card.splits:
        yield from side.split(name)


def _digest(example: Example) -> bytes:
    return fingerprint(row_text(row_of(example)))
