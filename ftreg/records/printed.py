"""What all JSON on stdout shares. A printed record is a dataclass; its schema comes from it."""

from dataclasses import dataclass, fields
from typing import Any

from ftreg.records.samples import PRINTED_SCHEMA


def json_key(field: str) -> str:
    """Return the JSON key of a field: `from_`, since `from` is a word of Python, is `from`."""
    return field.removesuffix("_")


DESCRIBED = {
    "use_attribute_docstrings": True,
    "json_schema_serialization_defaults_required": True,
    "alias_generator": json_key,
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


def json_object(record: Any) -> dict[str, Any]:
    """Return the keys and values of a dataclass as JSON has them; what it holds stays as it is."""
    optional = optional_keys(record)
    found = {item.name: getattr(record, item.name) for item in fields(record)}
    return {
        json_key(name): value
        for name, value in found.items()
        if value is not None or name not in optional
    }
