"""What `ftreg data list`, `show` and `leaks` show of dataset versions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ftreg.data import list_refs, load_dataset
from ftreg.data.card import Card
from ftreg.data.cohorts import cohort_sizes
from ftreg.data.leakage import Leakage, find_leaks
from ftreg.errors import UsageError
from ftreg.records.printed import Printed, printed
from ftreg.records.samples import PRINTED_SCHEMA

_FIELDS: tuple[Literal["input", "reference", "context"], ...] = ("input", "reference", "context")


@printed
class ListedDataset:
    """A dataset version."""

    version: str
    """`name@N`."""
    rows: Mapping[str, int]
    """Split to its number of rows, as the card says."""
    license: str
    """SPDX expression."""
    cohorts: list[str]
    """The tags whose values form cohorts."""


@printed
class DatasetList(Printed):
    """What `ftreg data list --json` prints."""

    datasets: tuple[ListedDataset, ...]
    """By name, then by version."""


class ShownDataset(Card):
    """What `ftreg data show --json` prints: the card, and what is in the splits."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    schema_version: int
    """Version of this form; it goes up when the meaning of a key does."""
    # The card computes a property of that name, which no field may replace.
    card_digest: Annotated[str, Field(serialization_alias="digest")]
    """Hex digest of what an evaluation depends on: rows, prompt, context and clusters."""
    cohort_sizes: dict[str, dict[str, int]]
    """Split to cohort, `tag=value`, to its number of rows."""
    lengths: dict[str, dict[str, dict[str, int]]]
    """Split to field (`input`, `reference`, `context`) to a histogram: length in characters, as
    `64-127`, to the number of texts. A row has as many texts of `reference` as accepted answers."""


@dataclass(frozen=True, kw_only=True)
class DatasetLeaks(Leakage, Printed):
    """What `ftreg data leaks --json` prints."""

    version: str
    """`name@N`."""
    train_split: str
    """The split to train on."""
    eval_split: str
    """The held-out split."""


def list_datasets(root: Path) -> DatasetList:
    """List the dataset versions below a folder from their cards.

    Raises:
        UsageError: there is no such folder, or a card is invalid.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    cards = (load_dataset(ref, root=root).card for ref in list_refs(root))
    return DatasetList(
        datasets=tuple(
            ListedDataset(
                version=f"{card.name}@{card.version}",
                rows={name: split.rows for name, split in card.splits.items()},
                license=card.license,
                cohorts=card.cohorts,
            )
            for card in cards
        )
    )


def show_dataset(version: str, *, root: Path) -> ShownDataset:
    """Return the card of `name@N`, the sizes of its cohorts, and the lengths of its texts.

    Raises:
        UsageError: no such version, or its files do not match its card.
    """
    dataset = load_dataset(version, root=root)
    card = dataset.card
    return ShownDataset(
        schema_version=PRINTED_SCHEMA,
        card_digest=card.digest,
        cohort_sizes={name: cohort_sizes(dataset, name) for name in card.splits},
        lengths={
            name: {field: _bins(dataset.split(name).lengths(field)) for field in _FIELDS}
            for name in card.splits
        },
        **dict(card),
    )


def _bins(counts: Mapping[int, int]) -> dict[str, int]:
    """Put lengths and their counts in bins that double in width, including empty ones."""
    if not counts:
        return {}
    bins = [0] * (max(counts).bit_length() + 1)
    for length, count in counts.items():
        bins[length.bit_length()] += count
    first = min(counts).bit_length()
    labels = ["0", "1", *(f"{2**n:,}-{2 ** (n + 1) - 1:,}" for n in range(1, len(bins)))]
    return {labels[number]: bins[number] for number in range(first, len(bins))}


def find_dataset_leaks(
    version: str,
    *,
    root: Path,
    train_split: str = "train",
    eval_split: str = "eval",
    advance: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> DatasetLeaks:
    """Find the rows of a held-out split that are also in the training split of `name@N`.

    Args:
        version: `name@N`.
        root: the folder of datasets.
        train_split: the split to train on.
        eval_split: the held-out split.
        advance: called with the stage, the number of training rows done, and their total.

    Raises:
        UsageError: no such version or split, its files do not match its card, or both splits are
            the same.
    """
    if train_split == eval_split:
        raise UsageError(f"--train-split and --eval-split are both {eval_split}")
    dataset = load_dataset(version, root=root)
    found = find_leaks(
        dataset.split(train_split),
        dataset.split(eval_split),
        advance=lambda done, total: advance("comparing", done, total),
    )
    return DatasetLeaks(
        version=version, train_split=train_split, eval_split=eval_split, **vars(found)
    )
