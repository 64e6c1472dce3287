"""What all JSON on stdout shares. A printed record is a dataclass; its schema comes from it."""

from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform

from ftreg.records.samples import PRINTED_SCHEMA


def json_key(field: str) -> str:
    """Return the JSON key of a field: `from_`, since `from` is a word of Python, is `from`."""
    return field.removesuffix("_")


DESCRIBED = {
    "use_attribute_docstrings": True,
    "json_schema_serialization_defaults_required": True,
    "alias_generator": json_key,
}
"""`__pydantic_config__` of what is printed; a plain dict, so that a record loads no pydantic."""

_Record = TypeVar("_Record")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def printed(cls: type[_Record]) -> type[_Record]:
    """Make a frozen dataclass of keywords whose JSON Schema comes from it.

    The docstring below a field describes its key, and a key with a default is always printed.
    """
    cls.__pydantic_config__ = DESCRIBED  # type: ignore[attr-defined]
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


OPTIONAL = {"optional": True}
"""`field(default=None, metadata=OPTIONAL)` declares a key that is left out where it is None."""


@printed
class Printed:
    """A JSON object on stdout."""

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
