"""The errors that a user can cause, each with the exit code of the command.

Exit codes, the same for every command: 0 done or the gate passed; 1 the gate found a regression,
training diverged, or a checkpoint was not reproduced; 2 the configuration, arguments or data are
invalid; 3 undecided, or a scorer or an artefact cannot be trusted; 70 a bug in ftreg; 130
interrupted.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

_LONGEST_NAME = 100


class ExitCode(IntEnum):
    """The exit code of a process; documented in the README and never renumbered."""

    OK = 0
    REGRESSION = 1
    USAGE = 2
    UNDECIDED = 3
    INTERNAL = 70
    INTERRUPTED = 130


class FtregError(Exception):
    """An error with a message for the user: what is wrong, where, and how to fix it."""

    exit_code = ExitCode.INTERNAL


class UsageError(FtregError):
    """The configuration, the arguments or the data are invalid."""

    exit_code = ExitCode.USAGE


class NewerRecordError(UsageError):
    """A file was written by a newer ftreg: it is not damaged, and nothing else can replace it."""


class DivergedError(FtregError):
    """Training produced a loss, gradient or weight that is not finite.

    `details` describes the step, JSON-ready, for `failure.json`; `taken` says whether the step has
    changed the weights.
    """

    exit_code = ExitCode.REGRESSION

    def __init__(
        self, message: str, *, taken: bool, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.taken = taken
        self.details = dict(details or {})


class InterruptedRunError(FtregError):
    """A signal stopped training; its state has been saved."""

    exit_code = ExitCode.INTERRUPTED


class UndecidedError(FtregError):
    """There is nothing to decide on: no baseline, or evaluations that cannot be compared."""

    exit_code = ExitCode.UNDECIDED


def shown(value: object, *, most: int = 60) -> str:
    """Return a value for a message: its `repr`, truncated to `most` characters.

    A string of megabytes is truncated before its `repr` is made.
    """
    return cut(repr(value[: most + 1] if isinstance(value, str | bytes) else value), most)


def cut(text: str, most: int) -> str:
    """Truncate a text to at most `most` characters, ending in dots if some were cut off."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def differ_at(one: Sequence[object], other: Sequence[object]) -> int:
    """Return the index of the first item that differs; for equal sequences, their length."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; its type if the message is empty.

    A line that ends in a colon is only a heading, so it is returned together with the next line. A
    KeyError means nothing without its type.
    """
    kind = type(error).__name__
    title, *lines = str(error).strip().splitlines() or [kind]
    if isinstance(error, KeyError):
        return f"{kind}: {title}"
    return f"{title} {lines[0].strip()}" if title.endswith(":") and lines else title


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean X?"` for the nearest of `known`, or an empty string."""
    if len(name) > _LONGEST_NAME:
        return ""  # the search is quadratic in the length
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
