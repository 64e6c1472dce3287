"""Check a record against its type, and name the first problem."""

from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

documented = with_config(ConfigDict(use_attribute_docstrings=True))
"""A record whose docstrings below its keys are their documentation."""


def first_problem(error: ValidationError) -> str:
    """Return the first of a record's problems: its key and what is wrong with it."""
    first = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(map(str, first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    return f"{key}: {said}" if key else said


def check_record(record: TypeAdapter[Any], value: object) -> None:
    """Look at every key of a record and its type; the value itself stays as it is.

    Raises:
        ValueError: a key is missing, or of another type; names the first.
    """
    try:
        record.validate_python(value, strict=True)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error
