"""Names that become files and folders: they stay where they belong, on every system.

Records come from other people, and what a record calls a checkpoint, an evaluation or a dataset is
put behind a folder's path. Such a name is one component of a path, and one that Windows takes as
well: a repository with a folder `aux` could not be checked out there.
"""

import os
import re
from typing import Any

from ftreg.errors import UsageError, shown

LONGEST = 200
"""Bytes of a name. File systems take 255, and a lock or a temporary neighbour needs some more."""
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"]
)
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


def fault_of(name: str) -> str | None:
    """Return what keeps `name` from being the name of a file or folder; None where nothing does."""
    if not name:
        return "is empty"
    found = _FORBIDDEN.search(name)
    if found:
        return f"holds the character {found[0]!r}"
    if name in (".", ".."):
        return "names a folder of the system's own"
    if name[-1] in ". ":
        return "ends with a dot or a space, which Windows drops"
    # "nul.json" is the device too, and so is "nul .json".
    if name.partition(".")[0].rstrip(" ").casefold() in _DEVICES:
        return "is a device of Windows"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "holds a lone surrogate, which is not a character"
    return f"has {length} bytes, and {LONGEST} is the most" if length > LONGEST else None


def plain(name: Any) -> str:
    """Return a name out of a record, if it can be that of a file or folder.

    Raises:
        ValueError: it could leave its folder, or not every system takes it.
    """
    fault = fault_of(name) if isinstance(name, str) else "is no text"
    if fault is not None:
        raise ValueError(f"{shown(name)} cannot be the name of a file or folder: it {fault}")
    return str(name)


def check_name(name: str, *, what: str) -> str:
    """Return a name that the user gave, if it can be that of a file or folder.

    Args:
        name: the name.
        what: what it names, for the message: "split", "dataset".

    Raises:
        UsageError: it could leave its folder, or not every system takes it.
    """
    try:
        return plain(name)
    except ValueError as error:
        raise UsageError(f"{what} {error}") from error


def files_below(files: dict[str, str]) -> dict[str, str]:
    """Return a record's files (name to digest) if each of them lies below the record's own folder.

    Raises:
        ValueError: a name could leave the folder.
    """
    for name in files:
        for part in name.split("/"):
            plain(part)
    return files


def path_text(text: str) -> str:
    """Return a path that a configuration gives, `~` expanded; where it leads is the user's choice.

    Raises:
        ValueError: it holds a NUL, with which no system opens anything, or begins with the home
            folder of nobody.
    """
    if "\0" in text:
        raise ValueError("holds a NUL character, which no path has")
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError(
            f"{text} is below no user's home folder; write ./{text} for a folder of that name"
        )
    return path
