"""The documents that retrievers found, by trace, while an export of spans is read."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ftreg.errors import UsageError

_DEEPEST = 1000
"""Spans above each other; a circle of parents ends there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanPlace:
    """Where a span stands: its trace, its id and its parent's (empty: none), its start in ns."""

    trace: str
    id: str
    parent: str
    start: int


@dataclass(slots=True)
class _Trace:
    """A trace's spans: child to parent, and which have a call below them.

    `found` are start and text of the documents that belong to a span, `below` all of those that
    were found below it.
    """

    parents: dict[str, str] = field(default_factory=dict)
    calling: set[str] = field(default_factory=set)
    found: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    below: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))

    def above(self, span: str) -> Iterator[str]:
        """Yield the spans above one, the nearest first, and in the end the trace itself: ""."""
        for _ in range(_DEEPEST):
            span = self.parents.get(span, "")
            yield span
            if not span:
                return


class TraceDocuments:
    """What retrievers found, by trace, on disk: all of a long export would not fit into memory.

    A document belongs to the nearest span above its retriever that has a call of a model below it
    too: to one question of a trace and not to the others.
    """

    def __init__(self) -> None:
        # A database without a name is a file of SQLite's own, which goes when it is closed.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA cache_size = -16384")  # KiB that stay in memory
        self._database.execute("CREATE TABLE spans (trace TEXT, id TEXT, parent TEXT, call INT)")
        self._database.execute(
            "CREATE TABLE found (trace TEXT, id TEXT, start TEXT, document TEXT)"
        )
        for table in ("spans", "found"):
            self._database.execute(f"CREATE INDEX {table}_by_trace ON {table} (trace)")
        self._database.execute("BEGIN")
        self._open: tuple[str, _Trace] | None = None

    def add(self, span: SpanPlace, documents: Sequence[str], *, call: bool, place: str) -> None:
        """Keep a span, whether it is a call, and what was found in it.

        Raises:
            UsageError: the disk for temporary files is full.
        """
        try:
            self._database.execute(
                "INSERT INTO spans VALUES (?, ?, ?, ?)", (span.trace, span.id, span.parent, call)
            )
            self._database.executemany(
                "INSERT INTO found VALUES (?, ?, ?, ?)",
                # As a text: a time beyond 64 bits is no time, and has to be read all the same.
                ((span.trace, span.id, str(span.start), document) for document in documents),
            )
        except sqlite3.Error as error:
            raise UsageError(
                f"{place}: cannot keep the retrieved documents in a temporary file: {error}; "
                "SQLITE_TMPDIR names another folder"
            ) from error

    def of(self, call: SpanPlace) -> list[str]:
        """Return the documents for a call in their order, each once.

        They are those of the nearest span above it that has any; where its own parent has them
        only below another call, as when the question was put anew to search, these. What was found
        after the call began was not for it.
        """
        trace = self._trace(call.trace)
        owners = (span for span in trace.above(call.id) if span in trace.found)
        found = trace.found.get(next(owners, ""), [])
        if call.parent not in trace.found:
            found = trace.below.get(call.parent, found)
        # A start of 0 was not recorded.
        known = (text for start, text in found if not (0 < call.start < start))
        return list(dict.fromkeys(known))

    def _trace(self, name: str) -> _Trace:
        if self._open is None or self._open[0] != name:
            self._open = (name, self._read(name))
        return self._open[1]

    def _read(self, name: str) -> _Trace:
        trace, calls = _Trace(), []
        for span, parent, call in self._database.execute(
            "SELECT id, parent, call FROM spans WHERE trace = ?", (name,)
        ):
            trace.parents[span] = parent
            if call:
                calls.append(span)
        for span in calls:
            trace.calling.update(trace.above(span))
        for span, start, document in self._database.execute(
            "SELECT id, start, document FROM found WHERE trace = ? ORDER BY rowid", (name,)
        ):
            owner = next((above for above in trace.above(span) if above in trace.calling), "")
            trace.found[owner].append((int(start), document))
            for above in filter(None, trace.above(span)):
                trace.below[above].append((int(start), document))
        return trace

    def close(self) -> None:
        """Give the file back."""
        self._database.close()
