"""Check a record against its type, and name the first problem."""

from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

documented = with_config(ConfigDict(use_attribute_docstrings=True))
"""A record documented by the docstrings below its keys."""


def first_problem(error: ValidationError) -> str:
    """Return the first problem of a record: the key and what is wrong with it."""
    first = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(map(str, first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    return f"{key}: {said}" if key else said


def check_record(record: TypeAdapter[Any], value: object) -> None:
    """Check every key of a record and its type, without changing the value.

    Raises:
        ValueError: a key is missing or has the wrong type; names the first.
    """
    try:
        record.validate_python(value, strict=True)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error
