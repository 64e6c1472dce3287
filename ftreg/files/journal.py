"""Files that grow line by line while work goes on, so that a kill costs nothing that was done.

`ftreg.files.store` writes a file when all of it is known. A journal is for rows that take minutes
to make: each is a JSON object on a line of its own, with a check of its bytes, appended in one go.
What a killed writer left of its last line is no line, and a damaged line is told from a whole one.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from ftreg.errors import UsageError
from ftreg.files.reading import LONGEST_LINE, open_input
from ftreg.files.store import canonical_json, digest, write_lines

_CHECK = "check"
_CHUNK = 1 << 20
_SECONDS_BETWEEN_SYNCS = 1.0
"""A killed process loses nothing; this much may go if the whole machine does."""


def read_journal(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the whole rows of a journal, and how many lines are damaged; a missing file has none.

    It may be read while another process appends.

    Raises:
        UsageError: it cannot be read.
    """
    rows: list[dict[str, Any]] = []
    damaged = 0
    try:
        with open_input(path) as stream:
            for line in _whole_lines(stream):
                row = _unsealed(line)
                if row is None:
                    damaged += 1
                else:
                    rows.append(row)
    except (FileNotFoundError, NotADirectoryError):
        return [], 0
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    return rows, damaged


def _whole_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield each line that ends, one at a time; of one beyond every limit there is its end only."""
    while part := stream.readline(LONGEST_LINE):
        if part.endswith(b"\n"):
            yield part


class Journal:
    """A journal open for appending; the caller sees to it that there is one writer at a time.

    Args:
        path: the file; it is made with its folder if it is not there.

    Raises:
        UsageError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        rows, damaged = read_journal(path)
        try:
            if damaged:
                write_lines(path, map(_sealed, rows))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._cut_torn_line()
        except OSError as error:
            raise self._unwritable(error) from error
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            os.fsync(self._file)
        os.close(self._file)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows, JSON-ready, whole; they outlive this process from here on.

        Raises:
            UsageError: the disk is full, or broken; the rows before stay.
        """
        data = "".join(f"{_sealed(row)}\n" for row in rows).encode()
        before = os.fstat(self._file).st_size
        try:
            while data:
                data = data[os.write(self._file, data) :]
            if time.monotonic() - self._synced >= _SECONDS_BETWEEN_SYNCS:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, before)
            raise self._unwritable(error) from error

    def _cut_torn_line(self) -> None:
        size = whole = os.fstat(self._file).st_size
        while whole:
            start = max(0, whole - _CHUNK)
            found = os.pread(self._file, whole - start, start).rfind(b"\n")
            if found >= 0:
                whole = start + found + 1
                break
            whole = start
        if whole < size:
            os.ftruncate(self._file, whole)

    def _unwritable(self, error: OSError) -> UsageError:
        return UsageError(
            f"cannot write {self._path}: {error.strerror or error}; what was written before is kept"
        )


def _sealed(row: Mapping[str, Any]) -> str:
    return canonical_json({**row, _CHECK: digest(row)[:16]})


def _unsealed(line: bytes) -> dict[str, Any] | None:
    """Return a line's row, or None if its bytes are not those that were written."""
    try:
        row = json.loads(line)
        check = row.pop(_CHECK)
        return row if digest(row)[:16] == check else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
