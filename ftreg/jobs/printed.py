"""What all JSON on stdout shares. A record is a dataclass of its job; its schema comes from it."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from ftreg.records.samples import PRINTED_SCHEMA

DESCRIBED = {
    "use_attribute_docstrings": True,
    "json_schema_serialization_defaults_required": True,
}
"""`__pydantic_config__` of a printed record: the docstring below a field describes its key, and a
key with a default is always printed. A plain dict, so that a record loads no pydantic."""

OPTIONAL = {"optional": True}
"""`field(default=None, metadata=OPTIONAL)` declares a key that is left out where it is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """A JSON object on stdout."""

    __pydantic_config__ = DESCRIBED

    schema_version: int = PRINTED_SCHEMA
    """Version of this form; it goes up when the meaning of a key does."""


def optional_keys(record: Any) -> set[str]:
    """Return the fields of a dataclass, or of an instance, that are `OPTIONAL`."""
    return {item.name for item in fields(record) if item.metadata == OPTIONAL}


def printed_items(record: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys that are printed of a dataclass, with their values."""
    optional = optional_keys(record)
    for item in fields(record):
        value = getattr(record, item.name)
        if value is not None or item.name not in optional:
            yield item.name, value
