"""Generated outputs, cached under everything that determines them.

Only missing outputs are generated, by one process at a time; a second process waits, and finds the
outputs in the cache.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from filelock import Timeout

from ftreg.files.cache.table import Table
from ftreg.files.locks import locked
from ftreg.files.store import digest

_SCHEMA = 1
# Files of a checkpoint that no output depends on.
_NOT_READ = frozenset({"config.yaml", "history.jsonl", "history.svg"})

Chats = Sequence[tuple[str, list[dict[str, str]]]]
"""Example id, and the messages that it is asked with."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written for a prompt: an `Output` without its example's id.

    `model` is the model that wrote it, as reported by a server; None in process.
    """

    text: str
    finish: str
    tokens: int | None
    model: str | None = None


Keep = Callable[[Iterable[tuple[int, Written]]], None]
"""Takes outputs by the position of their prompt, as soon as they are complete."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be generated, and in which groups.

    Args:
        keys: one per prompt, in order; equal prompts may share one.
        groups: positions of prompts, each in one group.
        together: an output depends on the others of its group, so a group is generated completely
            or not at all.
    """

    keys: Sequence[str]
    groups: Sequence[Sequence[int]]
    together: bool


class Writer(Protocol):
    """Generates the outputs of some prompts."""

    def __call__(
        self, positions: Sequence[int], *, keep: Keep, advance: Callable[[int], None]
    ) -> None:
        """Write an output for each position, in any order, and report how many have ended."""


class OutputStore:
    """The outputs under one setting.

    Args:
        settings: everything that determines an output except its prompt, JSON-ready.
        notice: called with messages for the user.
    """

    def __init__(self, settings: Mapping[str, Any], *, notice: Callable[[str], None]) -> None:
        self._identity = digest({"schema_version": _SCHEMA, **settings})
        self._table = Table("outputs", self._identity)
        self._notice = notice

    def fill(
        self, plan: Plan, write: Writer, *, advance: Callable[[int], None]
    ) -> tuple[list[Written], int]:
        """Generate what is missing, and return every output of a plan.

        Args:
            plan: the wanted outputs.
            write: generates; not called if nothing is missing.
            advance: called with the number of outputs available so far.

        Returns:
            The outputs in the order of the plan's keys, and how many of them were cached.

        Raises:
            UsageError: raised by `write`; outputs generated before that are kept.
        """
        known = self._kept(plan)
        found = sum(key in known for key in plan.keys)
        if found < len(plan.keys):
            with self._alone():
                known = self._kept(plan)  # another process may have written since
                found = sum(key in known for key in plan.keys)
                self._generate(plan, write, known, advance)
        return [known[key] for key in plan.keys], found

    def _generate(
        self,
        plan: Plan,
        write: Writer,
        known: dict[str, Written],
        advance: Callable[[int], None],
    ) -> None:
        wanted = Counter(plan.keys)
        done = sum(count for key, count in wanted.items() if key in known)

        def keep(pairs: Iterable[tuple[int, Written]]) -> None:
            nonlocal done
            fresh = {plan.keys[position]: written for position, written in pairs}
            fresh = {key: written for key, written in fresh.items() if key not in known}
            self._table.put_many(
                {key: json.dumps(asdict(written)).encode() for key, written in fresh.items()}
            )
            known.update(fresh)
            done += sum(wanted[key] for key in fresh)

        for group in plan.groups:
            missing = {plan.keys[i]: i for i in reversed(group) if plan.keys[i] not in known}
            if missing:
                positions = list(group) if plan.together else sorted(missing.values())
                write(positions, keep=keep, advance=_from(done, len(plan.keys), advance))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold a lock on these settings; without a lock if the cache is not writable."""
        lock = self._table.path.with_name(f"outputs-{self._identity[:32]}.lock")
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError):
                lock.parent.mkdir(parents=True, exist_ok=True)
                try:
                    held.enter_context(locked(lock, timeout=0))
                except Timeout:
                    self._notice(
                        "another evaluation is generating the same outputs; waiting for it"
                    )
                    held.enter_context(locked(lock))
            yield

    def _kept(self, plan: Plan) -> dict[str, Written]:
        found = self._table.get_many(plan.keys)
        return {key: Written(**json.loads(value)) for key, value in found.items()}


def _from(before: int, total: int, advance: Callable[[int], None]) -> Callable[[int], None]:
    """Return a callback for one part of the work that reports to `advance` the total progress."""
    return lambda done: advance(min(before + done, total))


def files_read(files: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a checkpoint, other than the weights, that an output may depend on.

    Args:
        files: name to digest, as in its manifest.
    """
    return {name: value for name, value in files.items() if name not in _NOT_READ}
