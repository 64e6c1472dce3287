"""GitHub annotations: output lines that the runner shows next to the job and the file.

They are workflow commands, `::error file=F,line=N,title=T::message`. A property's value escapes
more characters than the message.
"""

import os
import re
from pathlib import Path
from typing import Literal

# The beginning of our messages about a place in a file: `configs/lion.yaml:12: ...`.
_PLACE = re.compile(r"(?P<file>[^\s:]+):(?:(?P<line>\d+):)? ")


def on_github() -> bool:
    """Whether this process runs in a job of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotation(
    level: Literal["error", "warning"], message: str, *, title: str, file: Path | None = None
) -> str:
    """Return the line that annotates a job.

    Args:
        level: how it is shown.
        message: the text; if it begins with a file, or a file and a line, it points there.
        title: in bold above it.
        file: the file that the message is about, if it does not begin with one.
    """
    place = _PLACE.match(message)
    line = None
    if file is None and place and Path(place["file"]).is_file():
        file, line = Path(place["file"]), place["line"]
    found = {"file": file and _in_repository(file), "line": line, "title": title}
    properties = ",".join(f"{key}={_property(value)}" for key, value in found.items() if value)
    return f"::{level} {properties}::{_data(message)}"


def error_annotations(message: str, *, title: str) -> list[str]:
    """Return the annotations of an error message, one for each place that it names."""
    parts: list[list[str]] = []
    for line in message.split("\n"):
        if parts and not _PLACE.match(line):
            parts[-1].append(line)
        else:
            parts.append([line])
    return [annotation("error", "\n".join(part), title=title) for part in parts]


def _in_repository(file: Path) -> str | None:
    """The path relative to the repository's root, as GitHub expects it."""
    root = os.environ.get("GITHUB_WORKSPACE") or Path.cwd()
    relative = os.path.relpath(file.absolute(), root)
    return None if relative.startswith("..") else Path(relative).as_posix()


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
