"""The noise floor shown with the deltas: the effect of generating again, and nothing else."""

import math
from collections.abc import Mapping
from typing import Any

_TWO_SIDED_95 = 1.96


def noise_of_deltas(
    baseline: Mapping[str, Any], candidate: Mapping[str, Any]
) -> dict[str, float | None]:
    """Return for each scorer the half width of the range with 95 % of such deltas.

    Args:
        baseline: an evaluation's header.
        candidate: another's.

    Returns:
        Scorer to a number on the scale [0, 1], None if no example had a score each time;
        empty if neither side was generated twice.
    """
    errors = errors_of_deltas(baseline, candidate)
    return {
        name: None if error is None else _TWO_SIDED_95 * error for name, error in errors.items()
    }


def errors_of_deltas(
    baseline: Mapping[str, Any], candidate: Mapping[str, Any]
) -> dict[str, float | None]:
    """Return for each scorer the standard error that generating again adds to a mean delta.

    A delta has the noise of both sides. A side where it was not measured is assumed to have the
    other's.

    Args:
        baseline: an evaluation's header.
        candidate: another's.

    Returns:
        Scorer to a number on the scale [0, 1], None if no example had a score each time;
        empty if neither side was generated twice.
    """
    old, new = (_errors(header) for header in (baseline, candidate))
    found: dict[str, float | None] = {}
    for name in {**new, **old}:
        errors = [side[name] for side in (old, new) if side.get(name) is not None]
        known = [error for error in errors if error is not None]
        found[name] = math.hypot(known[0], known[-1]) if known else None
    return found


def noise_width(value: float | None) -> str:
    """A half width in points: `0.0042` is `±0.4`."""
    return "-" if value is None else f"±{100 * value:.1f}"


def noise_origin(baseline: Mapping[str, Any], candidate: Mapping[str, Any]) -> str:
    """How it was measured, in a few words; empty if it was not."""
    records = [record for header in (candidate, baseline) if (record := _record(header))]
    if not records:
        return ""
    both = "" if len(records) == 2 else ", of one side only"
    return f"what generating again does to a delta in 95 % of cases, from {_counts(records)}{both}"


def noise_line(baseline: Mapping[str, Any], candidate: Mapping[str, Any]) -> str:
    """The noise floor in one sentence; empty if it was not measured."""
    found = noise_of_deltas(baseline, candidate)
    widths = ", ".join(f"{name} {noise_width(value)}" for name, value in found.items())
    return widths and f"Noise floor: {widths} points ({noise_origin(baseline, candidate)})"


def _counts(records: list[Mapping[str, Any]]) -> str:
    counts = sorted({record["repeats"] for record in records})
    return f"{' and '.join(map(str, counts))} repeats"


def _record(header: Mapping[str, Any]) -> Mapping[str, Any]:
    record: Mapping[str, Any] = header.get("noise") or {}
    return record


def _errors(header: Mapping[str, Any]) -> dict[str, float | None]:
    scorers = _record(header).get("scorers", {})
    return {name: measured["standard_error"] for name, measured in scorers.items()}
