"""Check the rows of a split, one line at a time."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftreg.data.chat_checks import check_messages, check_tools
from ftreg.errors import UsageError, did_you_mean, shown
from ftreg.files.store import canonical_json, read_jsonl
from ftreg.records.samples import Example
from ftreg.records.turns import Turn, answer_turn, asked_in, said

KEYS = ("id", "input", "messages", "tools", "reference", "context", "tags", "critical")


def fingerprint(text: str) -> bytes:
    """Return 16 bytes that represent a text: small enough to keep them for a million rows."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class UniqueIds:
    """The ids seen so far, at 16 bytes each whatever their length."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def add(self, name: str) -> bool:
        """Note an id, and return whether it is new."""
        before = len(self._seen)
        self._seen.add(fingerprint(name))
        return len(self._seen) > before


def read_examples(path: Path) -> Iterator[Example]:
    """Yield the checked examples of a JSONL file, streaming.

    Raises:
        UsageError: a broken line, an unknown or missing key, a wrong type, or a duplicate id; gives
            file and line.
    """
    ids = UniqueIds()
    for number, row in read_jsonl(path):
        example = check_row(row, place=f"{path}:{number}")
        if not ids.add(example.id):
            first = next(line for line, row in read_jsonl(path) if row.get("id") == example.id)
            raise UsageError(
                f"{path}:{number}: duplicate id {shown(example.id)} (first on line {first})"
            )
        yield example


def row_of(example: Example) -> dict[str, Any]:
    """Return the row from which `check_row` makes this example; empty fields are left out."""
    row: dict[str, Any] = {"id": example.id}
    references = example.references
    if example.messages:
        row["messages"] = [dict(turn) for turn in example.messages]
        if example.tools:
            row["tools"] = list(example.tools)
        references = references[example.answer is not None :]
    else:
        row["input"] = example.input
    if references:
        row["reference"] = list(references) if len(references) > 1 else references[0]
    if example.context is not None:
        row["context"] = example.context
    if example.tags:
        row["tags"] = dict(example.tags)
    if example.critical:
        row["critical"] = True
    return row


def row_text(row: Mapping[str, Any]) -> str:
    """Return a row as a line of JSON, equal for equal rows.

    Turns and tools keep the order of their keys, since chat templates render them in that order.
    """
    order = {key: row[key] for key in row if key in ("messages", "tools")}
    rest = canonical_json({key: value for key, value in row.items() if key not in order})
    if not order:
        return rest
    kept = json.dumps(order, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"{rest[:-1]},{kept[1:]}"


def check_row(row: dict[str, Any], *, place: str) -> Example:
    """Check one row and return its example.

    Args:
        row: as it is in a JSONL file.
        place: file and line, for the message.

    Raises:
        UsageError: an unknown or missing key, or a wrong type.
    """
    for key in row:
        if key not in KEYS:
            raise UsageError(
                f"{place}: {shown(key)} is not a field of a row{did_you_mean(key, KEYS)} "
                f"(fields: {', '.join(KEYS)})"
            )

    def text(key: str, *, required: bool) -> str | None:
        value = row.get(key)
        if value is None and not required:
            return None
        if not isinstance(value, str) or (required and not value.strip()):
            found = "it is missing" if value is None else f"found {shown(value)}"
            raise UsageError(f"{place}: {key!r} must be a non-empty string; {found}")
        return value

    reference = row.get("reference")
    references = [reference] if isinstance(reference, str) else reference
    if references is not None and not (
        isinstance(references, list)
        and references
        and all(isinstance(item, str) and item.strip() for item in references)
    ):
        raise UsageError(
            f"{place}: 'reference' must be a string or a list of accepted strings, none empty"
        )
    tags = row.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise UsageError(f"{place}: 'tags' must map tag names to strings")
    critical = row.get("critical", False)
    if not isinstance(critical, bool):
        raise UsageError(f"{place}: 'critical' must be true or false, found {shown(critical)}")
    name = str(text("id", required=True))
    messages, tools = _chat_of(row, place=place)
    answer = answer_turn(messages)
    asked = asked_in(messages)
    return Example(
        id=name,
        input=asked[-1] if asked else str(text("input", required=True)),
        references=(*(() if answer is None else (said(answer),)), *(references or ())),
        context=text("context", required=False),
        tags=tags,
        critical=critical,
        messages=messages,
        tools=tools,
    )


def _chat_of(
    row: dict[str, Any], *, place: str
) -> tuple[tuple[Turn, ...], tuple[dict[str, Any], ...]]:
    """Return turns and tools of a row; empty if it is an input and not a chat."""
    if "messages" in row and "input" in row:
        raise UsageError(f"{place}: a row has either 'input' or 'messages', but this one has both")
    if "messages" not in row and "tools" in row:
        raise UsageError(f"{place}: 'tools' need 'messages', which this row does not have")
    if "messages" not in row:
        return (), ()
    tools = check_tools(row.get("tools"), place=place)
    return check_messages(row["messages"], tools, place=place), tools
