"""Vectors of texts, kept on disk by content: what was encoded once is read back, bit for bit.

One SQLite file for all processes of a user. Each row carries a checksum over its key and value, so
that a damaged one is noticed and computed again; a file that is no database any more is begun
anew. Whatever else fails, a full disk, a folder that takes no files, costs time and no score.
"""

import contextlib
import logging
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from ftreg.files.cache.folder import cache_folder, limit_of

FloatArray = npt.NDArray[np.float32]

_AFTER = 0.9
"""The share of the limit that is kept when it was reached."""
_PATIENCE = 10.0
"""Seconds to wait for another process that writes."""
_ASKED = 500
_WRITTEN = 5_000
_CHECKSUM = 8
_TABLE = "CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, key BLOB UNIQUE, value BLOB)"
_OLDEST = "DELETE FROM vectors WHERE id < (SELECT id FROM vectors ORDER BY id LIMIT 1 OFFSET ?)"

_INSERT = "INSERT OR IGNORE INTO vectors (key, value) VALUES (?, ?)"
_Item = TypeVar("_Item")

_log = logging.getLogger(__name__)


class VectorStore:
    """Vectors by text, for one identity of what makes them.

    Args:
        identity: everything that decides a text's vector, but for the text: the model's digest,
            the versions of the libraries, the processor.
        path: the file; `vectors-1.sqlite` in the cache where None.
        limit: bytes that the file may grow to, the oldest vectors going first; that of the cache's
            kind `vectors` where None.
    """

    def __init__(
        self, identity: str, *, path: Path | None = None, limit: int | None = None
    ) -> None:
        self._identity = identity.encode()
        self._path = path or cache_folder("vectors-1.sqlite")
        chosen = limit_of("vectors") if limit is None else limit
        self._limit = sys.maxsize if chosen is None else chosen
        self._told: set[str] = set()

    def part(self, name: str) -> "VectorStore":
        """Return the same file for something else that the model makes of texts."""
        identity = f"{self._identity.decode()}/{name}"
        other = VectorStore(identity, path=self._path, limit=self._limit)
        other._told = self._told
        return other

    def get(self, texts: Iterable[str]) -> dict[str, FloatArray]:
        """Return the vectors of those texts that are kept, each of shape (width,)."""
        keys = {self._key(text): text for text in texts}
        found: dict[str, FloatArray] = {}

        def read(connection: sqlite3.Connection) -> None:
            for some in _batches(list(keys), _ASKED):
                marks = ",".join("?" * len(some))
                asked = f"SELECT key, value FROM vectors WHERE key IN ({marks})"
                for key, value in connection.execute(asked, some).fetchall():
                    vector = _unpack(key, value)
                    if vector is None:
                        self._tell("some vectors are damaged; they are computed again")
                        connection.execute("DELETE FROM vectors WHERE key = ?", (key,))
                    else:
                        found[keys[key]] = vector

        self._with_connection(read)
        return found

    def put(self, vectors: Mapping[str, FloatArray]) -> None:
        """Keep vectors, and drop the oldest where they are too many.

        One that holds a NaN or an infinity is a model's failure, and is not kept.
        """
        rows = []
        for text, vector in vectors.items():
            if np.isfinite(vector).all():
                key = self._key(text)
                rows.append((key, _pack(key, vector)))

        def write(connection: sqlite3.Connection) -> None:
            for some in _batches(rows, _WRITTEN):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_INSERT, some)
                self._trim(connection)
                connection.execute("COMMIT")

        if rows:
            self._with_connection(write)

    def _key(self, text: str) -> bytes:
        content = text.encode("utf-8", "surrogatepass")
        whole = len(self._identity).to_bytes(8) + self._identity + content
        return blake2b(whole, digest_size=16).digest()

    def _trim(self, connection: sqlite3.Connection) -> None:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        used = (pages - free) * size
        if used > self._limit:
            (rows,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
            connection.execute(_OLDEST, (int(rows * (1 - _AFTER * self._limit / used)) + 1,))

    def _with_connection(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do something with the file; what fails is said, and does not reach the scores."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(self._connect()) as connection:
                connection.execute(_TABLE)
                work(connection)
        except (sqlite3.OperationalError, OSError) as error:  # locked, full, not to be written
            self._tell(f"not used ({error}); scoring goes on without it")
        except sqlite3.DatabaseError as error:
            self._tell(f"damaged ({error}); it is begun anew")
            self._begin_anew()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None)

    def _begin_anew(self) -> None:
        """Remove the file, unless another process has done so since, and it is sound again."""
        with (
            contextlib.suppress(OSError, Timeout, sqlite3.OperationalError),
            FileLock(f"{self._path}.lock", timeout=_PATIENCE),
        ):
            if not self._is_sound():
                Path(f"{self._path}-journal").unlink(missing_ok=True)
                self._path.unlink()

    def _is_sound(self) -> bool:
        with contextlib.closing(self._connect()) as connection:
            try:
                found = connection.execute("PRAGMA quick_check(1)").fetchone()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                return False
        return bool(found == ("ok",))

    def _tell(self, text: str) -> None:
        """Say each thing once."""
        if text not in self._told:
            self._told.add(text)
            _log.warning("note: the cache of scoring, %s: %s", self._path, text)


def _batches(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _pack(key: bytes, vector: FloatArray) -> bytes:
    content = vector.astype("<f4").tobytes()
    return blake2b(key + content, digest_size=_CHECKSUM).digest() + content


def _unpack(key: bytes, value: object) -> FloatArray | None:
    """Return the vector of a row, or None if it is not what was written."""
    if not isinstance(value, bytes):
        return None
    checksum, content = value[:_CHECKSUM], value[_CHECKSUM:]
    if blake2b(key + content, digest_size=_CHECKSUM).digest() != checksum:
        return None
    return np.frombuffer(content, dtype="<f4").astype(np.float32)
