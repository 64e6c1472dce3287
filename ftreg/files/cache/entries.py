"""The entries of the cache: listed with their size, and removed under their lock.

A file or folder is removed only under the lock that its writer holds while writing. Processes that
have it open, or mapped into memory, keep it. From a table, SQLite removes rows.
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
from ftreg.files.cache.table import KEPT, Table
from ftreg.files.finding import whole_tree
from ftreg.files.locks import locked

FILE_KINDS = ("arrow", "prepared")
FOLDER_KINDS = ("models", "wheels")
TABLE_KINDS = {
    "digests": "digests.sqlite",
    "judge": "judge",
    "outputs": "outputs",
    "records": "records",
    "vectors": "vectors-1.sqlite",
    "ways": "ways",
}
"""Kind to its location in ftreg 0.1, which is no longer read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the cache, or a leftover of a killed process.

    `size` is in bytes on disk, `used` in seconds since the epoch. `lock` is held by the writer, and
    is None if a file is replaced atomically and needs none. `rows` is the number of rows of a table
    that were last used in the minute from `used`; it is None for files and folders.
    """

    kind: str
    paths: tuple[Path, ...]
    size: int
    used: float
    lock: Path | None = None
    rows: int | None = None

    @property
    def path(self) -> Path:
        """The first of its paths, which names it."""
        return self.paths[0]


def measure(paths: Iterable[Path]) -> tuple[int, float]:
    """Return the bytes on disk below some paths, and the time of the latest write.

    Files deleted meanwhile do not count.
    """
    found = [status for _, status in _statuses(paths)]
    size = sum(getattr(item, "st_blocks", -(-item.st_size // 512)) * 512 for item in found)
    return size, max((item.st_mtime for item in found), default=0.0)


def _statuses(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    for path in paths:
        for item in whole_tree(path):
            with contextlib.suppress(OSError):
                yield item, item.lstat()


def entry(kind: str, *paths: Path, lock: Path | None = None) -> Entry:
    """Measure some paths as one entry."""
    return Entry(kind, paths, *measure(paths), lock)


def cache_entries(kind: str) -> list[Entry]:
    """Return the entries of one of `FILE_KINDS`, `FOLDER_KINDS` or `TABLE_KINDS`, unsorted.

    Leftovers of killed processes (`.tmp-`, a lock without its file) are not entries.
    """
    if kind in TABLE_KINDS:
        old = cache_folder(TABLE_KINDS[kind])
        return [*_rows_of(kind), *([entry(kind, old)] if old.exists() else [])]
    root = cache_folder(kind)
    if kind in FOLDER_KINDS:
        folders = [path for path in _visible(root) if path.is_dir()]
        return [entry(kind, path, lock=Path(f"{path}.lock")) for path in folders]
    # Next to an Arrow file are its digest and perhaps leftovers of a killed writer.
    by_stem: dict[str, list[Path]] = {}
    for path in _visible(root):
        if path.suffix != ".lock":
            by_stem.setdefault(path.name.partition(".")[0], []).append(path)
    return [
        entry(
            kind,
            *sorted(paths, key=lambda path: path.suffix != ".arrow"),
            lock=root / f"{stem}.arrow.lock",
        )
        for stem, paths in by_stem.items()
    ]


def _rows_of(kind: str) -> list[Entry]:
    """Return the rows of a table, grouped by the minute of their last use.

    Each group gets its share of the table's size on disk.
    """
    table = Table(kind)
    groups = table.groups()
    whole, _ = measure([table.path])
    total = sum(size for *_, size in groups)
    return [
        Entry(kind, (table.path,), whole * size // (total or 1), minute, rows=rows)
        for minute, rows, size in groups
    ]


def _visible(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return


def remove(item: Entry) -> bool:
    """Remove an entry, and return whether it is gone.

    It is kept if another process holds its lock or has used it since it was listed, or if it cannot
    be removed.
    """
    if item.rows is not None:
        return Table(item.kind).drop(int(item.used))
    try:
        if item.lock is None:
            return _remove_if_untouched(item)
        with locked(item.lock, timeout=0):
            return _remove_if_untouched(item)
    except (Timeout, OSError):
        return False


def _remove_if_untouched(item: Entry) -> bool:
    # Taking a lock inside a folder changes both, so these do not count.
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
    """Return the least recently used entries to remove so that the rest fits `limit` bytes."""
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
    """Reduce a kind of `FILE_KINDS` to its limit; call it after a write.

    The most recently used entry is always kept.

    Raises:
        UsageError: `$FTREG_CACHE_LIMITS` is wrong.
    """
    limit = limit_of(kind)
    if limit is None:
        return
    entries = cache_entries(kind)
    if sum(item.size for item in entries) > limit:
        for item in oldest_beyond(entries, KEPT * limit)[: len(entries) - 1]:
            remove(item)
