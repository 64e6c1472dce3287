"""Comparison of terminal output with snapshots, for any version of the drawing libraries."""

import re
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

PINS = Path(__file__).parent.parent / "constraints.txt"


def as_pinned(*libraries: str) -> bool:
    """Whether libraries have the versions of constraints.txt, with which snapshots were made."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", PINS.read_text("utf-8"), re.MULTILINE))
    return all(Version(version(name)) == Version(pins[name]) for name in libraries)


def unpadded(text: str) -> str:
    """Return the text without trailing spaces, with which older versions of rich pad lines."""
    return "\n".join(line.rstrip() for line in text.splitlines())


def words_of(page: str) -> set[str]:
    """Return the words of a page without box characters, regardless of wrapping."""
    return set(re.sub(r"[│╭╮╰╯─]", " ", page).split())
