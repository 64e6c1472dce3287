"""Common parts of JSON on stdout. A printed record is a dataclass; its schema comes from it."""

from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform

from ftreg.records.samples import PRINTED_SCHEMA


def json_key(field: str) -> str:
    """Return the JSON key of a field: `from_` becomes `from`, which is a keyword in Python."""
    return field.removesuffix("_")


DESCRIBED = {
    "use_attribute_docstrings": True,
    "json_schema_serialization_defaults_required": True,
    "alias_generator": json_key,
}
"""`__pydantic_config__` of printed records; a plain dict, so that records do not load pydantic."""

_Record = TypeVar("_Record")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def printed(cls: type[_Record]) -> type[_Record]:
    """Make a frozen, keyword-only dataclass that defines its JSON Schema.

    The docstring below a field describes its key, and a key with a default is always printed.
    """
    cls.__pydantic_config__ = DESCRIBED  # type: ignore[attr-defined]
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


OPTIONAL = {"optional": True}
"""`field(default=None, metadata=OPTIONAL)` declares a key that is omitted if it is None."""


@printed
class Printed:
    """A JSON object on stdout."""

    schema_version: int = PRINTED_SCHEMA
    """Version of this form; it goes up when the meaning of a key changes."""


def optional_keys(record: Any) -> set[str]:
    """Return the `OPTIONAL` fields of a dataclass or of an instance."""
    return {item.name for item in fields(record) if item.metadata == OPTIONAL}


def json_object(record: Any) -> dict[str, Any]:
    """Return the JSON keys and the values of a dataclass; the values are left unchanged."""
    optional = optional_keys(record)
    found = {item.name: getattr(record, item.name) for item in fields(record)}
    return {
        json_key(name): value
        for name, value in found.items()
        if value is not None or name not in optional
    }
