"""The cohorts and clusters of a split."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ftreg.data.card import Card
from ftreg.data.dataset import DatasetVersion, Split
from ftreg.errors import UsageError, did_you_mean
from ftreg.records.samples import Example


def check_tags(rows: Split, card: Card, *, place: Path) -> None:
    """Check that the rows of a split for evaluation have the tags that its card names.

    With a misspelt cluster, dependent rows would count as independent, and a misspelt cohort would
    hide its regressions.

    Args:
        rows: all rows of the split.
        card: the card of the dataset version.
        place: the split's file, for the message.

    Raises:
        UsageError: a row lacks the cluster's tag, or no row has a cohort's tag.
    """
    seen: set[str] = set()
    for example in rows:
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


def hidden_context_note(rows: Iterable[Example], card: Card) -> str | None:
    """Report how many rows have a context that the model is not shown; None if no row has one."""
    if card.context_from == "input" or "{context}" in card.prompt.user:
        return None  # so that no row is read
    hidden = sum(map(card.hides_context, rows))
    return hidden_contexts(hidden) if hidden else None


def hidden_contexts(count: int) -> str:
    """Return the notice for this many rows whose context the model is not shown."""
    of = "1 row has" if count == 1 else f"{count} rows have"
    return (
        f"{of} a context that the prompt does not show to the model: faithfulness, which compares "
        "outputs with it, is low for every model; put {context} into the prompt's user turn in a "
        "new dataset version"
    )


def cohort_sizes(dataset: DatasetVersion, split: str) -> dict[str, int]:
    """Return `tag=value` to number of rows, for the tags that form cohorts.

    Raises:
        UsageError: as `DatasetVersion.split`.
    """
    counts: Counter[str] = Counter()
    wanted = dataset.card.cohorts
    for tags in dataset.split(split).tags():
        counts.update(f"{tag}={tags[tag]}" for tag in wanted if tag in tags)
    return dict(sorted(counts.items()))
