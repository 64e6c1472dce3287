"""Whether the scores of two evaluations can be compared, and if not, why."""

from collections.abc import Mapping
from typing import Any

from ftreg.records.evaluation.header import made_elsewhere
from ftreg.records.samples import Scores

# Rows of one side that a message names.
_MOST_ROWS = 5

# What two evaluations must have in common to be comparable, as paths in the header.
_COMPARABLE = (
    ("dataset", "version"),
    ("dataset", "digest"),
    ("dataset", "split"),
    ("dataset", "rows_digest"),
    ("generation", "engine"),
    ("generation", "max_new_tokens"),
    ("generation", "precision"),
    ("generation", "template_date"),
)
# What may differ between forms of one checkpoint, whose scores give the cost of the form.
_OF_THE_FORM = (("generation", "engine"), ("generation", "precision"))
# Values of missing keys, in headers from before the key existed or from a server.
_ABSENT: dict[tuple[str, ...], Any] = {
    ("generation", "kernels"): "auto",
    ("thoughts",): "keep",
}


def header_differences(
    baseline: Mapping[str, Any],
    candidate: Mapping[str, Any],
    *,
    places: tuple[str, str] = ("the baseline", "the candidate"),
) -> list[str]:
    """Return what makes two evaluations incomparable, a line per field with both values.

    Args:
        baseline: an evaluation's header.
        candidate: another's.
        places: their names in the lines.
    """
    found = []
    first, second = places
    other_form = is_other_form(baseline, candidate)
    paths: list[tuple[str, ...]] = [
        path for path in _COMPARABLE if not (other_form and path in _OF_THE_FORM)
    ]
    sides = [baseline["generation"], candidate["generation"]]
    batched = sides[0]["precision"] != "fp32" or "cuda" in [side.get("device") for side in sides]
    if batched and not other_form:
        # In bf16, and on a GPU, an output depends on the batch and on the order of sums.
        paths += [("generation", "batch_size"), ("generation", "kernels")]
    if made_elsewhere(baseline) or made_elsewhere(candidate):  # only their maker knows how
        paths = [path for path in paths if path[0] != "generation"]
    if _thinking(baseline, candidate):
        paths += [("thoughts",)]
    for path in paths:
        old, new = _at(baseline, path), _at(candidate, path)
        if old != new:
            found.append(f"{'.'.join(path)}: {old} in {first}, {new} in {second}")
    described = [descriptions_of(side) for side in (baseline, candidate)]
    for name, old in described[0].items():
        new = described[1].get(name, old)  # the gate handles a scorer on one side only
        found.extend(
            f"scorers.{name}.{key}: {old.get(key)} in {first}, {new.get(key)} in {second}"
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        )
    return found


def descriptions_of(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the descriptions of the scorers, including those that queried the model themselves."""
    asked = {name: probe["identity"] for name, probe in header.get("probes", {}).items()}
    return {**header["scorers"], **asked}


def is_other_form(baseline: Mapping[str, Any], candidate: Mapping[str, Any]) -> bool:
    """Whether both evaluations are of one checkpoint, at least one of them of an artefact of it."""
    artefacts = [side["generation"].get("artefact") or {} for side in (baseline, candidate)]
    identities = {side["checkpoint"]["identity"] for side in (baseline, candidate)}
    return len(identities) == 1 and len({item.get("digest") for item in artefacts}) == 2


def is_older(header: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether an evaluation was scored by an older version of a scorer than another."""
    old, new = header["scorers"], other["scorers"]
    return any(_versions(old[name]) < _versions(new[name]) for name in old if name in new)


def unlike_thoughts(header: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return the other's setting of `eval.thoughts` if it prevents comparing the two."""
    setting, wanted = (str(_at(side, ("thoughts",))) for side in (header, other))
    return wanted if setting != wanted and _thinking(header, other) else None


def _versions(identity: Mapping[str, Any]) -> tuple[int, ...]:
    """The versions of scorer and backend, which go up when scores may change."""
    parts = (identity, identity.get("backend"))
    found = (part.get("version") if isinstance(part, Mapping) else 0 for part in parts)
    return tuple(version if isinstance(version, int) else 0 for version in found)


def _thinking(*headers: Mapping[str, Any]) -> bool:
    """Whether thoughts matter at all: without any, scores are the same either way."""
    return all(header.get("thoughts_in") != 0 for header in headers)


def same_configuration(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two descriptions are of a scorer with the same setup, whatever the versions.

    Options that only one of them has were added or removed by a version.
    """
    if old.get("name") != new.get("name"):
        return False
    pairs = [(old.get("options") or {}, new.get("options") or {})]
    backends = [side.get("backend") or {} for side in (old, new)]
    keys = ("name", "base_url", "window", *(["model"] if "base_url" in backends[0] else []))
    pairs.append(({key: backends[0][key] for key in keys if key in backends[0]}, backends[1]))
    return all(
        second[key] == value
        for first, second in pairs
        for key, value in first.items()
        if key in second
    )


def _at(header: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = header
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return _ABSENT.get(path) if value is None else value


def rows_of_one_side(first: Scores, second: Scores, *, places: tuple[str, str]) -> list[str]:
    """Name the rows that only one of two evaluations has, a line for each."""
    old, new = ({key for column in scores.values() for key in column} for scores in (first, second))
    lines = []
    for only, place in zip((old - new, new - old), places, strict=True):
        if only:
            named = ", ".join(sorted(only)[:_MOST_ROWS])
            more = f" and {len(only) - _MOST_ROWS} more" if len(only) > _MOST_ROWS else ""
            lines.append(f"rows in {place} only: {named}{more}")
    return lines
