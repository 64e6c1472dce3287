"""`ftreg optim`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli import options
from ftreg.cli.command import command
from ftreg.errors import UsageError

app = typer.Typer(help="Optimizers.", no_args_is_help=True)


@app.command()
@command
def show(
    config: Annotated[Path, typer.Argument(help="The run's YAML.", show_default=False)],
    overrides: options.Overrides = None,
    no_custom_code: options.NoCustomCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Show the optimizer that a configuration gives, without training.

    Example: ftreg optim show configs/lion.yaml
    """
    from ftreg.config.load import load_config
    from ftreg.report.terminal import optimizer_view

    settings = load_config(config, overrides=overrides or [])

    options.tell_of_trust([settings.base.model] if settings.base.trust_remote_code else [])
    from ftreg.training.plan import plan_optimizer

    record = plan_optimizer(settings)
    options.show(as_json, value=record, text=optimizer_view(record))


@app.command()
@command
def convert(
    config: Annotated[Path, typer.Argument(help="The run's YAML.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="The optimizer to propose settings for.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="The optimizer that the configuration has to name; a safeguard.",
            show_default=False,
        ),
    ] = None,
    overrides: options.Overrides = None,
    as_json: options.AsJson = False,
) -> None:
    """Propose another optimizer's settings by the published ratios, and say whose they are.

    Nothing is written: the section that is printed can be pasted into a configuration.

    Example: ftreg optim convert configs/adamw.yaml --to lion
    """
    from ftreg.config.load import load_config

    held = load_config(config, overrides=overrides or []).optimizer
    if source is not None and source != held.name:
        raise UsageError(
            f"--from {source}: {config} has optimizer.name {held.name}; leave --from out, or "
            f"name the configuration that trains with {source}"
        )

    from ftreg.optim.convert import convert as propose
    from ftreg.report.conversion import conversion_view

    record = propose(held, to=to).to_dict()
    options.show(as_json, value=record, text=conversion_view(record))
