"""What all printed JSON has."""

from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.config.base import documented


@documented
class Printed(TypedDict):
    """A JSON object on stdout."""

    schema_version: int
    """Version of this form; it goes up when the meaning of a key does."""
