"""Sizes of the cohorts of a split."""

from collections import Counter

from ftreg.data.load import DatasetVersion


def cohort_sizes(dataset: DatasetVersion, split: str) -> dict[str, int]:
    """Return `tag=value` to number of rows, for the tags that form cohorts.

    Raises:
        UsageError: as `DatasetVersion.split`.
    """
    counts: Counter[str] = Counter()
    for example in dataset.split(split):
        counts.update(f"{tag}={value}" for tag, value in dataset.card.cohort_tags(example).items())
    return dict(sorted(counts.items()))
