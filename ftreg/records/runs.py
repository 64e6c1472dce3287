"""Where a training run goes that nobody named a folder for, and how it is found again."""

import datetime
import re
import uuid
from pathlib import Path

from ftreg.errors import UsageError
from ftreg.records.layout import MANIFEST, REPLICAS

_RECORDS = (MANIFEST, REPLICAS)


def new_run(checkpoints: Path, stem: str) -> Path:
    """A folder of its own for a run of the configuration of this name."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    return checkpoints / f"{stem}-{stamp}-{uuid.uuid4().hex[:4]}"


def unfinished_runs(checkpoints: Path, stem: str) -> list[Path]:
    """The interrupted runs of this configuration that ftreg named; begun last, at the end.

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
    """The run of this configuration that was begun last, finished or not, or a new one."""
    found = _runs(checkpoints, stem)
    return found[-1] if found else new_run(checkpoints, stem)


def _runs(checkpoints: Path, stem: str) -> list[Path]:
    """Runs named by ftreg, in the order of the times in their names.

    Not in that of their folders' times, which a copy, a cache of the CI or a look with an editor
    changes.
    """
    named = re.compile(re.escape(stem) + r"-\d{8}T\d{6}-[0-9a-f]{4}")
    # A lone checkpoint has a folder when it is whole; of replicas, it is there from the first on.
    runs = {
        path.with_suffix("") if path.suffix == ".state" else path for path in checkpoints.glob("*")
    }
    return sorted(run for run in runs if named.fullmatch(run.name))


def _is_finished(run: Path) -> bool:
    # A state goes when the checkpoint is whole; one beside it was about to go.
    left = run.with_name(f"{run.name}.state").exists()
    return not left and any((run / name).is_file() for name in _RECORDS)
