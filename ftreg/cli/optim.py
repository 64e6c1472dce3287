"""`ftreg optim`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.command_groups import group
from ftreg.records.printed import json_object
from ftreg.report.characters import visible

app = group("Show an optimizer's settings, or convert them to another optimizer.")

Config = Annotated[Path, typer.Argument(help="The run's YAML.")]


@app.command()
@command
def show(
    config: Config,
    overrides: options.Overrides = None,
    no_custom_code: options.NoCustomCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Show the effective optimizer of a configuration, without training.

    What `ftreg train` would warn about goes to stderr.

    Example: ftreg optim show configs/lion.yaml
    """
    from ftreg.jobs.optim import show_optimizer
    from ftreg.report.terminal import optimizer_view

    def notice(text: str) -> None:
        typer.echo(visible(f"note: {text}"), err=True)

    found = show_optimizer(config, overrides=overrides or (), notice=notice)
    options.show(as_json, value=found, text=optimizer_view(found))


@app.command()
@command
def convert(
    config: Config,
    to: Annotated[str, typer.Option("--to", help="The optimizer to propose settings for.")],
    source: Annotated[
        str | None,
        typer.Option("--from", help="Require that the configuration uses this optimizer."),
    ] = None,
    overrides: options.Overrides = None,
    as_json: options.AsJson = False,
) -> None:
    """Propose settings for another optimizer from published ratios, with sources.

    Prints a section to paste into a configuration; writes nothing.

    Example: ftreg optim convert configs/adamw.yaml --to lion
    """
    from ftreg.jobs.optim import convert_optimizer
    from ftreg.report.conversion import conversion_view

    found = convert_optimizer(config, to=to, source=source, overrides=overrides or ())
    options.show(as_json, value=found, text=conversion_view(json_object(found)))
