"""Write the JSON Schemas to docs/schemas/, for editors and other programs."""

from pathlib import Path

from ftreg.files.store import write_json
from ftreg.jobs.schemas import SCHEMAS, schema

FOLDER = Path(__file__).parent.parent / "docs" / "schemas"


def main() -> None:
    """Write each schema."""
    for name in SCHEMAS:
        write_json(FOLDER / f"{name}.json", schema(name))


if __name__ == "__main__":
    main()
