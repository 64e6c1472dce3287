"""`ftreg schema`."""

from typing import Annotated

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command


@command
def schema(
    name: Annotated[
        str | None, typer.Argument(help="config, policy, verdict, ...; all names without.")
    ] = None,
) -> None:
    """Print the JSON Schema of a configuration file or a record.

    Example: ftreg schema config > config.schema.json
    """
    from ftreg.jobs.schemas import SCHEMAS
    from ftreg.jobs.schemas import schema as find_schema

    if name is None:
        typer.echo("\n".join(SCHEMAS))
    else:
        options.show_json(find_schema(name))
