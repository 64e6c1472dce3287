"""What GitHub's runner reads in a job's output: commands of ours, and none of anybody else's.

The runner takes every line of stdout and stderr that begins with `::name ...::`, behind white space
too, and every `##[name ...]` wherever it stands, for a command: to set a step's output, to hide a
word in the log, to stop listening. Texts of data and models may say that as well.
https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

import io
import re
import sys
from collections.abc import Iterable

from ftreg.report.annotations import on_github
from ftreg.report.characters import spelt

# The last character of a match is the one that is spelt out. .NET ends lines at a lone \r too, and
# what colours a text may stand before it.
_COMMAND = re.compile(r"(?:\A|(?<=[\n\r]))(?:[^\S\n\r]|\x1b\[[\d;]*m)*::|##\[")


class _Unheeded(io.TextIOWrapper):
    """A stream in which nothing is a command but what `command` writes."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        stream.flush()
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._replaced = stream  # its end would close the buffer
        self._line = ""
        """What stands on the last line so far."""

    def write(self, text: str) -> int:
        """Write a text, with what the runner would take for a command spelt out."""
        whole = self._line + text
        new = len(self._line)
        parts = []
        for found in _COMMAND.finditer(whole):
            if (at := found.end() - 1) >= new:
                parts += [whole[new:at], spelt(whole[at])]
                new = at + 1
        super().write("".join([*parts, whole[new:]]))
        self._line = re.split("[\n\r]", whole)[-1]
        return len(text)

    def command(self, line: str) -> None:
        """Write a line that the runner is to read."""
        super().write(f"\n{line}\n" if self._line else f"{line}\n")
        self.flush()
        self._line = ""


def guard_streams() -> None:
    """In a job of GitHub Actions, let no text that stdout and stderr show be a command."""
    if not on_github():
        return
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _Unheeded(stream))


def tell_runner(lines: Iterable[str]) -> None:
    """Write commands to stderr, such as annotations.

    Args:
        lines: each one command, of `ftreg.report.annotations`.
    """
    stream = sys.stderr
    for line in lines:
        if isinstance(stream, _Unheeded):
            stream.command(line)
        else:
            print(line, file=stream, flush=True)
