"""Commands for GitHub's runner in a job's output: ftreg's own, and no others.

The runner interprets every line of stdout and stderr that begins with `::name ...::`, also after
white space, and every `##[name ...]` at any position, as a command: to set a step's output, to mask
a word in the log, to stop processing commands. Texts of data and models may contain them too.
https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

import io
import re
import sys
from collections.abc import Iterable

from ftreg.report.annotations import on_github
from ftreg.report.characters import spelt

# The last character of a match is escaped. .NET also ends lines at a lone \r, and colour codes may
# precede the text.
_COMMAND = re.compile(r"(?:\A|(?<=[\n\r]))(?:[^\S\n\r]|\x1b\[[\d;]*m)*::|##\[")


class _Unheeded(io.TextIOWrapper):
    """A stream in which only the lines written by `command` are commands."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        stream.flush()
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._replaced = stream  # its deletion would close the buffer
        self._line = ""
        """The current contents of the last line."""

    def write(self, text: str) -> int:
        """Write a text, with anything that looks like a runner command escaped."""
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
        """Write a line that is a command for the runner."""
        super().write(f"\n{line}\n" if self._line else f"{line}\n")
        self.flush()
        self._line = ""


def guard_streams() -> None:
    """In a GitHub Actions job, prevent texts on stdout and stderr from being commands."""
    if not on_github():
        return
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _Unheeded(stream))


def tell_runner(lines: Iterable[str]) -> None:
    """Write commands to stderr, such as annotations.

    Args:
        lines: one command each, from `ftreg.report.annotations`.
    """
    stream = sys.stderr
    for line in lines:
        if isinstance(stream, _Unheeded):
            stream.command(line)
        else:
            print(line, file=stream, flush=True)
