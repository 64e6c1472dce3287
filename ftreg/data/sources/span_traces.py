"""The spans of traces as trees while an export is read: documents found, calls within calls."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ftreg.errors import UsageError

Role = Literal["", "asked", "silent", "apart"]
"""What a span is: a call with its input, a call without, what runs calls of its own (a tool, an
agent), or anything else."""

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
    """A trace's spans: child to parent, roles, tags, and which have a call below them.

    `found` are start and text of the documents that belong to a span, `below` all of those that
    were found below it. `around` are the spans around a call that are the same call, the outermost
    last, and `repeated` those that another one stands for.
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
        """Yield the spans above one, the nearest first, and in the end the trace itself: ""."""
        for _ in range(_DEEPEST):
            span = self.parents.get(span, "")
            yield span
            if not span:
                return

    def tell_calls_apart(self) -> None:
        """Find the spans of one call: those that stand in one another, with no tool between."""
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
    """The spans of an export, by trace, on disk: all of a long export would not fit into memory.

    A document belongs to the nearest span above its retriever that has a call of a model below it
    too: to one question of a trace and not to the others.

    A framework and the client below it each record a span of the same call. The innermost that has
    its input is the call, as others count too (https://github.com/Arize-ai/phoenix/issues/15793):
    of a wrapper that asks several times, each is one.
    """

    def __init__(self) -> None:
        # A database without a name is a file of SQLite's own, which goes when it is closed.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA cache_size = -16384")  # KiB that stay in memory
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
        """Keep a span, what it is, a call's tags, and what was found in it.

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
                # As a text: a time beyond 64 bits is no time, and must be read all the same.
                ((span.trace, span.id, str(span.start), document) for document in documents),
            )
        except sqlite3.Error as error:
            raise UsageError(
                f"{place}: cannot keep the spans in a temporary file: {error}; "
                "SQLITE_TMPDIR names another folder"
            ) from error

    def repeats(self, call: SpanPlace) -> bool:
        """Whether another span of the same call stands for this one."""
        return call.id in self._trace(call.trace).repeated

    def tags(self, call: SpanPlace) -> dict[str, str]:
        """Return the tags of a call and, where it has none of a name, of the spans around it."""
        trace = self._trace(call.trace)
        spans = (call.id, *trace.around.get(call.id, ()))
        texts = [trace.tags[span] for span in reversed(spans) if span in trace.tags]
        return {name: text for tags in map(json.loads, texts) for name, text in tags.items()}

    def documents(self, call: SpanPlace) -> list[str]:
        """Return the documents for a call in their order, each once.

        They are those of the nearest span above it that has any; where its own parent has them
        only below another call, as when the question was put anew to search, these. What was found
        after the call began was not for it.
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
        """Give the file back."""
        self._database.close()
