"""A run's history as numbers to plot: gaps, thinning, a running median."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftreg.files.store import read_jsonl

HISTORY = "history.jsonl"
"""The file of a checkpoint's folder, a line per step."""

# A panel is about 400 pixels wide: two points in each of these buckets lose nothing visible.
_BUCKETS = 400

Step = Mapping[str, Any]


def read_steps(folder: Path) -> list[Step]:
    """Read the history of a checkpoint's folder.

    Raises:
        UsageError: the file is missing, or is not JSONL.
    """
    return [row for _, row in read_jsonl(folder / HISTORY)]


def thin(values: Sequence[float | None]) -> list[int]:
    """Indices of each bucket's lowest and highest value, and of one gap, if any; in order."""
    if len(values) <= 2 * _BUCKETS:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    for bucket in range(_BUCKETS):
        start = bucket * len(values) // _BUCKETS
        end = (bucket + 1) * len(values) // _BUCKETS
        finite = [(value, i) for i in range(start, end) if (value := values[i]) is not None]
        if finite:
            kept |= {min(finite)[1], max(finite)[1]}
        if len(finite) < end - start:
            kept.add(next(i for i in range(start, end) if values[i] is None))
    return sorted(kept)


def running_median(values: Sequence[float | None]) -> dict[int, float | None]:
    """Index to the median of its neighbours, a thirtieth of the run in total (at least five).

    In a long run it is computed only every few steps, over 301 of the neighbours.
    """
    reach = max(2, len(values) // 60)
    indices = {*range(0, len(values), max(1, len(values) // _BUCKETS)), len(values) - 1}
    result: dict[int, float | None] = {}
    for index in sorted(indices):
        near = values[max(0, index - reach) : index + reach + 1]
        finite = [value for value in near[:: max(1, len(near) // 301)] if value is not None]
        result[index] = statistics.median(finite) if finite else None
    return result


def number(value: object) -> float | None:
    """A finite number, or a gap for the values that a history writes as `"nan"` or `"inf"`."""
    try:
        found = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
