"""The spans of traces as trees while an export is read: retrieved documents and nested calls."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ftreg.errors import UsageError

Role = Literal["", "asked", "silent", "apart"]
"""The role of a span: a call with its input, a call without, something that makes separate calls (a
tool, an agent), or anything else."""

_DEEPEST = 1000
"""Maximum depth of spans; it ends a cycle of parents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanPlace:
    """The position of a span: its trace, its id and its parent's (empty: none), its start in ns."""

    trace: str
    id: str
    parent: str
    start: int


@dataclass(slots=True)
class _Trace:
    """A trace's spans: child to parent, roles, tags, and which have a call below them.

    `found` are start and text of the documents of a span, `below` all documents found below it.
    `around` are the enclosing spans that are the same call, the outermost last, and `repeated` the
    spans represented by another one.
    """

    parents: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    calling: set[str] = field(default_factory=set)
    found: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    below: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    around: dict[str, list[str]] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)

    def above(self, span: str) -> Iterator[str]:
        """Yield the ancestors of a span, the nearest first, and finally the trace itself: ""."""
        for _ in range(_DEEPEST):
            span = self.parents.get(span, "")
            yield span
            if not span:
                return

    def tell_calls_apart(self) -> None:
        """Find the spans of one call: those nested in each other, without a tool between them."""
        for span, role in self.roles.items():
            if role == "apart" or span in self.repeated:
                continue
            around = []
            for above in self.above(span):
                if self.roles.get(above) == "apart":
                    break
                if above in self.roles and above != span:
                    around.append(above)
            if role == "asked":
                self.around[span] = around
                self.repeated.update(around)
            elif any(self.roles[above] == "asked" for above in around):
                self.repeated.add(span)


class SpanTraces:
    """The spans of an export, by trace, on disk, since a long export does not fit into memory.

    A document belongs to the nearest ancestor of its retriever that also has a model call below it:
    to one question of a trace and not to the others.

    A framework and the client below it each record a span for the same call. The innermost span
    that has the input is the call, as others count too
    (https://github.com/Arize-ai/phoenix/issues/15793): if a wrapper makes several calls, each of
    them counts.
    """

    def __init__(self) -> None:
        # A database without a name is a temporary file of SQLite, deleted when it is closed.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA cache_size = -16384")  # KiB kept in memory
        self._database.execute(
            "CREATE TABLE spans (trace TEXT, id TEXT, parent TEXT, role TEXT, tags TEXT)"
        )
        self._database.execute(
            "CREATE TABLE found (trace TEXT, id TEXT, start TEXT, document TEXT)"
        )
        for table in ("spans", "found"):
            self._database.execute(f"CREATE INDEX {table}_by_trace ON {table} (trace)")
        self._database.execute("BEGIN")
        self._open: tuple[str, _Trace] | None = None

    def add(
        self,
        span: SpanPlace,
        documents: Sequence[str],
        *,
        role: Role,
        tags: Mapping[str, str],
        place: str,
    ) -> None:
        """Store a span, its role, a call's tags, and the documents found in it.

        Raises:
            UsageError: the disk for temporary files is full.
        """
        kept = json.dumps(tags) if tags else ""
        try:
            self._database.execute(
                "INSERT INTO spans VALUES (?, ?, ?, ?, ?)",
                (span.trace, span.id, span.parent, role, kept),
            )
            self._database.executemany(
                "INSERT INTO found VALUES (?, ?, ?, ?)",
                # As text: a time beyond 64 bits is invalid, but must be readable.
                ((span.trace, span.id, str(span.start), document) for document in documents),
            )
        except sqlite3.Error as error:
            raise UsageError(
                f"{place}: cannot keep the spans in a temporary file: {error}; "
                "SQLITE_TMPDIR names another folder"
            ) from error

    def repeats(self, call: SpanPlace) -> bool:
        """Whether another span of the same call represents this one."""
        return call.id in self._trace(call.trace).repeated

    def tags(self, call: SpanPlace) -> dict[str, str]:
        """Return the tags of a call, plus other tags of the spans around it."""
        trace = self._trace(call.trace)
        spans = (call.id, *trace.around.get(call.id, ()))
        texts = [trace.tags[span] for span in reversed(spans) if span in trace.tags]
        return {name: text for tags in map(json.loads, texts) for name, text in tags.items()}

    def documents(self, call: SpanPlace) -> list[str]:
        """Return the documents for a call in order, without duplicates.

        They come from the nearest ancestor that has any. If its own parent has documents only below
        another call, as when the question was rewritten for the search, those are used. Documents
        found after the call began are ignored.
        """
        trace = self._trace(call.trace)
        owner = next((span for span in trace.above(call.id) if span in trace.found), None)
        found = trace.found[owner] if owner is not None else []
        around = trace.around.get(call.id, [])
        parents = [trace.parents.get(span, "") for span in (call.id, *around)]
        if owner not in (*parents, *around):
            found = next((trace.below[span] for span in parents if span in trace.below), found)
        # A start of 0 was not recorded.
        known = (text for start, text in found if not (0 < call.start < start))
        return list(dict.fromkeys(known))

    def _trace(self, name: str) -> _Trace:
        if self._open is None or self._open[0] != name:
            self._open = (name, self._read(name))
        return self._open[1]

    def _read(self, name: str) -> _Trace:
        trace = _Trace()
        for span, parent, role, tags in self._database.execute(
            "SELECT id, parent, role, tags FROM spans WHERE trace = ?", (name,)
        ):
            trace.parents[span] = parent
            trace.roles |= {span: role} if role else {}
            trace.tags |= {span: tags} if tags else {}
        for span, role in trace.roles.items():
            if role != "apart":
                trace.calling.update(trace.above(span))
        trace.tell_calls_apart()
        for span, start, document in self._database.execute(
            "SELECT id, start, document FROM found WHERE trace = ? ORDER BY rowid", (name,)
        ):
            owner = next((above for above in trace.above(span) if above in trace.calling), "")
            trace.found[owner].append((int(start), document))
            for above in filter(None, trace.above(span)):
                trace.below[above].append((int(start), document))
        return trace

    def close(self) -> None:
        """Delete the file."""
        self._database.close()
