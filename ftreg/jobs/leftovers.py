"""What killed processes leave behind: partial files and folders, locks, abandoned states.

ftreg reads none of these. Whatever a live process may still be writing is left alone: a state
folder if it is locked, anything else unless nothing in it was touched for an hour.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from ftreg.files.cache.entries import Entry, entry
from ftreg.files.cache.folder import cache_folder
from ftreg.files.finding import found_below
from ftreg.files.store import TEMPORARY_PREFIX
from ftreg.records.layout import MANIFEST
from ftreg.records.workspace import Workspace

_QUIET = 3600.0
"""Seconds; a live process touches what it writes more often."""
_LOCK = ".lock"
_TEMPORARY = f"{TEMPORARY_PREFIX}*"


def states(workspace: Workspace) -> list[Entry]:
    """Return the training states that `--resume` could continue, one per run."""
    return [
        entry("states", folder, lock=folder / _LOCK)
        for folder in _state_folders(workspace)
        if _resumable(folder)
    ]


def leftovers(workspace: Workspace, datasets: Path) -> list[Entry]:
    """Return what can be removed safely.

    Args:
        workspace: its checkpoints, evaluations and baselines are searched.
        datasets: the folder of dataset versions.
    """
    now = time.time()
    found = [
        entry("leftovers", folder, lock=folder / _LOCK)
        for folder in _state_folders(workspace)
        if not _resumable(folder)
    ]
    for path in _half_written(workspace, datasets):
        item = entry("leftovers", path, lock=_lock_of(path))
        if now - item.used > _QUIET:
            found.append(item)
    # A lock is removed by acquiring it.
    found.extend(Entry("leftovers", (path,), 0, now, path) for path in _locks(workspace, datasets))
    return found


def _state_folders(workspace: Workspace) -> Iterator[Path]:
    for pattern in ("[!.]*.state", "[!.]*/seed-*.state"):
        yield from (path for path in found_below(workspace.checkpoints, pattern) if path.is_dir())


def _resumable(folder: Path) -> bool:
    """Whether a run can be resumed here: it has a state, and its checkpoint is incomplete."""
    whole = (folder.with_suffix("") / MANIFEST).is_file()
    return not whole and any(found_below(folder, "*step-*"))


def _half_written(workspace: Workspace, datasets: Path) -> Iterator[Path]:
    for folder, patterns in (
        (workspace.checkpoints, (_TEMPORARY, f"*/{_TEMPORARY}", f"*/seed-*.st*/{_TEMPORARY}")),
        (workspace.evaluations, (_TEMPORARY, f"[!.]*/{_TEMPORARY}")),
        (workspace.baselines, (_TEMPORARY, f"[!.]*.looks/{_TEMPORARY}")),
        (datasets, (f"[!.]*/{_TEMPORARY}", f"[!.]*/v*/{_TEMPORARY}")),
        (cache_folder(), (f"*/{_TEMPORARY}", f"*/*/{_TEMPORARY}")),
    ):
        for pattern in patterns:
            for path in found_below(folder, pattern):
                within = path.relative_to(folder).parts[:-1]
                if any(part.startswith(TEMPORARY_PREFIX) for part in within):
                    continue
                if path.parent.suffix != ".state" or _resumable(path.parent):
                    yield path  # else the complete folder is removed


def _lock_of(path: Path) -> Path | None:
    """Return the lock of the run that a half-written state or checkpoint belongs to."""
    if path.parent.suffix == ".state":
        return path.parent / _LOCK
    name = path.name.removeprefix(TEMPORARY_PREFIX)[:-9]  # without `-` and eight hex digits
    folder = path.with_name(f"{name}.state")
    return folder / _LOCK if folder.is_dir() else None


def _locks(workspace: Workspace, datasets: Path) -> Iterator[Path]:
    """Yield locks of missing files: older versions of ftreg and killed processes leave them."""
    yield from found_below(workspace.baselines, ".*.lock")
    yield from found_below(datasets, ".*.lock")
    for pattern in ("*.lock", "*/*.lock"):
        for path in found_below(cache_folder(), pattern):
            if not path.with_suffix("").exists():
                yield path
