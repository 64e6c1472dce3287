r"""Bounded reading of untrusted files and JSON.

A file is checked before it is read and never read past its limit, so that `/dev/zero`, a sparse
terabyte or an endless line is refused at once, not when memory is exhausted. JSON must strictly
follow RFC 8259: no NaN, no duplicate keys, no half of a character (`"\ud800"`), no number outside a
float's range, and no nesting too deep for a later writer.
"""

import errno
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ftreg.errors import UsageError, shown

MIB = 1 << 20
LONGEST_LINE = 64 * MIB
"""Maximum bytes of one line of JSONL, or of one record of a CSV file."""
LARGEST_RECORD = 1024 * MIB
"""Maximum bytes of one JSON document: a baseline of millions of scores."""
LARGEST_SETTINGS = 16 * MIB
"""Maximum bytes of the settings next to weights: `config.json`, `adapter_config.json`."""
DEEPEST = 100
"""Maximum nesting of lists and mappings."""

_BOM = "\ufeff"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def open_input(path: Path) -> IO[bytes]:
    """Open a file for reading bytes; a pipe without a writer is empty, without waiting.

    Raises:
        FileNotFoundError: it does not exist.
        OSError: it is a folder, or cannot be read.
    """
    # Without O_NONBLOCK, opening would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if hasattr(os, "set_blocking"):
            os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_text(path: Path, *, most: int, kind: str) -> str:
    """Read a complete UTF-8 text file, without a byte order mark.

    Args:
        path: the file.
        most: its maximum size in bytes.
        kind: what it should be, for messages ("configuration").

    Raises:
        UsageError: it is missing, too large, or not UTF-8; names the line.
    """
    try:
        with open_input(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            data = b"" if size > most else stream.read(most + 1)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such {kind}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    if size > most or len(data) > most:
        raise UsageError(f"{path}: too large for a {kind}: more than {megabytes(most)}")
    try:
        return data.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: {_not_utf8(data, error)}") from error


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text with its line break) of each line; U+2028 does not end one.

    Raises:
        UsageError: the file is missing, or a line is too long or not UTF-8; names the line.
    """
    try:
        with open_input(path) as stream:
            number = 0
            while raw := stream.readline(LONGEST_LINE + 1):
                number += 1
                if len(raw) > LONGEST_LINE:
                    raise UsageError(
                        f"{path}:{number}: a line of more than {megabytes(LONGEST_LINE)}; "
                        "each row must be on its own line"
                    )
                try:
                    text = raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise UsageError(f"{path}:{number}: {_not_utf8(raw, error)}") from error
                yield number, text.removeprefix(_BOM) if number == 1 else text
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error


def parse_json(text: str, *, place: str, first_line: int | None = None) -> Any:
    """Parse JSON, strictly.

    Args:
        text: one value.
        place: its source, for messages: a file, or a file and a line.
        first_line: the line on which the text starts, unless `place` contains it.

    Raises:
        UsageError: it is not strict JSON; names line or column.
    """
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        at = place if first_line is None else f"{place}:{first_line + error.lineno - 1}"
        raise UsageError(f"{at}: broken JSON: {error.msg} (column {error.colno})") from error
    except _TwiceError as error:
        raise UsageError(f"{place}: duplicate key {shown(error.key)} in one object") from error
    except RecursionError as error:
        raise UsageError(f"{place}: {_TOO_DEEP}") from error
    except ValueError as error:  # NaN, or a number that is too large
        raise UsageError(f"{place}: broken JSON: {str(error).partition(';')[0]}") from error
    if text.count("[") + text.count("{") > DEEPEST and _deeper(value, DEEPEST):
        raise UsageError(f"{place}: {_TOO_DEEP}")
    # Half of a character: valid in JSON, but not in a UTF-8 file.
    if "\\u" in text and ("\\ud" in text or "\\uD" in text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{place}: a lone surrogate, which is not a character") from error
    return value


def megabytes(count: int) -> str:
    """Return a readable limit."""
    return f"{count / MIB:g} MiB"


_TOO_DEEP = f"broken JSON: nested more than {DEEPEST} levels deep"


class _TwiceError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = Counter(key for key, _ in pairs)
        raise _TwiceError(next(key for key in names if names[key] > 1))
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{shown(digits)} is outside a float's range")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and mappings are nested more than `levels` deep."""
    below = [value]
    for _ in range(levels + 1):
        below = [
            inner
            for item in below
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not below:
            return False
    return True


def _not_utf8(data: bytes, error: UnicodeDecodeError) -> str:
    if data.startswith(_UTF16):
        return "this is UTF-16; save it as UTF-8"
    return f"invalid UTF-8 at byte {error.start}"
