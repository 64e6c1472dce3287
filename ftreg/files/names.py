"""Names of files and folders: they cannot escape their folder, and are valid on every system.

Records come from other people, and a record's names of checkpoints, evaluations or datasets are
appended to a folder's path. Such a name must be a single path component, and valid on Windows as
well: a repository with a folder `aux` cannot be checked out there.
"""

import os
import re
from typing import Any

from ftreg.errors import UsageError, shown

LONGEST = 200
"""Maximum bytes of a name. File systems allow 255; locks and temporary files need a few more."""
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"]
)
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


def fault_of(name: str) -> str | None:
    """Return why `name` cannot be the name of a file or folder; None if it can."""
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
    """Return a name from a record, if it is valid as a file or folder name.

    Raises:
        ValueError: it could escape its folder, or is not valid on every system.
    """
    fault = fault_of(name) if isinstance(name, str) else "is no text"
    if fault is not None:
        raise ValueError(f"{shown(name)} cannot be the name of a file or folder: it {fault}")
    return str(name)


def check_name(name: str, *, what: str) -> str:
    """Return a name from the user, if it is valid as a file or folder name.

    Args:
        name: the name.
        what: what it names, for the message: "split", "dataset".

    Raises:
        UsageError: it could escape its folder, or is not valid on every system.
    """
    try:
        return plain(name)
    except ValueError as error:
        raise UsageError(f"{what} {error}") from error


def files_below(files: dict[str, str]) -> dict[str, str]:
    """Return a record's files (name to digest) if each is below the record's own folder.

    Raises:
        ValueError: a name could escape the folder.
    """
    for name in files:
        for part in name.split("/"):
            plain(part)
    return files


def path_text(text: str) -> str:
    """Return a path from a configuration, with `~` expanded; the user may choose any location.

    Raises:
        ValueError: it contains a NUL, which no system allows, or starts with the home folder of an
            unknown user.
    """
    if "\0" in text:
        raise ValueError("holds a NUL character, which no path can have")
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError(
            f"{text} is below no user's home folder; write ./{text} for a folder of that name"
        )
    return path
