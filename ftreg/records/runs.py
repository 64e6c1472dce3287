"""The folder of a training run without a named one, and how to find it again."""

import datetime
import re
import uuid
from pathlib import Path

from ftreg.errors import UsageError
from ftreg.records.layout import MANIFEST, REPLICAS

_RECORDS = (MANIFEST, REPLICAS)


def new_run(checkpoints: Path, stem: str) -> Path:
    """Return a new folder for a run of the configuration with this name."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    return checkpoints / f"{stem}-{stamp}-{uuid.uuid4().hex[:4]}"


def unfinished_runs(checkpoints: Path, stem: str) -> list[Path]:
    """Return the interrupted runs of this configuration that ftreg named, latest last.

    Raises:
        UsageError: there is none.
    """
    unfinished = [path for path in _runs(checkpoints, stem) if not _is_finished(path)]
    if not unfinished:
        raise UsageError(
            f"--resume: {checkpoints} has no interrupted run of {stem}; name it with --output"
        )
    return unfinished


def newest_or_new(checkpoints: Path, stem: str) -> Path:
    """Return the latest run of this configuration, finished or not, or a new one."""
    found = _runs(checkpoints, stem)
    return found[-1] if found else new_run(checkpoints, stem)


def _runs(checkpoints: Path, stem: str) -> list[Path]:
    """Return the runs named by ftreg, sorted by the times in their names.

    Folder times are not used: a copy, a CI cache or an editor changes them.
    """
    named = re.compile(re.escape(stem) + r"-\d{8}T\d{6}-[0-9a-f]{4}")
    # A single checkpoint's folder exists once it is complete; that of replicas from the first one.
    runs = {
        path.with_suffix("") if path.suffix == ".state" else path for path in checkpoints.glob("*")
    }
    return sorted(run for run in runs if named.fullmatch(run.name))


def _is_finished(run: Path) -> bool:
    # A state is deleted when the checkpoint is complete; one next to it was about to be deleted.
    left = run.with_name(f"{run.name}.state").exists()
    return not left and any((run / name).is_file() for name in _RECORDS)
