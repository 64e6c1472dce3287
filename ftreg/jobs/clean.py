"""What `ftreg clean` shows and removes."""

import re
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from ftreg.errors import UsageError, did_you_mean
from ftreg.files.cache.entries import Entry, cache_entries, oldest_beyond, remove
from ftreg.files.cache.folder import limit_of
from ftreg.jobs.leftovers import leftovers, states
from ftreg.records.printed import Printed, printed
from ftreg.records.workspace import Workspace

KINDS: Mapping[str, str] = {
    "arrow": "dataset rows",
    "prepared": "tokenised rows",
    "outputs": "what models wrote",
    "judge": "judges' answers",
    "vectors": "vectors of texts",
    "digests": "digests of files",
    "records": "what is known of evaluations",
    "ways": "how to train and decode models",
    "leftovers": "left by killed runs",
    "wheels": "fetched packages",
    "models": "packaged models",
    "states": "runs to resume",
}
"""Kind to what it is; those of `ON_REQUEST` are removed only when they are named."""
ON_REQUEST = ("wheels", "models", "states")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


@printed
class CleanedKind:
    """What ftreg keeps of one kind, and what was removed of it."""

    kind: str
    """`arrow`, `prepared`, `outputs`, ...: what `ftreg clean KIND` takes."""
    entries: int
    """Files or folders that were there; of small results, the rows of their table."""
    size: int
    """Bytes on disk that they took."""
    limit: int | None
    """Bytes on disk above which those used longest ago go by themselves; null where they do not."""
    removed: tuple[Path, ...]
    """Paths that were removed, or would be with --dry-run; of rows, the table that they are in."""
    freed: int
    """Bytes on disk that they took."""
    kept: tuple[Path, ...]
    """Paths that should have gone and are left: in use, or cannot be removed."""


@printed
class Cleaning(Printed):
    """What `ftreg clean --json` prints."""

    dry_run: bool
    """Whether nothing was removed, and it is only said what would be."""
    kinds: tuple[CleanedKind, ...]
    """One for each kind, asked for or not."""


def parse_age(text: str) -> float:
    """Return the seconds of `90m`, `12h`, `30d` or `2w`.

    Raises:
        UsageError: it is none of these.
    """
    found = re.fullmatch(r"\s*(\d{1,6})\s*([mhdw])\s*", text.lower())
    if found is None:
        raise UsageError(f"--older-than: {text!r} is not an age; write one such as 12h, 30d or 2w")
    return float(int(found[1]) * _SECONDS[found[2]])


def clean(
    workspace: Workspace,
    *,
    kinds: Collection[str],
    older_than: float | None = None,
    max_size: int | None = None,
    everything: bool = False,
    dry_run: bool = False,
) -> Cleaning:
    """List what ftreg can rebuild, and remove what is requested.

    An entry is removed if it was not used for `older_than` seconds, if it is among the least
    recently used ones that must go for the chosen kinds to fit into `max_size` bytes, or if
    `everything` is set. Partially written leftovers are always removed. Anything that another
    process is writing, or has used since it was listed, is kept.

    Args:
        workspace: searched for leftovers and training states.
        kinds: from `KINDS`; none means all except those of `ON_REQUEST`.
        older_than: seconds.
        max_size: bytes on disk.
        everything: remove entries of any age and size.
        dry_run: remove nothing.

    Raises:
        UsageError: an unknown kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(
                f"{kind!r} is not a kind{did_you_mean(kind, KINDS)} (known: {', '.join(KINDS)})"
            )
    chosen = set(kinds) or set(KINDS) - set(ON_REQUEST)
    there = {kind: _entries(kind, workspace) for kind in KINDS}
    wanted = _wanted(
        [item for kind in chosen for item in there[kind]],
        older_than=older_than,
        max_size=max_size,
        everything=everything,
    )
    found = (
        _cleaned(kind, found, [item for item in wanted if item.kind == kind], dry_run=dry_run)
        for kind, found in there.items()
    )
    return Cleaning(dry_run=dry_run, kinds=tuple(found))


def _entries(kind: str, workspace: Workspace) -> list[Entry]:
    if kind == "states":
        return states(workspace)
    if kind == "leftovers":
        # Imported late: completion of a kind's name does not need it.
        from ftreg.config.sections import DatasetConfig

        return leftovers(workspace, Path(DatasetConfig.model_fields["root"].default))
    return cache_entries(kind)


def _wanted(
    found: list[Entry], *, older_than: float | None, max_size: int | None, everything: bool
) -> list[Entry]:
    if everything:
        return found
    now = time.time()
    wanted = [
        item
        for item in found
        if item.kind == "leftovers" or (older_than is not None and now - item.used > older_than)
    ]
    if max_size is not None:
        rest = [item for item in found if item not in wanted]
        wanted += oldest_beyond(rest, max_size)
    return wanted


def _cleaned(kind: str, there: list[Entry], wanted: list[Entry], *, dry_run: bool) -> CleanedKind:
    gone = [item for item in wanted if dry_run or remove(item)]
    left = [item for item in wanted if item not in gone]
    return CleanedKind(
        kind=kind,
        entries=sum(1 if item.rows is None else item.rows for item in there),
        size=sum(item.size for item in there),
        limit=limit_of(kind),
        removed=_paths(gone),
        freed=sum(item.size for item in gone),
        kept=_paths(left),
    )


def _paths(entries: list[Entry]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(item.path for item in entries))
