"""Make a new dataset version: its number, its checks, its card."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftreg.config.load import validate
from ftreg.data.card import Card
from ftreg.data.reference import DatasetRef, list_refs, parse_ref
from ftreg.errors import UsageError, did_you_mean
from ftreg.files import marked_yaml
from ftreg.files.locks import locked
from ftreg.files.marked_yaml import Document
from ftreg.files.store import sweep_temporaries, write_text
from ftreg.records.printed import Printed, printed
from ftreg.records.samples import Example

CARD = "dataset.yaml"


@printed
class MadeVersion(Printed):
    """What `ftreg data freeze --json` prints."""

    version: str
    """`name@N`, the version that was made."""
    folder: Path
    """Path of its folder."""
    rows: Mapping[str, int]
    """Split to its number of rows."""


@contextlib.contextmanager
def next_version(name: str, root: Path) -> Iterator[DatasetRef]:
    """Hold the lock of a dataset, and yield the version after the newest one.

    Two concurrent processes make two versions: the second one waits here.

    Raises:
        UsageError: the name is not valid for a dataset, or `root` cannot be written.
    """
    try:
        parse_ref(f"{name}@1")
    except UsageError:
        raise UsageError(
            f"{name!r} cannot be a dataset's name: letters, digits, '.', '-' and '_', beginning "
            "with a letter or digit, and without a version (the next one is used)"
        ) from None
    fresh = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    lock = root / f".{name}.lock"
    with locked(lock):
        taken = [
            int(path.name[1:]) for path in (root / name).glob("v*") if path.name[1:].isdecimal()
        ]
        ref = DatasetRef(name, max(taken, default=0) + 1)
        sweep_temporaries(ref.folder(root))
        try:
            yield ref
        except BaseException:
            # A folder that this attempt created is removed with it; others are not empty.
            with contextlib.suppress(OSError):
                (root / name).rmdir()
            if fresh:
                with contextlib.suppress(OSError):
                    lock.unlink()
                    root.rmdir()
            raise


def newest(name: str, root: Path) -> DatasetRef | None:
    """Return the newest version of a dataset that has a card, if there is one."""
    return next((ref for ref in reversed(list_refs(root)) if ref.name == name), None)


def make_card(facts: Mapping[str, Any], *, where: str) -> Card:
    """Validate the contents of a card.

    Raises:
        UsageError: one line per mistake.
    """
    return validate(Card, Document(dict(facts), {}), where=where)


def write_card(folder: Path, card: Card) -> None:
    """Write `dataset.yaml`, without keys that have their defaults."""
    write_text(folder / CARD, marked_yaml.dump(card.model_dump(exclude_defaults=True)))


class RowChecks:
    """What a version's card requires of its rows, checked row by row."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._tags: set[str] = set()

    def check(self, example: Example, *, split: str, place: str) -> None:
        """Check that the prompt can be filled, and that a row for evaluation has its cluster.

        Raises:
            UsageError: one of them fails; gives the location.
        """
        try:
            self._card.prompt.messages(example)
        except ValueError as error:
            raise UsageError(f"{place}: {error}") from error
        self._tags.update(example.tags)
        cluster = self._card.cluster
        if cluster is not None and split != "train" and cluster not in example.tags:
            raise UsageError(
                f"{place}: the card's cluster is the tag {cluster!r}, which this row does "
                f"not have{did_you_mean(cluster, example.tags)}"
            )

    def finish(self, *, where: str) -> None:
        """Check that each cohort's tag occurred on some row.

        Raises:
            UsageError: a tag occurred on no row.
        """
        for tag in self._card.cohorts:
            if tag not in self._tags:
                raise UsageError(
                    f"{where}: the card's cohorts name the tag {tag!r}, which no row has"
                    f"{did_you_mean(tag, self._tags)} (tags: {', '.join(sorted(self._tags))})"
                )
