"""The examples of a documentation page, for tests that run them verbatim."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("../README.md", *sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")))
SHELLS = ("console", "bash", "sh", "shell")
"""Languages of command blocks; the docs use `console`."""

_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\S+\.\w+)\n")
_NOT_RUN = re.compile(r'title="Not run by the tests: ([^"]+)"')


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `line` is where it starts on the page, `more` follows the language."""

    language: str
    more: str
    body: str
    line: int


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a `console` block, and the output that the page shows for it."""

    text: str
    shown: str
    block: int
    """Index of its block among the page's command blocks, from 0."""
    line: int
    not_run: str | None
    """Why the tests do not run it, from the block's title."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command's words, without comments."""
        return tuple(shlex.split(self.text.replace("\\\n", " "), comments=True))


def fenced(page: str) -> list[Block]:
    """Return every fenced block of a page (`scorers/custom.md`), in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [
        Block(found[1], found[2].strip(), found[3], text.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(text)
    ]


def blocks(page: str, language: str) -> list[str]:
    """Return the bodies of the fenced blocks of a page in one language, in order."""
    return [block.body for block in fenced(page) if block.language == language]


def commands(page: str) -> list[Command]:
    """Return the commands of the command blocks, in order."""
    found = []
    shells = [block for block in fenced(page) if block.language in SHELLS]
    for number, block in enumerate(shells):
        reason = _NOT_RUN.search(block.more)
        for part in re.finditer(
            r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block.body, re.MULTILINE
        ):
            line = block.line + 1 + block.body.count("\n", 0, part.start())
            found.append(Command(part[1], part[2], number, line, reason and reason[1]))
    return found


def write_files(page: str, folder: Path) -> list[Path]:
    """Write the files that a page shows: blocks headed `# NAME`, and the output of `cat`."""
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
