"""The documents that retrievers found, by trace, while an export of spans is read."""

import sqlite3
from collections.abc import Sequence

from ftreg.errors import UsageError


class TraceDocuments:
    """What retrievers found, by trace, on disk: all of a long export would not fit into memory."""

    def __init__(self) -> None:
        # A database without a name is a file of SQLite's own, which goes when it is closed.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA cache_size = -16384")  # KiB that stay in memory
        self._database.execute("CREATE TABLE found (trace TEXT, document TEXT)")
        self._database.execute("CREATE INDEX by_trace ON found (trace)")
        self._database.execute("BEGIN")

    def add(self, trace: str, documents: Sequence[str], *, place: str) -> None:
        """Keep what was found.

        Raises:
            UsageError: the disk for temporary files is full.
        """
        try:
            self._database.executemany(
                "INSERT INTO found VALUES (?, ?)", ((trace, document) for document in documents)
            )
        except sqlite3.Error as error:
            raise UsageError(
                f"{place}: cannot keep the retrieved documents in a temporary file: {error}; "
                "SQLITE_TMPDIR names another folder"
            ) from error

    def of(self, trace: str) -> list[str]:
        """Return a trace's documents in their order, each once."""
        rows = self._database.execute(
            "SELECT document FROM found WHERE trace = ? ORDER BY rowid", (trace,)
        )
        return list(dict.fromkeys(document for (document,) in rows))

    def close(self) -> None:
        """Give the file back."""
        self._database.close()
