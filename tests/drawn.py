"""What libraries draw in a terminal, so that any version of theirs can be held to a snapshot."""

import re
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

PINS = Path(__file__).parent.parent / "constraints.txt"


def as_pinned(*libraries: str) -> bool:
    """Whether these are the versions of constraints.txt, as which snapshots show their pages."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", PINS.read_text("utf-8"), re.MULTILINE))
    return all(Version(version(name)) == Version(pins[name]) for name in libraries)


def unpadded(text: str) -> str:
    """The text without blanks at the ends of its lines; older versions of rich fill them up."""
    return "\n".join(line.rstrip() for line in text.splitlines())


def words_of(page: str) -> set[str]:
    """The words of a page, without the lines of its boxes: wherever its columns wrap them."""
    return set(re.sub(r"[│╭╮╰╯─]", " ", page).split())
