"""JSON Schemas of what people write, and of what ftreg prints and stores."""

from ftreg.schemas.build import SCHEMAS, schema

__all__ = ["SCHEMAS", "schema"]
