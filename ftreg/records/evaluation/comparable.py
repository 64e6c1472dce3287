"""Whether the scores of two evaluations can be compared, and what stands against it."""

from collections.abc import Mapping
from typing import Any

from ftreg.records.samples import Scores

# Rows of one side that a message names.
_MOST_ROWS = 5

# What two evaluations have to share before their scores can be compared, as paths in the header.
_COMPARABLE = (
    ("dataset", "version"),
    ("dataset", "digest"),
    ("dataset", "split"),
    ("dataset", "rows_digest"),
    ("generation", "engine"),
    ("generation", "max_new_tokens"),
    ("generation", "precision"),
)
# What a header that lacks a key means: one of before the key came, or of a server.
_ABSENT: dict[tuple[str, ...], Any] = {("generation", "kernels"): "auto"}


def header_differences(
    baseline: Mapping[str, Any],
    candidate: Mapping[str, Any],
    *,
    places: tuple[str, str] = ("the baseline", "the candidate"),
) -> list[str]:
    """Say what makes two evaluations incomparable, a line per field with both values.

    Args:
        baseline: an evaluation's header.
        candidate: another's.
        places: what the lines call them.
    """
    found = []
    first, second = places
    paths = [*_COMPARABLE]
    if baseline["generation"]["precision"] != "fp32":
        # In bf16 an output depends on what it is batched with, and on what adds it up.
        paths += [("generation", "batch_size"), ("generation", "kernels")]
    for path in paths:
        old, new = _at(baseline, path), _at(candidate, path)
        if old != new:
            found.append(f"{'.'.join(path)}: {old} in {first}, {new} in {second}")
    for name, old in baseline["scorers"].items():
        new = candidate["scorers"].get(name, old)  # a scorer on one side only is the gate's matter
        found.extend(
            f"scorers.{name}.{key}: {old.get(key)} in {first}, {new.get(key)} in {second}"
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        )
    return found


def _at(header: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = header
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return _ABSENT.get(path) if value is None else value


def rows_of_one_side(first: Scores, second: Scores, *, places: tuple[str, str]) -> list[str]:
    """Name the rows that only one of two evaluations has, a line for either."""
    old, new = ({key for column in scores.values() for key in column} for scores in (first, second))
    lines = []
    for only, place in zip((old - new, new - old), places, strict=True):
        if only:
            named = ", ".join(sorted(only)[:_MOST_ROWS])
            more = f" and {len(only) - _MOST_ROWS} more" if len(only) > _MOST_ROWS else ""
            lines.append(f"rows in {place} only: {named}{more}")
    return lines
