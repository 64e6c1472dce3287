"""The power-cut order as the kernel sees it: whole commands under strace."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.torture.disks import unsafe
from tests.torture.harness import Part, Suite, Trial
from tests.torture.world import Command

_WRITES = ("write", "pwrite64", "writev", "pwritev", "ftruncate", "fallocate", "copy_file_range")
_SYNCS = ("fsync", "fdatasync")
_NAMES = ("rename", "renameat", "renameat2", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir")
_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += \d+(?:<(.*)>)?$")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


def system_calls(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Trace each command's system calls, and check their order with `disks.unsafe`."""
    if shutil.which("strace") is None:
        part.skipped = "there is no strace"
        return
    chosen = suite.choose(sorted(commands), suite.some(5))
    suite.each(part, partial(_traced, suite), [commands[name] for name in chosen])


def _traced(suite: Suite, command: Command) -> Trial:
    with suite.copy() as folder:
        before = {f"/{path.relative_to(folder)}" for path in folder.rglob("*")}
        log = folder.parent / "strace"
        environment = {
            **os.environ, "FTREG_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp"),
            "PYTHONPATH": str(Path(__file__).parent.parent.parent), "LD_PRELOAD": "",
        }  # fmt: skip
        calls = ",".join((*_WRITES, *_SYNCS, *_NAMES, "openat"))
        done = subprocess.run(
            ["strace", "-f", "-y", "-qq", "-s", "4096", "-e", f"trace={calls}", "-o", log,
             sys.executable, "-m", "ftreg", *command.arguments],
            cwd=folder, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode != command.code:
            said = done.stderr[-300:]
            return Trial({}, [f"{command.name} under strace ended with {done.returncode}: {said}"])
        text = log.read_text(encoding="utf-8", errors="replace")
        operations = _operations(text, folder.resolve(), before)
        counts = {
            "operations": len(operations),
            "renames": sum(what.startswith("rename") for what, *_ in operations),
        }
        return Trial(counts, [f"{command.name}: {found}" for found in unsafe(operations)])


def _operations(text: str, root: Path, known: set[str]) -> list[tuple[str, str, str]]:
    """Return the successful calls below a folder: (what, path, second path); see `disks.unsafe`."""
    found = []
    for line in text.splitlines():
        call = _CALL.match(line)
        if call is None:
            continue
        name, arguments, opened = call.groups()
        if name in _WRITES or name in _SYNCS:
            file = re.match(r"\d+<(/[^>]*)>", arguments)
            paths = [file[1]] if file else []
        elif name == "openat":
            paths = [opened] if opened and "O_CREAT" in arguments else []
        else:
            paths = _TEXT.findall(arguments)
        below = [_below(path, root) for path in paths]
        if not below or None in below:
            continue
        first, second = str(below[0]), str(below[1]) if len(below) > 1 else ""
        if name == "openat":
            name = "open" if first in known else "create"
            known.add(first)
        found.append((name, first, second))
    return found


def _below(path: str, root: Path) -> str | None:
    whole = os.path.normpath(os.path.join(root, path))
    if whole == str(root):
        return "/"
    return whole.removeprefix(str(root)) if whole.startswith(f"{root}/") else None
