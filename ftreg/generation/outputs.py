"""The outputs that were generated, kept in the cache by everything that decides them.

`outputs/<digest of the settings>.jsonl` in the cache: the first line says what the settings were,
each further one holds an output under the key of its prompt. Only what is missing is generated,
by one process at a time; who comes second waits, and finds the rows there.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from filelock import FileLock, Timeout

from ftreg.files.cache.entries import trim
from ftreg.files.cache.folder import cache_folder, limit_of, touch
from ftreg.files.journal import Journal, read_journal
from ftreg.files.store import digest

_SCHEMA = 1
# Files of a checkpoint that no output depends on.
_NOT_READ = frozenset({"config.yaml", "history.jsonl", "history.svg"})

Chats = Sequence[tuple[str, list[dict[str, str]]]]
"""Example id, and the messages that it is asked with."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written for a prompt: an `Output` without its example's id.

    `model` is who wrote it, as a server says; None in process.
    """

    text: str
    finish: str
    tokens: int | None
    model: str | None = None


Keep = Callable[[Iterable[tuple[int, Written]]], None]
"""Takes outputs by the position of their prompt, as soon as they are whole."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be generated, and how it hangs together.

    Args:
        keys: of each prompt, in order; equal prompts may share one.
        groups: positions of prompts, each in one group.
        together: an output depends on the others of its group, so that a group is generated as a
            whole or not at all.
    """

    keys: Sequence[str]
    groups: Sequence[Sequence[int]]
    together: bool


class Writer(Protocol):
    """Generates the outputs of some prompts."""

    def __call__(
        self, positions: Sequence[int], *, keep: Keep, advance: Callable[[int], None]
    ) -> None:
        """Write an output for each position, in any order, and tell how many have ended."""


class OutputStore:
    """The outputs under one setting.

    Args:
        settings: all that decides an output but its prompt, JSON-ready.
        notice: is told what the user should know.
    """

    def __init__(self, settings: Mapping[str, Any], *, notice: Callable[[str], None]) -> None:
        self._settings = {"schema_version": _SCHEMA, **settings}
        self.path = cache_folder("outputs", f"{digest(self._settings)}.jsonl")
        self._notice = notice
        limit_of("outputs")  # a wrong limit is told of before anything is generated

    def fill(
        self, plan: Plan, write: Writer, *, advance: Callable[[int], None]
    ) -> tuple[list[Written], int]:
        """Generate what is missing, and return every output of a plan.

        Args:
            plan: what is wanted.
            write: generates; it is not called where everything is there.
            advance: is told the number of outputs that are there so far.

        Returns:
            The outputs in the order of the plan's keys, and how many of them were there before.

        Raises:
            UsageError: the cache cannot be read or written, or what `write` raises; what was
                generated until then is kept.
        """
        known = self._read()
        if any(key not in known for key in plan.keys):
            with self._writing() as journal:
                known = self._read()  # another process may have written since
                found = sum(key in known for key in plan.keys)
                self._generate(plan, write, known, journal, advance)
            trim("outputs")
        else:
            found = len(plan.keys)
            touch(self.path)
        return [known[key] for key in plan.keys], found

    def _generate(
        self,
        plan: Plan,
        write: Writer,
        known: dict[str, Written],
        journal: Journal,
        advance: Callable[[int], None],
    ) -> None:
        wanted = Counter(plan.keys)
        done = sum(count for key, count in wanted.items() if key in known)

        def keep(pairs: Iterable[tuple[int, Written]]) -> None:
            nonlocal done
            fresh = {plan.keys[position]: written for position, written in pairs}
            fresh = {key: written for key, written in fresh.items() if key not in known}
            journal.append({"key": key, **asdict(written)} for key, written in fresh.items())
            known.update(fresh)
            done += sum(wanted[key] for key in fresh)

        for group in plan.groups:
            missing = {plan.keys[i]: i for i in reversed(group) if plan.keys[i] not in known}
            if missing:
                positions = list(group) if plan.together else sorted(missing.values())
                write(positions, keep=keep, advance=_from(done, len(plan.keys), advance))

    @contextmanager
    def _writing(self) -> Iterator[Journal]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{self.path}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self._notice("another evaluation is generating the same outputs; waiting for it")
            lock.acquire()
        try:
            rows, damaged = read_journal(self.path)
            if damaged:
                self._notice(
                    f"{self.path}: {damaged} damaged line{'s' * (damaged > 1)}; what stood there "
                    "is generated again"
                )
            with Journal(self.path) as journal:
                if not rows:
                    journal.append([{"settings": self._settings}])
                yield journal
        finally:
            lock.release()

    def _read(self) -> dict[str, Written]:
        rows, _ = read_journal(self.path)
        known: dict[str, Written] = {}
        for row in rows:
            key = row.pop("key", None)
            if key is not None:
                known.setdefault(key, Written(**row))
        return known


def _from(before: int, total: int, advance: Callable[[int], None]) -> Callable[[int], None]:
    """Return a listener to a part of the work, that tells `advance` of the whole."""
    return lambda done: advance(min(before + done, total))


def files_read(files: Mapping[str, str]) -> dict[str, str]:
    """Return those files of a checkpoint, beside the weights, that an output may depend on.

    Args:
        files: name to digest, as in its manifest.
    """
    return {name: value for name, value in files.items() if name not in _NOT_READ}
