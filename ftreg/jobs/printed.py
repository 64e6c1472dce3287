"""What all JSON on stdout shares. A record is a dataclass of its job; its schema comes from it."""

from dataclasses import dataclass

from ftreg.records.samples import PRINTED_SCHEMA

DESCRIBED = {
    "use_attribute_docstrings": True,
    "json_schema_serialization_defaults_required": True,
}
"""`__pydantic_config__` of a printed record: the docstring below a field describes its key, and a
key with a default is always printed. A plain dict, so that a record loads no pydantic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """A JSON object on stdout."""

    __pydantic_config__ = DESCRIBED

    schema_version: int = PRINTED_SCHEMA
    """Version of this form; it goes up when the meaning of a key does."""
