"""Check the rows of a split, one line at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftreg.errors import UsageError, did_you_mean
from ftreg.records import Example
from ftreg.store import read_jsonl

_KEYS = ("id", "input", "reference", "context", "tags", "critical")


def read_examples(path: Path) -> Iterator[Example]:
    """Yield the checked examples of a JSONL file, streaming.

    Raises:
        UsageError: a broken line, an unknown or missing key, a wrong type, or an id that stands
            twice; names file and line.
    """
    seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        example = _example(row, place=f"{path}:{number}")
        if example.id in seen:
            raise UsageError(
                f"{path}:{number}: the id {example.id!r} stands here for the second time "
                f"(first on line {seen[example.id]})"
            )
        seen[example.id] = number
        yield example


def _example(row: dict[str, Any], *, place: str) -> Example:
    for key in row:
        if key not in _KEYS:
            raise UsageError(
                f"{place}: {key!r} is not a field of a row{did_you_mean(key, _KEYS)} "
                f"(fields: {', '.join(_KEYS)})"
            )

    def text(key: str, *, required: bool) -> str | None:
        value = row.get(key)
        if value is None and not required:
            return None
        if not isinstance(value, str) or (required and not value.strip()):
            found = "it is missing" if value is None else f"found {value!r}"
            raise UsageError(f"{place}: {key!r} has to be a text that is not empty; {found}")
        return value

    reference = row.get("reference")
    references = [reference] if isinstance(reference, str) else reference
    if references is not None and not (
        isinstance(references, list)
        and references
        and all(isinstance(item, str) and item.strip() for item in references)
    ):
        raise UsageError(
            f"{place}: 'reference' has to be a text or a list of accepted texts, none empty"
        )
    tags = row.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise UsageError(f"{place}: 'tags' has to map tag names to texts")
    critical = row.get("critical", False)
    if not isinstance(critical, bool):
        raise UsageError(f"{place}: 'critical' has to be true or false, found {critical!r}")
    return Example(
        id=str(text("id", required=True)),
        input=str(text("input", required=True)),
        references=tuple(references or ()),
        context=text("context", required=False),
        tags=tags,
        critical=critical,
    )
