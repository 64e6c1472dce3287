"""Digests of files, remembered: a file that has not been touched is not read again.

Size, modification time, change time, inode and device have to be as they were. Programs can set a
modification time back; the change time is the kernel's own. A file that changed within the last two
seconds is never remembered: where clocks tick coarsely, its next change could have the same time.
"""

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from ftreg.files.cache.folder import cache_folder
from ftreg.files.store import file_digest

_YOUNG = 2_000_000_000  # nanoseconds
_TABLE = (
    "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, "
    "ctime_ns INTEGER, inode INTEGER, device INTEGER, sha256 TEXT) WITHOUT ROWID"
)
_ASK = (
    "SELECT sha256 FROM digests WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ? "
    "AND inode = ? AND device = ?"
)


def remembered_digest(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes, from memory where the file is untouched since.

    Where the memory (`digests.sqlite` in the cache) cannot be used, the file is read.
    """
    before = _identity(path)
    known = _recall(before)
    if known is not None:
        return known
    began = time.time_ns()
    found = file_digest(path)
    # A file that was written while it was read, or just before, may be written again unseen.
    if before == _identity(path) and max(before[2], before[3]) < began - _YOUNG:
        _remember(before, found)
    return found


_Identity = tuple[str, int, int, int, int, int]


def _identity(path: Path) -> _Identity:
    """Path, size, mtime and ctime in nanoseconds, inode, device; inode modulo SQLite's range."""
    stat = os.stat(path)
    inode, device = (number & (2**63 - 1) for number in (stat.st_ino, stat.st_dev))
    name = os.path.realpath(path)
    return name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, inode, device


def _connect() -> contextlib.closing[sqlite3.Connection]:
    file = cache_folder("digests.sqlite")
    file.parent.mkdir(parents=True, exist_ok=True)
    return contextlib.closing(sqlite3.connect(file, timeout=5, isolation_level=None))


def _recall(identity: _Identity) -> str | None:
    try:
        with _connect() as connection:
            connection.execute(_TABLE)
            row = connection.execute(_ASK, identity).fetchone()
    except (sqlite3.Error, OSError, UnicodeEncodeError):
        return None
    return None if row is None else str(row[0])


def _remember(identity: _Identity, sha256: str) -> None:
    with (
        contextlib.suppress(sqlite3.Error, OSError, UnicodeEncodeError),
        _connect() as connection,
    ):
        connection.execute(
            "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?, ?)", (*identity, sha256)
        )
