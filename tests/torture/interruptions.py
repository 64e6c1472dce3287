"""SIGKILL at random moments and within every write; disk errors at every disk operation."""

import errno
import random
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests.torture.harness import (
    EVERY,
    KILL,
    MAKE,
    OPEN,
    REMOVE,
    RENAME,
    SYNC,
    WRITE,
    Fault,
    Part,
    Suite,
    Trial,
    run,
)  # fmt: skip
from tests.torture.world import Command, check, complaint

_ERRORS = {
    # A full disk stays full; EIO and EACCES occur once.
    "ENOSPC": (errno.ENOSPC, True, WRITE | OPEN | SYNC | RENAME | MAKE),
    "EIO": (errno.EIO, False, EVERY),
    "EACCES": (errno.EACCES, False, OPEN | RENAME | MAKE | REMOVE),
}


def kills(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Kill each command at random moments."""
    generator = random.Random(suite.seed)
    items: list[Any] = []
    for command in commands.values():
        seconds = min(_run(suite, command).seconds for _ in range(2))
        for _ in range(suite.some(200 // len(commands))):
            items.append((command, generator.uniform(0.05, 1.0) * seconds, 0))
    suite.each(part, partial(_kill, suite), items)


def kills_in_writes(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Kill each command within its n-th disk operation, for every n (needs the shim)."""
    items: list[Any] = []
    for command in commands.values():
        numbers = list(range(1, len(trace(suite, command)) + 1))
        items += [(command, None, n) for n in suite.choose(numbers, suite.some(400, least=4))]
    suite.each(part, partial(_kill, suite), items)


def _run(suite: Suite, command: Command, fault: Fault | None = None) -> Any:
    with suite.copy() as folder:
        return run(*command.arguments, cwd=folder, fault=fault)


def trace(suite: Suite, command: Command) -> list[tuple[str, str, str]]:
    """Return a command's operations on files below its folder: (what, path, second path)."""
    with suite.copy() as folder:
        log = folder.parent / "log"
        run(*command.arguments, cwd=folder, fault=Fault(log=log))
        lines = [line.split("\t") for line in log.read_text(encoding="utf-8").splitlines()]
        root = str(folder.resolve())
        return [
            (what, path.removeprefix(root) or "/", second.removeprefix(root))
            for what, path, second in lines
        ]


def _kill(suite: Suite, item: tuple[Command, float | None, int]) -> Trial:
    command, delay, number = item
    label = f"{command.name} killed " + (
        f"after {delay:.3f} s" if delay is not None else f"in operation {number}"
    )
    with suite.copy() as folder:
        fault = Fault(number, KILL) if number else None
        done = run(*command.arguments, cwd=folder, fault=fault, kill_after=delay)
        if done.code not in (-signal.SIGKILL, command.code):
            return Trial({}, [f"{label}: {done.brief()}"])
        found = check(command, folder, label=label)
        killed = int(done.code == -signal.SIGKILL)
        return Trial({"kills": killed, f"kills of {command.name}": killed}, found.failures)


def errors(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Let each disk operation fail, one trial per operation and error."""
    items: list[Any] = []
    for command in commands.values():
        kinds = [_KINDS[what] for what, *_ in trace(suite, command)]
        for name, (_, _, mask) in _ERRORS.items():
            numbers = list(range(1, sum(bool(kind & mask) for kind in kinds) + 1))
            part.count("operations that can fail", len(numbers))
            chosen = suite.choose(numbers, suite.some(400, least=3))
            items += [(command, name, number) for number in chosen]
    suite.each(part, partial(_fail, suite), items)


_KINDS = dict.fromkeys(
    ("write", "pwrite", "pwrite64", "writev", "ftruncate", "ftruncate64"), WRITE
) | {
    "fsync": SYNC, "fdatasync": SYNC, "open": OPEN, "create": OPEN, "rename": RENAME,
    "renameat": RENAME, "mkdir": MAKE, "mkdirat": MAKE, "unlink": REMOVE, "unlinkat": REMOVE,
    "rmdir": REMOVE,
}  # fmt: skip


def _fail(suite: Suite, item: tuple[Command, str, int]) -> Trial:
    command, name, number = item
    error, always, mask = _ERRORS[name]
    with suite.copy() as folder:
        log = folder.parent / "log"
        fault = Fault(number, error, always, mask, log)
        done = run(*command.arguments, cwd=folder, fault=fault)
        label = f"{command.name}, {name} at operation {number} ({_operation(log, mask, number)})"
        # Files not needed for the result, such as a cache, may fail silently.
        failures = complaint(done, label=label, allowed={2, command.code})
        found = check(command, folder, label=label)
        counts = {name: 1, "refused" if done.code == 2 else "completed anyway": 1}
        return Trial(counts, failures + found.failures)


def _operation(log: Path, mask: int, number: int) -> str:
    lines = [line.split("\t") for line in log.read_text(encoding="utf-8").splitlines()]
    counted = [line for line in lines if _KINDS[line[0]] & mask]
    if len(counted) < number:
        return "?"
    what, path, _ = counted[number - 1]
    return f"{what} {path.partition('/w/')[2]}"
