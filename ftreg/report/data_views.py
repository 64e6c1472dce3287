"""Dataset versions on the terminal: cards, histograms, differences, leaks; at 80 columns."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ftreg.data.card import Card
from ftreg.data.differences import Difference, Ids
from ftreg.data.leakage import Leakage
from ftreg.report.terminal import bare_table, facts_table, rows_view

_BAR = 24
_MOST_VALUES = 12
_MOST_LEAKS = 10

Bins = Sequence[tuple[str, int]]


def _table(*columns: str) -> Table:
    """A table with a left-aligned first column and right-aligned others."""
    table = bare_table()
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def _bars(title: str, bins: Bins) -> RenderableType:
    """A histogram: label, count, and a bar in proportion to the largest count."""
    table = _table("", "rows")
    table.add_column("", no_wrap=True)
    most = max((count for _, count in bins), default=0)
    for label, count in bins:
        # Anything above zero is visible, however small compared with the largest.
        table.add_row(label, f"{count:,}", "█" * (count and max(1, round(_BAR * count / most))))
    return Group(Text(title, "bold"), table)


def _cohort_bins(sizes: Mapping[str, int], tag: str) -> list[tuple[str, int]]:
    """The values of one tag, the largest first."""
    found = [
        (cohort.partition("=")[2], count)
        for cohort, count in sizes.items()
        if cohort.startswith(f"{tag}=")
    ]
    found.sort(key=lambda item: (-item[1], item[0]))
    rest = found[_MOST_VALUES:]
    if rest:
        found = [*found[:_MOST_VALUES], (f"{len(rest)} more", sum(count for _, count in rest))]
    return [(f"{tag}={value}" if not value.endswith(" more") else value, n) for value, n in found]


def dataset_view(
    card: Card,
    sizes: Mapping[str, Mapping[str, int]],
    lengths: Mapping[str, Mapping[str, Mapping[str, int]]],
) -> RenderableType:
    """A version's card, and histograms of its cohorts and of its text lengths.

    Args:
        card: of the version.
        sizes: split to cohort to rows.
        lengths: split to field to range of lengths in characters to number of texts.
    """
    facts = facts_table()
    for key in ("description", "source", "changes", "license"):
        facts.add_row(key, getattr(card, key))
    facts.add_row("digest", card.digest)
    for name, split in card.splits.items():
        facts.add_row(name, f"{split.rows:,} rows")
    parts: list[RenderableType] = [Text(f"{card.name}@{card.version}", "bold"), facts]
    for name in card.splits:
        for tag in card.cohorts:
            parts += ["", _bars(f"{name}: {tag}", _cohort_bins(sizes[name], tag))]
        for field, bins in lengths[name].items():
            if bins:
                parts += ["", _bars(f"{name}: characters of {field}", list(bins.items()))]
    return Group(*parts)


def difference_view(found: Difference) -> RenderableType:
    """What differs between two versions, by split."""
    parts: list[RenderableType] = [Text(f"{found.old} -> {found.new}", "bold")]
    for key, (old, new) in found.card.items():
        parts.append(Text(f"card: {key}: {old!r} -> {new!r}"))
    table = _table("split", "before", "after", "added", "removed", "changed")
    for name, split in found.splits.items():
        counts = (*split.rows, split.added.count, split.removed.count, split.changed.count)
        table.add_row(name, *(f"{count:,}" for count in counts))
    parts += ["", table]
    for name, split in found.splits.items():
        for what in ("added", "removed", "changed"):
            ids: Ids = getattr(split, what)
            if ids.count:
                more = f" and {ids.count - len(ids.first):,} more" * (ids.count > len(ids.first))
                parts.append(Text(f"{name}, {what}: {', '.join(ids.first)}{more}"))
        if split.reordered:
            parts.append(Text(f"{name}: the rows that stayed are in another order"))
        moved = [
            {"cohort": cohort, "before": old, "after": new, "change": f"{new - old:+,}"}
            for cohort, (old, new) in split.cohorts.items()
            if old != new
        ]
        if moved:
            parts += ["", rows_view(f"{name}: cohorts of another size, in rows", moved)]
    return Group(*parts)


def leakage_view(found: Leakage, *, train: str, held_out: str) -> RenderableType:
    """The leaked rows of a held-out split, the first ones with their twins."""
    title = Text(f"{held_out} against {train}:\n{found.summary()}")
    if not found.leaks:
        return title
    table = _table("row", "in training", "how", "Jaccard")
    for leak in found.leaks[:_MOST_LEAKS]:
        table.add_row(leak.id, leak.train_id, leak.kind, f"{leak.jaccard:.2f}")
    rest = len(found.leaks) - _MOST_LEAKS
    return Group(title, "", table, *([f"and {rest:,} more; --json has all"] if rest > 0 else []))
