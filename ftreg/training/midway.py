"""Intermediate checkpoints of a run, ordinary ones: `<output>.steps/step-00000200/`."""

import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from ftreg.data import DatasetVersion, Split
from ftreg.errors import UsageError
from ftreg.files.store import TEMPORARY_PREFIX
from ftreg.records.checkpoint import Checkpoint, list_midway, midway_root, read_checkpoint
from ftreg.records.layout import MANIFEST
from ftreg.records.manifest import KeptByRecord
from ftreg.training.events import TrainEvents
from ftreg.training.prepare import PreparedRun
from ftreg.training.state.resume import settings_that_count
from ftreg.training.state.saved import state_of_step, step_of
from ftreg.training.write import resolved

Judge = Callable[[Checkpoint, DatasetVersion, Split], Sequence[float | None]]
"""Returns a checkpoint's scores on rows of a dataset version, each in [0, 1], or None if it cannot
be computed."""


def midway_folder(output: Path, step: int) -> Path:
    """Return the folder of the checkpoint after a step, whether or not it exists."""
    return state_of_step(midway_root(output), step)


def take_over_midway(output: Path, *, resume: bool) -> None:
    """Delete incomplete checkpoints of a killed run.

    Raises:
        UsageError: there are checkpoints already, and `resume` is off.
    """
    root = midway_root(output)
    if list_midway(output) and not resume:
        raise UsageError(
            f"{root} holds checkpoints of another run to this output; move it away, or choose "
            "another --output"
        )
    for path in [*root.glob(f"{TEMPORARY_PREFIX}*"), *root.glob("step-*")]:
        if not (path / MANIFEST).is_file() or path.name.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(path, ignore_errors=True)


def refuse_other_midway(output: Path, run: PreparedRun, *, done: int) -> None:
    """Check that the existing checkpoints after step `done` are of this run's recipe.

    Raises:
        UsageError: a checkpoint has another recipe, because it was changed before its step.
    """
    for folder in list_midway(output):
        if step_of(folder) <= done:
            continue
        manifest = read_checkpoint(folder).manifest
        recipes = (settings_that_count(resolved(c)) for c in (manifest.config, run.config))
        digests = (manifest.base.digest, manifest.dataset.digest)
        same = digests == (run.base.digest, run.dataset.card.digest)
        if not same or len({str(recipe) for recipe in recipes}) > 1:
            raise UsageError(
                f"{folder} comes from another recipe than the run that resumes at step {done}; "
                f"move it away, so that this run can write its own"
            )


def keep_newest_midway(output: Path, limit: int | None) -> None:
    """Delete the oldest checkpoints beyond a limit; None keeps all.

    The manifest is deleted first, so that a partly deleted checkpoint never looks complete.
    """
    for folder in list_midway(output)[: -limit if limit else 0]:
        (folder / MANIFEST).unlink()
        shutil.rmtree(folder, ignore_errors=True)


def judge_midway(
    run: PreparedRun, output: Path, *, last: int, judge: Judge, events: TrainEvents
) -> KeptByRecord:
    """Score every checkpoint of a run, including that of its `last` step.

    A missing score counts as 0.

    Raises:
        UsageError: a checkpoint is missing or damaged, or no output of any has a score.
    """
    settings, validation = run.config.train, run.validation
    assert settings.keep_by and settings.checkpoint_steps and validation
    means, missing = {}, {}
    for step in sorted({*range(settings.checkpoint_steps, last, settings.checkpoint_steps), last}):
        checkpoint = read_checkpoint(midway_folder(output, step))
        scores = judge(checkpoint, run.dataset, validation.split)
        means[step] = statistics.fmean(score or 0.0 for score in scores)
        missing[step] = sum(score is None for score in scores)
        lacks = f", {missing[step]} missing" if missing[step] else ""
        events.notice(f"{settings.keep_by} after step {step}: {means[step]:.4f}{lacks}")
    if min(missing.values()) == len(validation.split):
        raise UsageError(
            f"train.keep_by: {settings.keep_by} has no score for any output, so no checkpoint in "
            f"{midway_root(output)} is the best"
        )
    return KeptByRecord(
        scorer=settings.keep_by, rows=len(validation.split), means=means, missing=missing
    )


def step_kept(found: KeptByRecord) -> int:
    """Return the step with the highest mean score; the earliest in a tie."""
    return max(sorted(found.means), key=found.means.__getitem__)
