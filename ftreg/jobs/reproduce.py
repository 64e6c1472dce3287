"""Train a checkpoint again from its manifest, and report whether the weights are the same."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftreg import process
from ftreg.config.code_named import refuse_code_named
from ftreg.config.custom_code import trust_notes
from ftreg.config.sections import RunConfig
from ftreg.data import load_dataset
from ftreg.errors import DivergedError, InterruptedRunError, UndecidedError, UsageError
from ftreg.files.store import check_writable
from ftreg.jobs.keep_by import judge_by_scorer
from ftreg.jobs.launch import refuse_missing_processes, refuse_to_choose_a_folder
from ftreg.jobs.same_weights import Reproduction, compare_weights, environment, recorded_environment
from ftreg.records.checkpoint import Checkpoint, read_checkpoint
from ftreg.records.layout import MANIFEST
from ftreg.records.manifest import Manifest
from ftreg.records.recipe import recipe_differences

if TYPE_CHECKING:
    from ftreg.training.events import TrainEvents


def reproduce(
    checkpoint_folder: Path, *, output: Path | None = None, events: "TrainEvents | None" = None
) -> Reproduction:
    """Train again according to the manifest, and compare.

    Args:
        checkpoint_folder: a checkpoint with its manifest.
        output: the checkpoint folder to write; None trains in a temporary one and removes it.
        events: receives progress.

    Raises:
        UsageError: the checkpoint's files, its base model or its dataset are not those of the
            manifest, its settings were changed during the run, it names forbidden code, or
            several processes have no `output`; nothing was trained.
        DivergedError: training diverged in the recorded environment.
        UndecidedError: it diverged in a different environment.
    """
    from ftreg.training.events import Silent

    events = events or Silent()
    refuse_missing_processes()
    if output is None:
        refuse_to_choose_a_folder()
    else:
        check_writable(output)
    checkpoint = read_checkpoint(checkpoint_folder)
    manifest = checkpoint.manifest
    events.phase("checking the checkpoint, its dataset and its base model")
    config = repeatable_config(checkpoint, events)
    differences = recipe_differences(recorded_environment(manifest), _environment_here(config))
    if differences:
        named = "; ".join(f"{key} {recorded} -> {here}" for key, recorded, here in differences)
        events.notice(
            f"not the recorded environment ({named}): equal weights prove the recipe here too, "
            "different ones prove nothing"
        )
    _tell_of_chance(manifest, events)
    with _folder(output) as folder:
        again = _train(
            config, folder, differences=differences, kept=output is not None, events=events
        )
        events.phase("comparing")
        return compare_weights(checkpoint, again, kept=output is not None)


def _tell_of_chance(manifest: Manifest, events: "TrainEvents") -> None:
    """Report that a run is not expected to be reproducible, if it was not deterministic."""
    if manifest.training.deterministic is False:
        events.notice(
            "it was trained with train.deterministic: false on a GPU, so the bits differ each "
            "time: equal weights would be a coincidence, different weights prove nothing"
        )


def repeatable_config(checkpoint: Checkpoint, events: "TrainEvents") -> RunConfig:
    """Return the configuration that recreates a checkpoint, after checking all that it names.

    Args:
        checkpoint: with its manifest.
        events: receives notices of code that will run.

    Raises:
        UsageError: the checkpoint's files, its base model or its dataset are not those of the
            manifest, its settings were changed during the run, or it names forbidden code.
    """
    manifest = checkpoint.manifest
    refuse_code_named(
        manifest.config,
        marks={},
        where=checkpoint.folder / MANIFEST,
        recorded=True,
        sections=("base", "optimizer", *(["eval"] if manifest.config.train.keep_by else [])),
    )
    base = manifest.config.base
    for note in trust_notes([base.model] if base.trust_remote_code else []):
        events.notice(note)
    checkpoint.verify()
    _check_one_recipe(checkpoint)
    _check_dataset(checkpoint)
    config = recorded_config(manifest)
    _check_base(checkpoint, config)
    return config


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    """Yield the folder to write, or a temporary one."""
    if output is not None:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="ftreg-reproduce-") as folder:
        yield Path(folder) / "checkpoint"


def _train(
    config: RunConfig,
    folder: Path,
    *,
    differences: list[tuple[str, Any, Any]],
    kept: bool,
    events: "TrainEvents",
) -> Checkpoint:
    """Train; if it ends early, no message may point to a deleted folder."""
    from ftreg.training.run import train

    judge = judge_by_scorer(config, events)
    try:
        return train(config, output=folder, strict=False, judge=judge, events=events)
    except InterruptedRunError as error:
        if kept:
            raise
        raise InterruptedRunError("interrupted; nothing was kept or decided") from error
    except DivergedError as error:
        text = str(error) if kept else str(error).partition("\n")[0]
        if not differences:
            error.args = (f"not reproduced: {text}",)
            raise
        named = ", ".join(key for key, _, _ in differences)
        raise UndecidedError(f"undecided: {text}\nThe environment differs: {named}") from error


def _check_dataset(checkpoint: Checkpoint) -> None:
    """Compare the available dataset version with the recorded one."""
    manifest = checkpoint.manifest
    recorded, settings = manifest.dataset, manifest.config.dataset
    dataset = load_dataset(settings.version, root=Path(settings.root))
    split = dataset.card.splits.get(recorded.split)
    if split is None or split.sha256 != recorded.split_sha256:
        what = f"the rows of its split {recorded.split!r} are different"
    elif dataset.card.digest != recorded.digest:
        what = "its prompt, clusters or another split are different"
    else:
        dataset.verify(recorded.split)
        return
    raise UsageError(
        f"{dataset.folder}: {dataset.ref} has changed since {checkpoint.folder} was trained on "
        f"it: {what} (digest {recorded.digest[:12]}... then, {dataset.card.digest[:12]}... now). "
        "A dataset version never changes: restore it from version control."
    )


def _check_base(checkpoint: Checkpoint, config: RunConfig) -> None:
    """Compare the available base model with the recorded one."""
    from ftreg.models.pretrained import find_base

    recorded = checkpoint.manifest.base
    base = find_base(config.base)
    if recorded.configuration not in (None, base.configuration):
        raise UsageError(
            f"{base.folder}: config.json or generation_config.json of the base model "
            f"{recorded.model} has changed since {checkpoint.folder} was trained from it; restore "
            "its former content"
        )
    if base.digest != recorded.digest:
        raise UsageError(
            f"{base.folder}: the base model {recorded.model} has changed since "
            f"{checkpoint.folder} was trained from it: weights {recorded.digest[:12]}... then, "
            f"{base.digest[:12]}... now. Restore the model with the recorded weights; nothing "
            "else can reproduce this checkpoint."
        )


def _check_one_recipe(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that is not the result of one configuration and a complete run."""
    if checkpoint.manifest.training.midway:
        raise UsageError(
            f"{checkpoint.folder} was written during a run, after step "
            f"{checkpoint.manifest.training.steps}; only complete runs are reproduced: name the "
            "final checkpoint. With train.checkpoint_steps the new run also writes this one."
        )
    for resumption in checkpoint.manifest.training.resumed:
        if resumption.changed:
            keys = ", ".join(change["key"] for change in resumption.changed)
            raise UsageError(
                f"{checkpoint.folder}: {keys} was changed after step {resumption.after_step}, when "
                "the run was resumed, so no single configuration gives these weights. Train "
                "without the change, or repeat it by hand with `ftreg train --resume`."
            )


def recorded_config(manifest: Manifest) -> RunConfig:
    """Return the manifest's configuration with the values resolved at run time, without trackers.

    Precision and threads are those of the run, unless this machine has fewer cores; a hub's branch
    is replaced by its commit at the time.
    """
    config, training = manifest.config, manifest.training
    base = config.base
    if manifest.base.source == "hub":
        base = base.model_copy(update={"revision": manifest.base.revision})
    cores = os.cpu_count() or 1
    fewer = cores < min(training.threads, manifest.environment["hardware"]["cores"] or cores)
    settings = {
        "precision": training.precision,
        "threads": cores if fewer else training.threads,
        "save_steps": None,
        "checkpoint_steps": config.train.checkpoint_steps if config.train.keep_by else None,
        "checkpoint_total_limit": None,
        "report_to": [],
    }
    train = config.train.model_copy(update=settings)
    return config.model_copy(update={"base": base, "train": train})


def _environment_here(config: RunConfig) -> dict[str, Any]:
    from ftreg.training.environment import describe_environment

    return environment(
        describe_environment(),
        threads=config.train.threads,
        processes=process.process_count(),
    )
