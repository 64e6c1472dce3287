"""`ftreg optim`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli import options
from ftreg.cli.command import command

app = typer.Typer(help="Optimizers.", no_args_is_help=True)


@app.command()
@command
def show(
    config: Annotated[Path, typer.Argument(help="The run's YAML.", show_default=False)],
    overrides: options.Overrides = None,
    as_json: options.AsJson = False,
) -> None:
    """Show the optimizer that a configuration gives, without training.

    Example: ftreg optim show configs/lion.yaml
    """
    from ftreg.config.load import load_config
    from ftreg.report.terminal import optimizer_view

    settings = load_config(config, overrides=overrides or [])

    from ftreg.training.plan import plan_optimizer

    record = plan_optimizer(settings)
    options.show(as_json, value=record, text=optimizer_view(record))
