"""Aligned scores: one row per example, sorted by id, whatever the input order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftreg.errors import UsageError
from ftreg.gate.units import DECIMALS, Floats
from ftreg.records.samples import Cell, Scores

Positions = NDArray[np.int64]

_NUMBERS = (float, int, np.number, type(None))


@dataclass(frozen=True, slots=True)
class AlignedScores:
    """One side of a comparison: scorer to scores, NaN if missing.

    Their shape is (examples,), or (examples, seeds) if several seeds were trained. `levels` are the
    numbers of distinct scores that scorers say they can give, None for any number.
    """

    ids: Sequence[str]
    columns: Mapping[str, Floats]
    levels: Mapping[str, int | None] = field(default_factory=dict)


def all_ids(*sides: Scores) -> list[str]:
    """Return the example ids of all scorers of all sides, sorted.

    Raises:
        UsageError: an id is not a string.
    """
    found: set[str] = set().union(*(scores for side in sides for scores in side.values()))
    for name in found:
        if not isinstance(name, str):
            raise UsageError(f"the example id {name!r} is not a string; write {str(name)!r}")
    return sorted(found)


def read_side(scores: Scores, ids: Sequence[str], *, side: str) -> AlignedScores:
    """Align one side's scores with `ids` and check them.

    Args:
        scores: as given to `compare`.
        ids: the rows of the table; scores of other examples are left out.
        side: "baseline", "candidate" or "anchor", for messages.

    Raises:
        UsageError: a score is NaN, infinite, outside [0, 1] or not a number, or the examples have
            different numbers of seeds; names the scorer and id.
    """
    return AlignedScores(
        ids,
        {name: _column(values, ids, f"{side}, {name}") for name, values in sorted(scores.items())},
    )


def seeds_of(column: Floats) -> int:
    """Return the number of seeds in a column."""
    return column.shape[1] if column.ndim > 1 else 1


def mean_over_seeds(column: Floats) -> Floats:
    """Return the mean over the seeds, shape (examples,); NaN if a seed lacks its score."""
    return column if column.ndim == 1 else np.asarray(column.mean(axis=1))


def lost_and_won(old: Floats, new: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the examples where only `new` lacks a score, and those where only `old` does."""
    return ~np.isnan(old) & np.isnan(new), np.isnan(old) & ~np.isnan(new)


def at_worst(old: Floats, new: Floats) -> tuple[Floats, Floats]:
    """Return both sides, with scores missing on one side only at their worst: 0 new, 1 old."""
    lost, won = lost_and_won(old, new)
    return np.where(won, 1.0, old), np.where(lost, 0.0, new)


def collapsed(old: Floats, new: Floats, *, drop: float) -> NDArray[np.bool_]:
    """Return which examples dropped by at least `drop`; a score missing in `new` counts as 0."""
    return np.asarray(np.nan_to_num(new) - old <= -drop + 10.0**-DECIMALS)


def _column(scores: Mapping[str, Cell], ids: Sequence[str], where: str) -> Floats:
    found = [scores.get(name) for name in ids]
    if any(issubclass(kind, list | tuple) for kind in set(map(type, found))):
        return _columns_by_seed(found, ids, where)
    return _numbers(found, ids, where)


def _columns_by_seed(found: Sequence[Any], ids: Sequence[str], where: str) -> Floats:
    named, count = next(
        (name, len(cell))
        for name, cell in zip(ids, found, strict=True)
        if isinstance(cell, list | tuple)
    )
    if not count:
        raise UsageError(f"{where}: example {named!r} has an empty list of scores; give one a seed")
    rows = [[None] * count if cell is None else cell for cell in found]
    for name, cell in zip(ids, rows, strict=True):
        if not isinstance(cell, list | tuple) or len(cell) != count:
            raise UsageError(
                f"{where}: example {named!r} has a list of scores, one for each of {count} seeds, "
                f"and {name!r} has not; give every example as many, or null"
            )
    columns: list[Floats] = [
        _numbers([cell[seed] for cell in rows], ids, f"{where}, seed {seed + 1} of {count}")
        for seed in range(count)
    ]
    # In a fixed order, so that the order of the seeds does not change the last bit.
    columns.sort(key=lambda column: column.tobytes())
    return np.stack(columns, axis=1)


def _numbers(found: Sequence[Any], ids: Sequence[str], where: str) -> Floats:
    numbers = all(issubclass(kind, _NUMBERS) for kind in set(map(type, found)))
    # None becomes NaN; other non-numbers are replaced so that the next line finds them.
    column = np.array(
        found if numbers else [x if isinstance(x, _NUMBERS) else np.nan for x in found],
        dtype=np.float64,
    )
    for position in np.flatnonzero(~((column >= 0) & (column <= 1))).tolist():
        if found[position] is not None:
            raise UsageError(
                f"{where}: the score of example {ids[position]!r} is {found[position]!r}; a score "
                "lies in [0, 1], or is null where it could not be computed"
            )
    return column


def slices(
    ids: Sequence[str], cohorts: Mapping[str, Mapping[str, str]] | None
) -> dict[str, Positions]:
    """Return the positions of the examples of each cohort, by `tag=value`, sorted by name.

    Raises:
        UsageError: the cohorts name an unknown example, or a tag contains "=".
    """
    cohorts = cohorts or {}
    unknown = sorted(cohorts.keys() - set(ids))
    if unknown:
        raise UsageError(f"cohorts names examples that neither side has: {some(unknown)}")
    members: dict[str, list[int]] = {}
    for position, name in enumerate(ids):
        for tag, value in cohorts.get(name, {}).items():
            if "=" in tag:
                raise UsageError(f"the tag {tag!r} of example {name!r} contains '='; rename it")
            members.setdefault(f"{tag}={value}", []).append(position)
    return {name: np.array(members[name], dtype=np.int64) for name in sorted(members)}


def cluster_numbers(
    ids: Sequence[str],
    clusters: Mapping[str, str] | None,
    *,
    needed: Sequence[str] | None = None,
) -> Positions | None:
    """Return the cluster of each example as a number, or None without clusters.

    Args:
        ids: the rows of the table.
        clusters: example id to cluster.
        needed: the examples that need one; others may get -1. None means all.

    Raises:
        UsageError: an example has no cluster.
    """
    if clusters is None:
        return None
    absent = [name for name in needed or ids if name not in clusters]
    if absent:
        raise UsageError(
            f"example {absent[0]!r} has no cluster, and so have {len(absent) - 1} others; "
            "give every example one, or compare without clusters"
        )
    # Numbered by name, so that the order of the mapping does not matter.
    names = sorted({clusters[name] for name in ids if name in clusters})
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers.get(clusters.get(name, ""), -1) for name in ids], dtype=np.int64)


def some(names: Iterable[str], *, limit: int = 5) -> str:
    """Return the first few of `names` for a sentence: "a, b and 3 more"."""
    listed = list(names)
    shown = ", ".join(listed[:limit])
    return shown if len(listed) <= limit else f"{shown} and {len(listed) - limit} more"
