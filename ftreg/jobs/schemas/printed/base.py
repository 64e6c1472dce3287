"""What all printed JSON has."""

from pydantic import ConfigDict
from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.files.checking import documented

ALL_PRINTED = ConfigDict(json_schema_serialization_defaults_required=True)
"""Of a model: a key with a default is printed too, so that none may be missing."""


@documented
class Printed(TypedDict):
    """A JSON object on stdout."""

    schema_version: int
    """Version of this form; it goes up when the meaning of a key does."""
