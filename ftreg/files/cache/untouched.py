"""A cache of facts read from files: an unchanged file is not read again.

Size, modification time, change time, inode and device must be unchanged. Programs can set a
modification time back, but the kernel controls the change time. A file that changed within the last
two seconds is never cached: with a coarse clock, its next change could have the same time.
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
"""Nanoseconds after a change during which a file is not cached."""


def file_state(path: Path | str) -> list[int]:
    """Return size, mtime and ctime in nanoseconds, inode and device of a file.

    Raises:
        OSError: it is missing.
    """
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]


def is_settled(state: Sequence[int], began: int) -> bool:
    """Whether a file in this state had been unchanged long enough at a time in nanoseconds."""
    return max(state[1], state[2]) < began - YOUNG


def remembered(
    root: Path, names: Iterable[str], read: Callable[[Path], Any], *, what: str
) -> dict[str, Any]:
    """Return the result of `read` for each file, by name, from the cache if the file is unchanged.

    If the cache cannot be used, the files are read. Missing files are left out.

    Args:
        root: the folder of the files.
        names: their paths below it; many cost little more than one.
        read: returns a JSON-ready value that depends only on the file's bytes.
        what: describes the value and its version, as part of the key.
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
