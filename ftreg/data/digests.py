"""Digests of files, remembered: a file that has not been touched is not read again.

Size, modification time, change time, inode and device have to be as they were. Programs can set a
modification time back; the change time is the kernel's own. A file that changed within the last two
seconds is never remembered: where clocks tick coarsely, its next change could have the same time.
"""

import json
import os
import time
from pathlib import Path

from ftreg.files.cache.table import Table
from ftreg.files.store import file_digest

_YOUNG = 2_000_000_000  # nanoseconds


def remembered_digest(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes, from the cache where the file is untouched since.

    Where the cache cannot be used, the file is read.
    """
    table, name = Table("digests"), os.path.realpath(path)
    before = _state(path)
    known = table.get_many([name]).get(name)
    if known is not None:
        *state, sha256 = json.loads(known)
        if state == before:
            return str(sha256)
    began = time.time_ns()
    found = file_digest(path)
    # A file that was written while it was read, or just before, may be written again unseen.
    if before == _state(path) and max(before[1], before[2]) < began - _YOUNG:
        table.put_many({name: json.dumps([*before, found]).encode()})
    return found


def _state(path: Path) -> list[int]:
    """Size, mtime and ctime in nanoseconds, inode, device."""
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]
