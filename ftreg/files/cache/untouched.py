"""What was read from files, remembered: a file that has not been touched is not read again.

Size, modification time, change time, inode and device have to be as they were. Programs can set a
modification time back; the change time is the kernel's own. A file that changed within the last two
seconds is never remembered: where clocks tick coarsely, its next change could have the same time.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ftreg.files.cache.table import Table

YOUNG = 2_000_000_000
"""Nanoseconds during which a changed file is not remembered."""


def file_state(path: Path | str) -> list[int]:
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
    root: Path, names: Iterable[str], read: Callable[[Path], Any], *, what: str
) -> dict[str, Any]:
    """Return what `read` makes of each file, by name, from the cache where it is untouched since.

    Where the cache cannot be used, the files are read. One that is not there is left out.

    Args:
        root: the folder of the files.
        names: their paths below it; many cost little more than one.
        read: gives something JSON-ready, which depends on the file's bytes alone.
        what: names what is read, and changes with it: it is part of the key.
    """
    place, states = os.path.abspath(root), {}
    for name in names:
        with contextlib.suppress(OSError):
            states[name] = file_state(f"{place}/{name}")
    table = Table("records", f"{what} {place}")
    known = table.get_many(states)
    found, fresh, began = {}, {}, time.time_ns()
    for name, before in states.items():
        state, value = json.loads(known[name]) if name in known else (None, None)
        if state != before:
            value = read(root / name)
            with contextlib.suppress(OSError):
                if before == file_state(f"{place}/{name}") and is_settled(before, began):
                    fresh[name] = json.dumps([before, value]).encode()
        found[name] = value
    table.put_many(fresh)
    return found
