"""Map the columns of a source to the fields of a row."""

import datetime
import decimal
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftreg.data.row_checks import check_row
from ftreg.data.sources.chats import (
    TOOL_COLUMNS,
    chat_of,
    parsed_if_json,
    refuse_preferences,
    tools_of,
    turns_of,
)
from ftreg.errors import UsageError, did_you_mean, shown
from ftreg.files import marked_yaml
from ftreg.files.store import digest
from ftreg.records.turns import SYSTEM_ROLES

FIELDS = ("id", "input", "messages", "tools", "reference", "context", "critical")
_ABSENT = object()
_PLAIN_FIELDS = ("id", "input", "reference", "context", "critical", "tags")
# `messages[-1].content`, `documents[*].text`
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d{1,9}|\*)\]")
_OF_SPLIT = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*):(.+)")
_LONGEST_NAME = 60
_MOST_NAMES = 30


def parse_mapping(pairs: Iterable[str], file: Path | None = None) -> dict[str, str]:
    """Return field to column, from `field=column` texts that override a YAML file.

    A field may apply to one split, `eval:input`; see `mapping_of`.

    Args:
        pairs: `input=question`, `tags.difficulty=level`; they override the file.
        file: YAML with the same fields as keys, tags below `tags`.

    Raises:
        UsageError: another format, or a field that rows do not have; gives the line.
    """
    mapping: dict[str, str] = {}
    if file is not None:
        document = marked_yaml.read(file)
        for field, column in document.data.items():
            place = document.marks[(field,)]
            inner = column if field == "tags" and isinstance(column, Mapping) else None
            items = {f"tags.{tag}": of for tag, of in inner.items()} if inner else {field: column}
            for key, of in items.items():
                mapping[_field(str(key), place)] = _column(of, f"{place}: {key}")
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not equals:
            raise UsageError(f"--map {pair}: write FIELD=COLUMN, as in --map input=question")
        mapping[_field(field.strip(), f"--map {pair}")] = _column(column, f"--map {pair}")
    return mapping


def mapping_of(split: str, mapping: Mapping[str, str]) -> dict[str, str]:
    """Return the mapping of a split: entries for all splits, overridden by those for this one."""
    general = {field: column for field, column in mapping.items() if _split_of(field) is None}
    own = {
        field.partition(":")[2]: column
        for field, column in mapping.items()
        if _split_of(field) == split
    }
    return {**general, **own}


def check_splits_of(mapping: Mapping[str, str], splits: Iterable[str]) -> None:
    """Check that a mapping names no other splits than these.

    Raises:
        UsageError: it does.
    """
    known = list(splits)
    for field in mapping:
        split = _split_of(field)
        if split is not None and split not in known:
            raise UsageError(
                f"--map {field}: there is no split {shown(split)}{did_you_mean(split, known)} "
                f"(splits: {', '.join(known)})"
            )


def _split_of(field: str) -> str | None:
    match = _OF_SPLIT.fullmatch(field)
    return match[1] if match else None


def _field(name: str, place: str) -> str:
    if match := _OF_SPLIT.fullmatch(name):
        return f"{match[1]}:{_field(match[2], place)}"
    if name not in (*FIELDS, "tags") and not (name.startswith("tags.") and name != "tags."):
        raise UsageError(
            f"{place}: {shown(name)} is not a field of a row{did_you_mean(name, FIELDS)} "
            f"(fields: {', '.join(FIELDS)}, tags, tags.NAME)"
        )
    return name


def _column(name: object, place: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"{place}: expected the name of a column, found {shown(name)}")
    return name.strip()


