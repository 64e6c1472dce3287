"""What every section of the configuration shares."""

import math
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    with_config,
)

Count = Annotated[int, Field(ge=1, le=10**9)]
"""A number of things: rows, steps, tokens."""


documented = with_config(ConfigDict(use_attribute_docstrings=True))
"""A record whose docstrings below its keys are their documentation."""


class Section(BaseModel):
    """A closed, immutable section: unknown keys, wrong types, NaN and infinities are refused.

    The docstring below each field is the documentation of its YAML key.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=False,
    )


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


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number has to be finite")
    inner = value.values() if isinstance(value, dict) else value
    for item in inner if isinstance(value, dict | list) else ():
        _finite(item)
    return value


Options = Annotated[dict[str, Any], AfterValidator(_finite)]
"""Options that are passed on as they are; they stand in records, which hold no NaN."""
