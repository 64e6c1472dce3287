"""What lies in the cache, piece by piece: listed with its size, removed under its own lock.

A piece is removed only by who holds the lock that its writer holds while it writes. Who has it
open, or mapped into memory, keeps what was opened.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from ftreg.files.cache.folder import cache_folder, limit_of
from ftreg.files.locks import locked

_KEPT = 0.9
"""The share of its limit that a kind is brought down to when it has reached it."""
FILE_KINDS = ("arrow", "judge", "outputs", "prepared")
FOLDER_KINDS = ("models", "wheels")


@dataclass(frozen=True, slots=True)
class Entry:
    """A piece of the cache, or something that a killed process left.

    `size` is in bytes on disk, `used` in seconds since the epoch; `lock` is held by who writes it,
    and is None where a file is replaced as a whole and needs none.
    """

    kind: str
    paths: tuple[Path, ...]
    size: int
    used: float
    lock: Path | None = None

    @property
    def path(self) -> Path:
        """The first of its paths, which names it."""
        return self.paths[0]


def measure(paths: Iterable[Path]) -> tuple[int, float]:
    """Return the bytes on disk below some paths, and when any of it was written last.

    What vanishes meanwhile does not count.
    """
    found = [status for _, status in _statuses(paths)]
    size = sum(getattr(item, "st_blocks", -(-item.st_size // 512)) * 512 for item in found)
    return size, max((item.st_mtime for item in found), default=0.0)


def _statuses(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    for path in paths:
        for item in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
            with contextlib.suppress(OSError):
                yield item, item.lstat()


def entry(kind: str, *paths: Path, lock: Path | None = None) -> Entry:
    """Measure some paths as one entry."""
    return Entry(kind, paths, *measure(paths), lock)


def cache_entries(kind: str) -> list[Entry]:
    """Return the entries of one of `FILE_KINDS` or `FOLDER_KINDS`, in no order.

    What only killed processes can have left (`.tmp-`, a lock without its file) is none.
    """
    root = cache_folder(kind)
    if kind == "judge":
        return [entry(kind, path) for path in root.glob("*/[!.]*.json")]
    if kind in FOLDER_KINDS:
        folders = [path for path in _visible(root) if path.is_dir()]
        return [entry(kind, path, lock=Path(f"{path}.lock")) for path in folders]
    ending = "jsonl" if kind == "outputs" else "arrow"
    # An Arrow file has its digest and perhaps what a killed writer left beside it.
    by_stem: dict[str, list[Path]] = {}
    for path in _visible(root):
        if path.suffix != ".lock":
            by_stem.setdefault(path.name.partition(".")[0], []).append(path)
    return [
        entry(
            kind,
            *sorted(paths, key=lambda path: path.suffix != f".{ending}"),
            lock=root / f"{stem}.{ending}.lock",
        )
        for stem, paths in by_stem.items()
    ]


def _visible(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return


def remove(item: Entry) -> bool:
    """Remove an entry, and return whether it is gone.

    It stays if another process holds its lock, or has used it since it was listed, or if it cannot
    be removed.
    """
    try:
        if item.lock is None:
            return _remove_if_untouched(item)
        with locked(item.lock, timeout=0):
            return _remove_if_untouched(item)
    except (Timeout, OSError):
        return False


def _remove_if_untouched(item: Entry) -> bool:
    # Taking a lock that lies within a folder changes both, so these do not count.
    if any(
        status.st_mtime > item.used
        for path, status in _statuses(item.paths)
        if stat.S_ISREG(status.st_mode) and not path.name.endswith(".lock")
    ):
        return False
    for path in item.paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return True


def oldest_beyond(entries: Iterable[Entry], limit: float) -> list[Entry]:
    """Return what has to go, used longest ago first, so that the rest takes `limit` bytes."""
    ordered = sorted(entries, key=lambda item: (item.used, item.path))
    left = sum(item.size for item in ordered)
    found = []
    for item in ordered:
        if left <= limit:
            break
        found.append(item)
        left -= item.size
    return found


def trim(kind: str) -> None:
    """Bring a kind of `FILE_KINDS` that has outgrown its limit below it; call it after a write.

    What was used last stays in any case.

    Raises:
        UsageError: `$FTREG_CACHE_LIMITS` is wrong.
    """
    limit = limit_of(kind)
    if limit is None:
        return
    entries = cache_entries(kind)
    if sum(item.size for item in entries) > limit:
        for item in oldest_beyond(entries, _KEPT * limit)[: len(entries) - 1]:
            remove(item)