class Mapper:
    """Converts the rows of a source.

    An unmapped field is read from the column of the same name, if there is one. Nested columns are
    named by a path, `answers.text` or `messages[-1].content`. Numbers, booleans and dates become
    text. A row without an input is a chat, read from the usual columns for chats.
    """

    def __init__(
        self,
        mapping: Mapping[str, str],
        columns: Iterable[str] | None,
        *,
        source: str,
        padded: bool = False,
    ) -> None:
        """Keep the mapping.

        Args:
            mapping: field to column, for one split.
            columns: of the source, if all rows have the same.
            source: its name, for messages.
            padded: whether missing keys are nulls, as in Parquet.

        Raises:
            UsageError: a mapped column is not among `columns` (if these are known).
        """
        self._source, self._padded = source, padded
        self._explicit = set(mapping)
        implicit = {field: field for field in _PLAIN_FIELDS if field not in mapping}
        self._mapping = {**implicit, **mapping}
        self._found: set[str] = set()
        self._used: set[str] = set()
        self._keys: dict[str, None] = {}
        self.seen: dict[str, None] = dict.fromkeys(columns or ())
        """The existing columns, in order."""
        for field, column in mapping.items() if columns is not None else ():
            if not {column, _first_of(column)} & self.seen.keys():
                raise self._no_column(field, source)

    def row(self, given: Mapping[str, Any], *, place: str) -> dict[str, Any]:
        """Return the converted row, with an id derived from its content if it has none.

        Raises:
            UsageError: it has neither an input nor a chat, or an unreadable chat.
        """
        for column in given:
            self.seen.setdefault(column)
        row = self._chat(given, place=place)
        tags: dict[str, Any] = {}
        for field, column in self._mapping.items():
            if field in ("messages", "tools") or (field == "input" and "messages" in row):
                continue
            value = _lookup(given, column)
            if value is _ABSENT:
                if field == "input":
                    refuse_preferences(given, place=place)
                    raise self._no_column(field, place)
                value = None
            else:
                self._found.add(field)
            if field == "tags" and isinstance(value, Mapping):
                tags = {**{str(tag): _plain(item) for tag, item in value.items()}, **tags}
            elif field.startswith("tags."):
                tags[field.removeprefix("tags.")] = _plain(value)
            elif (converted := _CONVERT.get(field, _plain)(value)) is not None:
                row[field] = converted
        tags = {tag: value for tag, value in tags.items() if value is not None}
        if tags:
            row["tags"] = {**row.get("tags", {}), **tags}
        if "id" not in row and "id" not in self._explicit:
            row["id"] = _content_id(row, place=place)
        return row

    def _chat(self, given: Mapping[str, Any], *, place: str) -> dict[str, Any]:
        """Return the turns and the tools of a row; empty if it is an input and not a chat."""
        if "messages" in self._explicit:
            value = _lookup(given, self._mapping["messages"])
            if value is _ABSENT or value is None:
                raise self._no_column("messages", place)
            self._found.add("messages")
        elif "input" in self._explicit or given.get("input") is not None:
            return {}
        else:
            value, columns = chat_of(given)
            if value is None:
                return {}
            self._used.update(columns)
        turns, ignored = turns_of(value, padded=self._padded, place=place)
        self._keys |= dict.fromkeys(sorted(ignored))
        if isinstance(given.get("system"), str) and given["system"].strip() and turns:
            self._used.add("system")  # beside ShareGPT's conversations
            if turns[0]["role"] not in SYSTEM_ROLES:
                turns.insert(0, {"role": "system", "content": given["system"]})
        return {"messages": turns, **self._tools(given)}

    def _tools(self, given: Mapping[str, Any]) -> dict[str, Any]:
        columns = [self._mapping["tools"]] if "tools" in self._explicit else TOOL_COLUMNS
        for column in columns:
            value = _lookup(given, column)
            if value is not _ABSENT:
                self._used.add(column)
                self._found.add("tools")
            if value is not _ABSENT and (tools := tools_of(value, padded=self._padded)):
                return {"tools": tools}
        return {}

    def finish(self) -> list[str]:
        """Return the unused columns.

        Raises:
            UsageError: a mapped column was in no row.
        """
        for field in sorted(self._explicit - self._found):
            raise self._no_column(field, self._source)
        used = {*self._mapping.values(), *self._used}
        used |= {_first_of(column) for column in used - self.seen.keys()}
        columns = [column for column in self.seen if column not in used]
        return [*columns, *(f"messages[].{key}" for key in self._keys)]

    def _no_column(self, field: str, place: str) -> UsageError:
        column = self._mapping[field]
        known = list(self.seen)
        hint = did_you_mean(column, known)
        if field in self._explicit:
            problem = f"{field} is mapped to the column {shown(column)}, which does not exist{hint}"
        else:
            problem = (
                f"there is no column 'input'; select one with --map {field}=COLUMN, or a column "
                "of chats with --map messages=COLUMN"
            )
        return UsageError(f"{place}: {problem} (columns: {listed(known)})")


def _content_id(row: dict[str, Any], *, place: str) -> str:
    try:
        return digest(row)[:16]
    except (TypeError, ValueError, RecursionError):
        check_row({**row, "id": "-"}, place=place)  # reports a field that is not a text
        raise


def listed(names: Sequence[str]) -> str:
    """Return column names for messages: the first few, with long ones cut."""
    short = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..." for name in names]
    rest = len(names) - _MOST_NAMES
    return ", ".join(short[:_MOST_NAMES]) + (f", and {rest} more" if rest > 0 else "")


def _first_of(path: str) -> str:
    """Return the column that a path begins with."""
    match = _STEP.match(path)
    return match[1] or path if match else path


def _lookup(row: Mapping[str, Any], path: str) -> Any:
    """Return the value of a column or path; `_ABSENT` if it does not exist."""
    if path in row:
        return row[path]
    steps, place = [], 0
    while place < len(path):
        match = _STEP.match(path, place)
        if match is None:
            return _ABSENT
        steps.append((match[1], match[2]))
        place = match.end()
    return _reached(row, steps)


def _reached(value: Any, steps: Sequence[tuple[str | None, str | None]]) -> Any:
    """Follow a path, in which each step is a key or a list index."""
    for number, (key, place) in enumerate(steps):
        value = parsed_if_json(value)
        if key is not None:
            if not isinstance(value, Mapping) or key not in value:
                return _ABSENT
            value = value[key]
            continue
        if not isinstance(value, list | tuple):
            return _ABSENT
        if place == "*":
            found = [_reached(item, steps[number + 1 :]) for item in value]
            return [item for item in found if item is not _ABSENT]
        index = int(str(place))
        if not -len(value) <= index < len(value):
            return _ABSENT
        value = value[index]
    return value


def _plain(value: Any) -> Any:
    """Return a number, boolean or date as text, NaN as None, any other value unchanged."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return None if math.isnan(value) else repr(value)
    if isinstance(value, int | decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value


def _reference(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value if item is not None] or None
    return _plain(value)


def _context(value: Any) -> Any:
    """Return a text; several passages are joined with a blank line, without empty ones."""
    if isinstance(value, list | tuple) and all(isinstance(item, str | None) for item in value):
        return "\n\n".join(item for item in value if item and item.strip()) or None
    return _plain(value)


def _critical(value: Any) -> Any:
    """Return a boolean, also from text or 0 and 1, since CSV has no booleans."""
    text = str(_plain(value)).strip().lower()
    return {"true": True, "1": True, "false": False, "0": False}.get(text, value)


_CONVERT = {"context": _context, "reference": _reference, "critical": _critical}
