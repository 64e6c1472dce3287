"""`ftreg init`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command


@command
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to create.")],
) -> None:
    """Write a starter folder: configurations, a dataset, the commands to run.

    Example: ftreg init my-specialist
    """
    from ftreg.jobs.init import start

    for path in start(folder):
        options.say(f"{folder / path}")
    options.say(f"\nnow: cd {folder}, then follow its README.md")
