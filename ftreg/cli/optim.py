"""`ftreg optim`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.groups import group
from ftreg.errors import UsageError
from ftreg.records.samples import PRINTED_SCHEMA
from ftreg.report.characters import visible

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.optimizers import PrintedConversion, PrintedOptimizer

app = group("Optimizers.")


@app.command()
@command
def show(
    config: Annotated[Path, typer.Argument(help="The run's YAML.", show_default=False)],
    overrides: options.Overrides = None,
    no_custom_code: options.NoCustomCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Show the optimizer that a configuration gives, without training.

    What `ftreg train` would advise against is said on stderr.

    Example: ftreg optim show configs/lion.yaml
    """
    from ftreg.config.load import load_config
    from ftreg.report.terminal import optimizer_view

    settings = load_config(config, overrides=overrides or [])

    options.tell_of_trust([settings.base.model] if settings.base.trust_remote_code else [])
    from ftreg.training.plan import plan_advice, plan_optimizer, plan_steps

    record, steps = plan_optimizer(settings), plan_steps(settings)
    advice = plan_advice(settings, steps=steps)
    if steps is None:
        _note(
            f"{settings.dataset.version} could not be read from {settings.dataset.root}, so how "
            "many steps a run takes is not known, nor what is to be said of so many"
        )
    for item in advice:
        _note(str(item))
    value: PrintedOptimizer = {
        "schema_version": PRINTED_SCHEMA,
        **record,
        "steps": steps,
        "advice": [{"key": item.key, "text": item.text, "source": item.source} for item in advice],
    }
    options.show(as_json, value=value, text=optimizer_view(record))


def _note(text: str) -> None:
    typer.echo(visible(f"note: {text}"), err=True)


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

    from ftreg.report.conversion import conversion_view
    from ftreg.training.optim.convert import convert as propose

    found = propose(held, to=to)
    value: PrintedConversion = {
        "schema_version": PRINTED_SCHEMA,
        "from": found.source,
        "to": found.target,
        "current": {setting.key: setting.before for setting in found.settings},
        "proposed": found.section,
        "ranges": {
            setting.key: setting.ends for setting in found.settings if setting.ends is not None
        },
        "sources": {setting.key: setting.source for setting in found.settings},
        "dropped": found.dropped,
        "notes": list(found.notes),
    }
    options.show(as_json, value=value, text=conversion_view(value))
