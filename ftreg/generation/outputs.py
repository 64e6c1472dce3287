"""The outputs that were generated, kept in the cache by everything that decides them.

Only what is missing is generated, by one process at a time; who comes second waits, and finds the
outputs there.
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
        self._identity = digest({"schema_version": _SCHEMA, **settings})
        self._table = Table("outputs", self._identity)
        self._notice = notice

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
            UsageError: what `write` raises; what was generated until then is kept.
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
        """Hold a lock on these settings; none where the cache cannot be written."""
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
    """Return a listener to a part of the work, that tells `advance` of the whole."""
    return lambda done: advance(min(before + done, total))


def files_read(files: Mapping[str, str]) -> dict[str, str]:
    """Return those files of a checkpoint, beside the weights, that an output may depend on.

    Args:
        files: name to digest, as in its manifest.
    """
    return {name: value for name, value in files.items() if name not in _NOT_READ}
