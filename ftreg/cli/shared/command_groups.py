"""Groups of commands, shown as plain text: typer's panels would load half of rich."""

from typing import Any

import typer
from typer.core import TyperGroup


class CommandGroup(TyperGroup):
    """Shows the complete first sentence of each command, on several lines if necessary."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a line for each command."""
        rows = [(name, item.get_short_help_str(10_000)) for name, item in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def group(text: str) -> typer.Typer:
    """Return a group with this help text, to which commands are added."""
    return typer.Typer(help=text, cls=CommandGroup, no_args_is_help=True, rich_markup_mode=None)
