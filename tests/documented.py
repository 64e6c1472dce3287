"""The examples of a page of the docs, to be run as they stand there."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\S+\.\w+)\n")


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a `console` block, and the lines that the page shows under it."""

    arguments: tuple[str, ...]
    shown: str


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page (`scorers/custom.md`) in one language, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [body for found, body in _FENCE.findall(text) if found == language]


def commands(page: str) -> list[Command]:
    """Return the commands of the `console` blocks, in order."""
    found = []
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, shown = part.partition("\n")
            found.append(Command(tuple(shlex.split(line)), shown))
    return found


def write_files(page: str, folder: Path) -> list[Path]:
    """Write the files that a page shows: blocks headed `# NAME`, and what it prints with `cat`."""
    texts = {}
    for block in (*blocks(page, "python"), *blocks(page, "yaml")):
        if named := _FILE.match(block):
            texts[named[1]] = block
    for command in commands(page):
        if command.arguments[0] == "cat":
            texts[command.arguments[1]] = command.shown
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
