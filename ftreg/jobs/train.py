"""Train what a configuration asks for, and several configurations in turn."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ftreg.config.sections import RunConfig
from ftreg.errors import DivergedError, FtregError, InterruptedRunError, UsageError
from ftreg.files.store import check_writable
from ftreg.records.checkpoint import Checkpoint
from ftreg.training.events import TrainEvents
from ftreg.training.prepare import make_accelerator
from ftreg.training.replicate import train_replicas
from ftreg.training.run import train
from ftreg.training.session import refuse_together


@dataclass(frozen=True, slots=True)
class Planned:
    """One configuration of a series, and the folder that it is to write."""

    file: Path
    config: RunConfig
    folder: Path


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it: a checkpoint, one per seed, or an error and none."""

    plan: Planned
    checkpoints: tuple[Checkpoint, ...]
    error: FtregError | None = None


def train_configured(
    config: RunConfig,
    *,
    output: Path,
    strict: bool,
    resume: bool,
    allow_change: Sequence[str] = (),
    events: TrainEvents,
) -> tuple[Checkpoint, ...]:
    """Train a checkpoint, or with `train.seeds` a replica for each; see `train`, `train_replicas`.

    Raises:
        UsageError: as they do.
        DivergedError: as they do.
        InterruptedRunError: as they do.
    """
    if config.train.seeds is not None:
        if allow_change:
            raise UsageError("--allow-change: replicas share one recipe, from their first step on")
        return train_replicas(
            config, output=output, strict=strict, resume=resume, events=events
        ).members
    return (
        train(
            config,
            output=output,
            strict=strict,
            resume=resume,
            allow_change=allow_change,
            events=events,
        ),
    )


def train_series(
    plans: Sequence[Planned], *, strict: bool, resume: bool, events: TrainEvents
) -> list[Trained]:
    """Train several configurations, one after the other; one that fails does not stop the others.

    Tokenised examples are kept by what decides them, so that configurations of one dataset version
    and base model prepare them once.

    Args:
        plans: in the order of training.
        strict: as for `train`.
        resume: as for `train`, for each of them: what is complete is not trained again.
        events: is told of the progress.

    Raises:
        UsageError: two would write to one folder, or a folder cannot be written; nothing began.
        InterruptedRunError: SIGINT or SIGTERM came; what is trained so far is kept.
    """
    import torch

    threads = torch.get_num_threads()
    refuse_together(make_accelerator(plans[0].config), lambda: _refuse(plans, resume=resume))
    found = []
    for number, plan in enumerate(plans, start=1):
        events.notice(f"training {plan.file}, {number} of {len(plans)}, in {plan.folder}")
        torch.set_num_threads(threads)  # as many as it would have alone
        try:
            made = train_configured(
                plan.config, output=plan.folder, strict=strict, resume=resume, events=events
            )
            found.append(Trained(plan, made))
        except InterruptedRunError as error:
            raise InterruptedRunError(
                f"training ended in the midst of {plan.file}, {number} of {len(plans)}; its state "
                f"and what was trained before are kept (in {plan.folder.parent}). Go on with the "
                "same command and --resume."
            ) from error
        except FtregError as error:
            events.notice(f"{plan.file}: {error}")
            found.append(Trained(plan, (), error))
        gc.collect()  # the last model is gone before the next one comes
    return found


def _refuse(plans: Sequence[Planned], *, resume: bool) -> None:
    folders = [plan.folder for plan in plans]
    for plan in plans:
        if folders.count(plan.folder) > 1:
            raise UsageError(
                f"{plan.file}: another of these configurations would write to {plan.folder} too; "
                "train them one by one, each with its --output"
            )
        if not resume:
            check_writable(plan.folder)


def failure_of(trained: Sequence[Trained]) -> FtregError | None:
    """Return one error that names each configuration that failed; None if all are trained."""
    failed = [item for item in trained if item.error is not None]
    if not failed:
        return None
    lines = [f"{len(failed)} of {len(trained)} configurations failed:"]
    for item in failed:
        lines.append(f"  {item.plan.file}: " + str(item.error).replace("\n", "\n    "))
    text = "\n".join(lines)
    if any(isinstance(item.error, DivergedError) for item in failed):
        return DivergedError(text, taken=False)
    return UsageError(text)
