"""Small cached results, key to bytes: a SQLite file for each kind.

All processes of a user share the files, and entries persist after the process ends. Each row has a
checksum over its key and value, so that a damaged one counts as missing. A file that is no longer a
database is set aside and replaced. Any other failure, such as a full disk or a read-only folder,
costs time but no result: it is reported once, and work continues.
"""

import contextlib
import functools
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

from filelock import Timeout

from ftreg.files.cache.folder import cache_folder, limit_of
from ftreg.files.locks import locked
from ftreg.files.store import TEMPORARY_PREFIX

KEPT = 0.9
"""The share of its limit to which a kind is reduced when it reaches the limit."""
NOTED = 3600
"""Seconds after which another use of a row is recorded."""
_MINUTE = 60
_PATIENCE = 10.0
"""Seconds to wait for another process to finish writing."""
_CHECKSUM = 8
_LARGEST_JOURNAL = 1 << 20

# A persistent journal: creating and removing one for each small put takes most of the time.
_SETTINGS = (
    "PRAGMA journal_mode = PERSIST",
    f"PRAGMA journal_size_limit = {_LARGEST_JOURNAL}",
    "PRAGMA synchronous = NORMAL",
    "CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, used INTEGER, value BLOB)",
    "CREATE INDEX IF NOT EXISTS uses ON kept (used)",
)
_ASK = "SELECT value, used < ? FROM kept WHERE key = ?"
_OLDEST = "DELETE FROM kept WHERE rowid IN (SELECT rowid FROM kept ORDER BY used, rowid LIMIT ?)"
_DROP = "DELETE FROM kept WHERE used >= ? AND used < ?"
_GROUPS = f"SELECT used / {_MINUTE}, count(*), sum(length(value)) FROM kept GROUP BY 1"
_NOT_DAMAGED = frozenset(
    {
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_AUTH,
    }
)  # fmt: skip
"""SQLite's errors about a disk, permissions or another process; any other means a bad file."""

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


class Table:
    """The results of a kind under one identity.

    Args:
        kind: names the file, `tables/<kind>.sqlite` in the cache, and its limit on disk.
        identity: everything that determines a result, except its key.

    Raises:
        UsageError: `$FTREG_CACHE_LIMITS` is wrong.
    """

    def __init__(self, kind: str, identity: str = "") -> None:
        self.path = cache_folder("tables", f"{kind}.sqlite")
        self._identity = identity.encode()
        self._limit = limit_of(kind)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the values of the keys that have one."""
        names = {key: self._name(key) for key in keys}
        found: dict[str, bytes] = {}

        def read(connection: sqlite3.Connection) -> None:
            now = int(time.time())
            used, damaged = [], []
            with _transaction(connection, "DEFERRED"):
                for key, name in names.items():
                    for sealed, is_old in connection.execute(_ASK, (now - NOTED, name)):
                        value = _unsealed(name, sealed)
                        if value is None:
                            damaged.append((name,))
                            continue
                        found[key] = value
                        if is_old:
                            used.append((now, name))
            if damaged:
                _tell(self.path, "some entries are damaged; they are recomputed")
            if used or damaged:
                # A read-only table can still be read.
                with contextlib.suppress(sqlite3.OperationalError), _transaction(connection):
                    connection.executemany("UPDATE kept SET used = ? WHERE key = ?", used)
                    connection.executemany("DELETE FROM kept WHERE key = ?", damaged)

        if names and os.path.exists(self.path):
            self._use(read)
        return found

    def put_many(self, values: Mapping[str, bytes]) -> None:
        """Store values, all or none; if there are too many, the least recently used are removed."""
        now = int(time.time())
        rows = [(name := self._name(key), now, _sealed(name, values[key])) for key in values]

        def write(connection: sqlite3.Connection) -> None:
            with _transaction(connection):
                connection.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", rows)
                self._trim(connection, len(rows))

        if rows:
            self._use(write)

    def groups(self) -> list[tuple[int, int, int]]:
        """Return all rows of the file by the time of their last use.

        Returns:
            The start of a minute in seconds since the epoch, the number of rows, and their bytes.
        """
        if not os.path.exists(self.path):
            return []
        rows = self._use(lambda connection: connection.execute(_GROUPS).fetchall()) or []
        return [(int(minute or 0) * _MINUTE, count, size or 0) for minute, count, size in rows]

    def drop(self, minute: int) -> bool:
        """Remove a group of rows, except those used since, and return whether it is gone."""
        times = (minute, minute + _MINUTE)
        return self._use(lambda connection: connection.execute(_DROP, times)) is not None

    def _name(self, key: str) -> bytes:
        content = key.encode("utf-8", "surrogatepass")
        whole = len(self._identity).to_bytes(8) + self._identity + content
        return blake2b(whole, digest_size=16).digest()

    def _trim(self, connection: sqlite3.Connection, fresh: int) -> None:
        """Drop the least recently used rows, but never the given number of latest ones."""
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        used = (pages - free) * size
        if self._limit is not None and used > self._limit:
            (rows,) = connection.execute("SELECT count(*) FROM kept").fetchone()
            beyond = int(rows * (1 - KEPT * self._limit / used)) + 1
            connection.execute(_OLDEST, (min(beyond, rows - fresh),))

    def _use(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result | None:
        """Run an operation on the file, or on a new one if it is damaged; None if it fails."""
        for _ in range(2):
            number = None
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    number = self.path.stat().st_ino
                with contextlib.closing(
                    sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
                ) as connection:
                    connection.text_factory = bytes  # a damaged row may claim to be text
                    if number is None:
                        connection.execute("PRAGMA auto_vacuum = FULL")
                    for statement in _SETTINGS:
                        connection.execute(statement)
                    return work(connection)
            except (sqlite3.Error, OSError) as error:
                code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
                if isinstance(error, OSError) or code in _NOT_DAMAGED:
                    _tell(self.path, f"not used ({error}); continuing without it")
                    return None
                _tell(self.path, f"damaged ({error}); it was set aside, and a new one is started")
                self._set_aside(number)
        return None

    def _set_aside(self, number: int | None) -> None:
        """Rename the file with this inode, unless another process has done so since."""
        aside = self.path.with_name(f"{TEMPORARY_PREFIX}{self.path.name}-damaged")
        with (
            contextlib.suppress(OSError, Timeout),
            locked(Path(f"{self.path}.lock"), timeout=_PATIENCE),
        ):
            if self.path.stat().st_ino == number:
                self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
                self.path.replace(aside)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Run the block in a transaction: without the last line, closing the connection rolls back."""
    connection.execute(f"BEGIN {kind}")
    yield
    connection.execute("COMMIT")


def _sealed(name: bytes, value: bytes) -> bytes:
    return blake2b(name + value, digest_size=_CHECKSUM).digest() + value


def _unsealed(name: bytes, sealed: object) -> bytes | None:
    """Return the value of a row, or None if it is damaged."""
    value = sealed[_CHECKSUM:] if isinstance(sealed, bytes) else b""
    return value if sealed == _sealed(name, value) else None


@functools.cache
def _tell(path: Path, text: str) -> None:
    """Log each message once."""
    _log.warning("note: the cache %s: %s", path, text)
