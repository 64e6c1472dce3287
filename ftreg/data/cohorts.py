"""The cohorts and clusters of a split."""

from collections import Counter

from ftreg.data.load import DatasetVersion
from ftreg.errors import UsageError, did_you_mean


def check_tags(dataset: DatasetVersion, split: str) -> None:
    """Check that the rows of a split to evaluate have the tags that its card counts on.

    A misspelt cluster would let dependent rows pass for independent ones, and a misspelt cohort
    would hide its regressions.

    Raises:
        UsageError: a row lacks the cluster's tag, or no row has a cohort's.
    """
    card = dataset.card
    place = dataset.folder / card.splits[split].file if split in card.splits else dataset.folder
    seen: set[str] = set()
    for example in dataset.split(split):
        seen.update(example.tags)
        if card.cluster is not None and card.cluster not in example.tags:
            raise UsageError(
                f"{place}: the card's cluster is the tag {card.cluster!r}, which the row "
                f"{example.id!r} does not have{did_you_mean(card.cluster, example.tags)}"
            )
    for tag in card.cohorts:
        if tag not in seen:
            raise UsageError(
                f"{place}: the card's cohorts name the tag {tag!r}, which no row has"
                f"{did_you_mean(tag, seen)}"
            )


def cohort_sizes(dataset: DatasetVersion, split: str) -> dict[str, int]:
    """Return `tag=value` to number of rows, for the tags that form cohorts.

    Raises:
        UsageError: as `DatasetVersion.split`.
    """
    counts: Counter[str] = Counter()
    for example in dataset.split(split):
        counts.update(f"{tag}={value}" for tag, value in dataset.card.cohort_tags(example).items())
    return dict(sorted(counts.items()))
