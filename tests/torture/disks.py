"""A full disk, read-only folders, a power cut, a clock that is set back."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.torture.harness import Part, Suite, Trial, run, set_clock
from tests.torture.interruptions import trace
from tests.torture.world import Command, check, complaint, evaluations

_NOBODY = 65534


def full_disk(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Run each command on a nearly full tmpfs, then free space and run it again (needs root)."""
    if os.geteuid() != 0:
        part.skipped = "only root can mount a tmpfs"
        return
    probe = Path(tempfile.mkdtemp(dir=suite.scratch))
    try:
        with _tmpfs(probe, "1m"):
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        part.skipped = f"a tmpfs cannot be mounted here ({error})"
        return
    steps = range(suite.some(24, least=3))
    suite.each(
        part,
        partial(_full, suite),
        [(command, 8 * step * step // 4) for command in commands.values() for step in steps],
    )


@contextmanager
def _tmpfs(place: Path, size: str) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True)


def _full(suite: Suite, item: tuple[Command, int]) -> Trial:
    command, free = item
    label = f"{command.name} with {free} KiB left on the disk"
    place = Path(tempfile.mkdtemp(dir=suite.scratch))
    with _tmpfs(place, "64m"):
        folder = place / "w"
        shutil.copytree(suite.world, folder)
        used = shutil.disk_usage(place).used // 1024
        _remount(place, f"{used + free}k")
        done = run(*command.arguments, cwd=folder)
        failures = complaint(done, label=label, allowed={2, command.code})
        _remount(place, "64m")
        failures += check(command, folder, label=label).failures
        counts = {"refused" if done.code == 2 else "completed anyway": 1}
        return Trial(counts, failures)


def _remount(place: Path, size: str) -> None:
    subprocess.run(
        ["mount", "-o", f"remount,size={size}", str(place)], check=True, capture_output=True
    )


def read_only(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Make each folder read-only in turn, and run each command as user nobody."""
    folders = [
        ".", "checkpoints", "evaluations", "evaluations/B", "baselines", "datasets",
        "datasets/colours", "datasets/colours/v1", "cache", "tmp", "tiny",
    ]  # fmt: skip
    suite.each(
        part,
        partial(_read_only, suite),
        suite.choose(
            [(command, folder) for command in commands.values() for folder in folders],
            suite.some(55, least=8),
        ),
    )


def _read_only(suite: Suite, item: tuple[Command, str]) -> Trial:
    command, name = item
    label = f"{command.name} with {name} read-only"
    with suite.copy() as folder:
        for path in (folder, *folder.rglob("*")):
            os.chmod(path, 0o777 if path.is_dir() else 0o666)
        below = [folder / name, *(folder / name).rglob("*")] if name != "." else [folder]
        for path in below:
            os.chmod(path, 0o555 if path.is_dir() else 0o444)
        os.chmod(folder.parent, 0o755)

        def become_nobody() -> None:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(_NOBODY)
                os.setuid(_NOBODY)

        done = run(*command.arguments, cwd=folder, before=become_nobody)
        failures = complaint(done, label=label, allowed={2, command.code})
        for path in (folder, *folder.rglob("*")):
            os.chmod(path, 0o777 if path.is_dir() else 0o666)
        failures += check(command, folder, label=label).failures
        counts = {"refused" if done.code == 2 else "completed anyway": 1}
        return Trial(counts, failures)


def clock(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Evaluate, promote and report while the clock is repeatedly set back."""
    suite.each(part, partial(_back, suite), [3600 * n for n in range(1, suite.some(12, least=2))])


def _back(suite: Suite, seconds: int) -> Trial:
    from ftreg.records.baseline import read_history
    from ftreg.records.workspace import Workspace

    failures = []
    with suite.copy() as folder:
        made: list[str] = []
        for step in range(3):
            label = f"clock {seconds} s back, evaluation {step + 1}"
            done = run(
                "eval", "checkpoints/b", "--no-gate", "--quiet",
                cwd=folder, before=partial(set_clock, -seconds * step),
            )  # fmt: skip
            failures += complaint(done, label=label, allowed={0})
            new = [path.name for path in evaluations(folder) if path.name not in made]
            made += new
            latest = Workspace(folder).evaluation("latest").name
            if [latest] != new:
                failures.append(f"{label}: `latest` is {latest}, and {new} was made last")
            done = run(
                "promote", "latest", "--force", "--why", "clock",
                cwd=folder, before=partial(set_clock, -seconds * step),
            )  # fmt: skip
            failures += complaint(done, label=label, allowed={0})
        history = [item["evaluation"] for item in read_history(folder / "baselines/colours.json")]
        if history != ["A", *made]:
            failures.append(f"clock {seconds} s back: the history is {history}, made was {made}")
        done = run("report", "latest", cwd=folder, before=partial(set_clock, -seconds))
        failures += complaint(done, label="report after the clock went back", allowed={0})
    return Trial({"commands": 7}, failures)


def power_cut(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Check by the order of operations that a power cut leaves either the old or the new file."""
    began = [(name, trace(suite, command)) for name, command in commands.items()]
    for name, operations in began:
        part.trials += 1
        part.count("operations", len(operations))
        part.count("renames", sum(what.startswith("rename") for what, *_ in operations))
        part.failures += [f"{name}: {text}" for text in unsafe(operations)]


# Files that a power cut may lose: locks, temporary files, and caches that verify what they read.
_LOSABLE = re.compile(r"^/tmp(/|$)|\.lock$|^/cache(/|$)|\.state/history\.jsonl$")


def unsafe(operations: list[tuple[str, str, str]]) -> list[str]:
    """Return the renames that precede the sync of their data, or are not made durable afterwards.

    A file is durable if it was synced after its last write; the names in a folder if the folder
    was synced after its last change. A renamed folder needs both for everything in it.
    """
    dirty_files: set[str] = set()
    dirty_folders: set[str] = set()
    problems = []
    for what, path, second in operations:
        folder = os.path.dirname(path)
        if what in ("fsync", "fdatasync"):
            if path not in dirty_files:
                # safetensors renames its own temporary file with a system call the shim misses.
                dirty_files -= {f for f in dirty_files if _foreign_temporary(f, folder)}
            dirty_files.discard(path)
            dirty_folders.discard(path)
        elif what.startswith("rename"):
            dirty = dirty_files | dirty_folders
            within = sorted(f for f in dirty if f == path or f.startswith(path + "/"))
            # Moves within a hidden folder need a sync only before that folder is renamed.
            hidden = "/.tmp-" in os.path.dirname(second) + "/"
            if within and not hidden and not _LOSABLE.search(second):
                problems.append(f"{path} becomes {second} before {within[0]} is synced")
            dirty_files = {_moved(f, path, second) for f in dirty_files}
            dirty_folders = {_moved(f, path, second) for f in dirty_folders}
            if not _LOSABLE.search(second):
                dirty_folders.add(os.path.dirname(second))
        elif what.startswith(("unlink", "rmdir")):
            dirty_files.discard(path)
            dirty_folders.discard(path)
        elif _LOSABLE.search(path):
            continue
        elif what.startswith("mkdir") or what == "create":
            dirty_folders.add(folder)
        elif what != "open":
            dirty_files.add(path)
    return problems + [f"{path} is not synced in the end" for path in sorted(
        dirty_files | dirty_folders
    )]  # fmt: skip


def _foreign_temporary(path: str, folder: str) -> bool:
    return os.path.dirname(path) == folder and bool(
        re.fullmatch(r"\.tmp[0-9A-Za-z]{6}", os.path.basename(path))
    )


def _moved(path: str, old: str, new: str) -> str:
    return new + path[len(old) :] if path == old or path.startswith(old + "/") else path
