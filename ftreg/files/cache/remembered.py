"""What was read from files, remembered: a file that has not been touched is not read again.

Size, modification time, change time, inode and device have to be as they were. Programs can set a
modification time back; the change time is the kernel's own. A file that changed within the last two
seconds is never remembered: where clocks tick coarsely, its next change could have the same time.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftreg.files.cache.table import Table

YOUNG = 2_000_000_000
"""Nanoseconds during which a changed file is not remembered."""


def file_state(path: Path) -> list[int]:
    """Return size, mtime and ctime in nanoseconds, inode and device of a file.

    Raises:
        OSError: it is not there.
    """
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]


def is_settled(state: Sequence[int], began: int) -> bool:
    """Whether a file of this state had been left alone for long enough at a time in nanoseconds."""
    return max(state[1], state[2]) < began - YOUNG


def remembered(
    paths: Sequence[Path], read: Callable[[Path], Any], *, what: str
) -> Mapping[Path, Any]:
    """Return what `read` makes of each file, from the cache where the file is untouched since.

    Where the cache cannot be used, the files are read. One that vanishes is left out.

    Args:
        paths: the files; many cost little more than one.
        read: gives something JSON-ready, which depends on the file's bytes alone.
        what: names what is read, and goes with any change of it: it is part of the key.
    """
    states: dict[Path, list[int]] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            states[path] = file_state(path)
    table = Table("records", what)
    names = {path: os.path.abspath(path) for path in states}
    known = table.get_many(names.values())
    found, fresh, began = {}, {}, time.time_ns()
    for path, before in states.items():
        kept = known.get(names[path])
        state, value = json.loads(kept) if kept is not None else (None, None)
        if state != before:
            value = read(path)
            with contextlib.suppress(OSError):
                if before == file_state(path) and is_settled(before, began):
                    fresh[names[path]] = json.dumps([before, value]).encode()
        found[path] = value
    table.put_many(fresh)
    return found
