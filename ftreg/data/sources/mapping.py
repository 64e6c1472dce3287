"""From the columns of a source to the fields of a row."""

import datetime
import decimal
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftreg.data.row_checks import check_row
from ftreg.errors import UsageError, did_you_mean, shown
from ftreg.files import marked_yaml
from ftreg.files.store import digest

FIELDS = ("id", "input", "reference", "context", "critical")
_ABSENT = object()
_LONGEST_NAME = 60
_MOST_NAMES = 30


def parse_mapping(pairs: Iterable[str], file: Path | None = None) -> dict[str, str]:
    """Return field to column, from `field=column` texts laid over a YAML file.

    Args:
        pairs: `input=question`, `tags.difficulty=level`; they win over the file.
        file: YAML with the same fields as keys, tags below `tags`.

    Raises:
        UsageError: another form, or a field that a row does not have; names the line.
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


def _field(name: str, place: str) -> str:
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
    """Makes rows of a source's rows.

    A field that is not mapped is taken from the column of its own name, where there is one. A
    column inside another is named with a dot, `answers.text`. Numbers, truth values and dates
    become text.
    """

    def __init__(
        self, mapping: Mapping[str, str], columns: Iterable[str] | None, *, source: str
    ) -> None:
        """Keep the mapping.

        Raises:
            UsageError: a mapped column is not among `columns` (where these are known).
        """
        self._source = source
        self._explicit = set(mapping)
        implicit = {field: field for field in (*FIELDS, "tags") if field not in mapping}
        self._mapping = {**implicit, **mapping}
        self._found: set[str] = set()
        self.seen: dict[str, None] = dict.fromkeys(columns or ())
        """The columns that were there, in order."""
        for field, column in mapping.items() if columns is not None else ():
            if not {column, column.partition(".")[0]} & self.seen.keys():
                raise self._no_column(field, source)

    def row(self, given: Mapping[str, Any], *, place: str) -> dict[str, Any]:
        """Return the row of one row of the source, with an id made of its content if it has none.

        Raises:
            UsageError: the column of the input is not there.
        """
        for column in given:
            self.seen.setdefault(column)
        row: dict[str, Any] = {}
        tags: dict[str, Any] = {}
        for field, column in self._mapping.items():
            value = _lookup(given, column)
            if value is _ABSENT:
                if field == "input":
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

    def finish(self) -> list[str]:
        """Return the columns that were not taken.

        Raises:
            UsageError: a mapped column was in no row.
        """
        for field in sorted(self._explicit - self._found):
            raise self._no_column(field, self._source)
        used = set(self._mapping.values())
        used |= {column.partition(".")[0] for column in used - self.seen.keys()}
        return [column for column in self.seen if column not in used]

    def _no_column(self, field: str, place: str) -> UsageError:
        column = self._mapping[field]
        known = list(self.seen)
        hint = did_you_mean(column, known)
        if field in self._explicit:
            problem = f"{field} is mapped to the column {shown(column)}, which is not there{hint}"
        else:
            problem = f"there is no column 'input'; name the one it is with --map {field}=COLUMN"
        return UsageError(f"{place}: {problem} (columns: {listed(known)})")


def _content_id(row: dict[str, Any], *, place: str) -> str:
    try:
        return digest(row)[:16]
    except (TypeError, ValueError, RecursionError):
        check_row({**row, "id": "-"}, place=place)  # says which field is no text
        raise


def listed(names: Sequence[str]) -> str:
    """Names of columns as messages show them: the first of many, each cut where it is long."""
    short = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..." for name in names]
    rest = len(names) - _MOST_NAMES
    return ", ".join(short[:_MOST_NAMES]) + (f", and {rest} more" if rest > 0 else "")


def _lookup(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or of one inside another; `_ABSENT` where it is not there."""
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _plain(value: Any) -> Any:
    """A number, truth value or date as text; NaN as None; anything else as it is."""
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


def _critical(value: Any) -> Any:
    """A truth value, from text or 0 and 1 too: CSV has no other."""
    text = str(_plain(value)).strip().lower()
    return {"true": True, "1": True, "false": False, "0": False}.get(text, value)


_CONVERT = {"reference": _reference, "critical": _critical}
