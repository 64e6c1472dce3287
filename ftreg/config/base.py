"""Base class and types shared by all sections of the configuration."""

import contextlib
import datetime
import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ftreg.errors import shown

Count = Annotated[int, Field(ge=1, le=10**9)]
"""A number of things: rows, steps, tokens."""
Share = Annotated[float, Field(ge=0, le=1)]


def _day(text: str) -> str:
    with contextlib.suppress(ValueError):
        if datetime.date.fromisoformat(text).isoformat() == text:
            return text
    raise ValueError(f"{shown(text)} is not a date; write it as 2026-11-30")


Day = Annotated[str, AfterValidator(_day)]
"""A date in ISO 8601."""


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


def by_name(value: object) -> object:
    """Expand a bare name to a mapping; return anything else unchanged."""
    return {"name": value} if isinstance(value, str) else value


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number must be finite")
    inner = value.values() if isinstance(value, dict) else value
    for item in inner if isinstance(value, dict | list) else ():
        _finite(item)
    return value


Options = Annotated[dict[str, Any], AfterValidator(_finite)]
"""Options passed through unchanged; records contain them, so NaN is not allowed."""
