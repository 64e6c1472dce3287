"""Train one or more configurations, one after the other."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ftreg import process
from ftreg.config.custom_code import trust_notes
from ftreg.config.load import load_config
from ftreg.config.sections import RunConfig
from ftreg.errors import DivergedError, ExitCode, FtregError, InterruptedRunError, UsageError
from ftreg.files.store import check_writable
from ftreg.jobs.checkpoints import (
    CheckpointRecord,
    GroupRecord,
    checkpoint_record,
    group_record,
    plot_beside,
)
from ftreg.jobs.keep_by import judge_by_scorer
from ftreg.jobs.launch import refuse_missing_processes, refuse_to_choose_a_folder
from ftreg.records.printed import Printed, printed
from ftreg.records.runs import new_run, newest_or_new, unfinished_runs
from ftreg.records.workspace import Workspace
from ftreg.training.events import Silent, TrainEvents


class TrainedOfSeries(CheckpointRecord):
    """A configuration of a series that resulted in a checkpoint."""

    file: str
    """Path of the configuration."""


@printed
class GroupOfSeries:
    """A configuration of a series that resulted in a group of replicas."""

    file: Path
    """Path of the configuration."""
    checkpoint: Path
    """Path of the group's folder."""
    replicas: tuple[CheckpointRecord, ...]
    """In the order of their seeds."""


@printed
class FailedOfSeries:
    """A configuration of a series that failed."""

    file: Path
    """Path of the configuration."""
    error: str
    """The error message, as on stderr."""
    exit_code: int
    """The exit code of training it alone."""


@printed
class Series(Printed):
    """What `ftreg train --json` prints for several configurations, whether or not one failed."""

    runs: tuple[TrainedOfSeries | GroupOfSeries | FailedOfSeries, ...]
    """In the order of the configurations."""


Trained = CheckpointRecord | GroupRecord | Series


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A configuration and its output folder."""

    file: Path
    config: RunConfig
    folder: Path


def train_files(
    files: Sequence[Path],
    *,
    workspace: Workspace,
    overrides: Sequence[str] = (),
    output: Path | None = None,
    strict: bool = False,
    resume: bool = False,
    allow_change: Sequence[str] = (),
    events: TrainEvents | None = None,
) -> Trained:
    """Train configurations: a checkpoint each, or a replica for each of its seeds.

    Several are trained one after the other, and one that fails does not stop the others. Each
    checkpoint gets a plot of its history.

    Args:
        files: the YAML of each.
        workspace: has the checkpoints, unless `output` or a `train.output` names a folder.
        overrides: `KEY=VALUE`, for all of them.
        output: the checkpoint folder to write; for several configurations, the folder for theirs.
        strict: treat advice against settings as an error.
        resume: continue from the states of interrupted runs; complete ones are not trained again.
        allow_change: settings that may differ from the state's; with one configuration only.
        events: receives progress.

    Returns:
        The checkpoint or the group of replicas; for several configurations, the result of each.

    Raises:
        UsageError: a configuration, its data or the arguments are invalid. With several, an error
            of one that only shows during its training is in the result instead.
        DivergedError: a single configuration led to a loss, gradient or weight that is not finite.
        InterruptedRunError: SIGINT, SIGTERM or SIGHUP was received; training so far is kept.
    """
    if allow_change and not resume:
        raise UsageError("--allow-change belongs to --resume")
    if allow_change and len(files) > 1:
        raise UsageError("--allow-change applies to one configuration; resume it alone")
    events = events or Silent()
    plans = _plans(
        files, overrides, output=output, workspace=workspace, resume=resume, events=events
    )
    events.phase("starting")
    found: Trained
    if len(plans) == 1:
        found = _train(
            plans[0], strict=strict, resume=resume, allow_change=allow_change, events=events
        )
    else:
        found = _train_series(plans, strict=strict, resume=resume, events=events)
    _plot(found, events)
    return found


def train_config(
    config: RunConfig,
    *,
    name: str,
    workspace: Workspace,
    output: Path | None = None,
    strict: bool = False,
    resume: bool = False,
    events: TrainEvents | None = None,
) -> CheckpointRecord | GroupRecord:
    """Train one configuration, which need not come from a file.

    Args:
        config: the configuration.
        name: prefix of the folder's name, if neither `output` nor `train.output` is set.
        workspace: has the checkpoints.
        output: the checkpoint folder to write.
        strict: treat advice against settings as an error.
        resume: continue from the state of an interrupted run.
        events: receives progress.

    Raises:
        UsageError, DivergedError, InterruptedRunError: as `train_files`.
    """
    events = events or Silent()
    _prepare([config], events)
    folder = output or _folder(config, name, workspace=workspace, resume=resume, events=events)
    plan = _Plan(file=Path(name), config=config, folder=folder)
    events.phase("starting")
    found = _train(plan, strict=strict, resume=resume, allow_change=(), events=events)
    _plot(found, events)
    return found


def _plot(found: Trained, events: TrainEvents) -> None:
    for item in checkpoints_in(found) if process.leads() else ():
        plot_beside(Path(item.checkpoint), notice=events.notice)


def checkpoints_in(found: Trained | GroupOfSeries | FailedOfSeries) -> list[CheckpointRecord]:
    """Return the trained checkpoints, each replica separately."""
    if isinstance(found, CheckpointRecord):
        return [found]
    if isinstance(found, Series):
        return [item for run in found.runs for item in checkpoints_in(run)]
    return [] if isinstance(found, FailedOfSeries) else list(found.replicas)


def failure_of(found: Trained) -> FtregError | None:
    """Return one error that names each failed configuration; None if none failed."""
    runs = found.runs if isinstance(found, Series) else ()
    failed = [item for item in runs if isinstance(item, FailedOfSeries)]
    if not failed:
        return None
    lines = [f"{len(failed)} of {len(runs)} configurations failed:"]
    for item in failed:
        lines.append(f"  {item.file}: " + item.error.replace("\n", "\n    "))
    text = "\n".join(lines)
    if any(item.exit_code == ExitCode.REGRESSION for item in failed):
        return DivergedError(text, taken=False)
    return UsageError(text)


def _plans(
    files: Sequence[Path],
    overrides: Sequence[str],
    *,
    output: Path | None,
    workspace: Workspace,
    resume: bool,
    events: TrainEvents,
) -> list[_Plan]:
    """Read the configurations, and choose the folder of each."""
    configs = [load_config(file, overrides=overrides) for file in files]
    _prepare(configs, events)
    several = len(files) > 1
    plans = []
    for file, config in zip(files, configs, strict=True):
        if output is not None:
            folder = output / file.stem if several else output
        elif several and resume and config.train.output is None:
            refuse_to_choose_a_folder()
            folder = newest_or_new(workspace.checkpoints, file.stem)
        else:
            folder = _folder(config, file.stem, workspace=workspace, resume=resume, events=events)
        plans.append(_Plan(file=file, config=config, folder=folder))
    return plans


def _prepare(configs: Sequence[RunConfig], events: TrainEvents) -> None:
    refuse_missing_processes()
    for note in trust_notes(item.base.model for item in configs if item.base.trust_remote_code):
        events.notice(note)


def _folder(
    config: RunConfig, stem: str, *, workspace: Workspace, resume: bool, events: TrainEvents
) -> Path:
    """Return the folder of a run without a configured output."""
    if config.train.output is not None:
        return Path(config.train.output)
    if resume:
        return _unfinished(workspace.checkpoints, stem, events)
    refuse_to_choose_a_folder()
    return new_run(workspace.checkpoints, stem)


def _unfinished(checkpoints: Path, stem: str, events: TrainEvents) -> Path:
    """Return the most recently started interrupted run of a configuration."""
    *others, last = unfinished_runs(checkpoints, stem)
    names = ", ".join(map(str, others))
    also = f", the latest; --output names another: {names}" if others else ""
    events.notice(f"--resume continues {last}{also}")
    return last


def _train(
    plan: _Plan, *, strict: bool, resume: bool, allow_change: Sequence[str], events: TrainEvents
) -> CheckpointRecord | GroupRecord:
    from ftreg.training.replicate import train_replicas
    from ftreg.training.run import train

    config, output = plan.config, plan.folder
    judge = judge_by_scorer(config, events)
    if config.train.seeds is not None:
        if allow_change:
            raise UsageError("--allow-change: replicas share one recipe from the first step")
        made = train_replicas(
            config, output=output, strict=strict, resume=resume, judge=judge, events=events
        )
        return group_record(output, made.members)
    checkpoint = train(
        config,
        output=output,
        strict=strict,
        resume=resume,
        allow_change=allow_change,
        judge=judge,
        events=events,
    )
    return checkpoint_record(checkpoint)


def _train_series(
    plans: Sequence[_Plan], *, strict: bool, resume: bool, events: TrainEvents
) -> Series:
    """Train several configurations, each with as many threads as it would use alone."""
    import torch

    from ftreg.training.prepare import make_accelerator
    from ftreg.training.session import refuse_together

    threads = torch.get_num_threads()
    refuse_together(make_accelerator(plans[0].config), lambda: _refuse(plans, resume=resume))
    runs: list[TrainedOfSeries | GroupOfSeries | FailedOfSeries] = []
    for number, plan in enumerate(plans, start=1):
        events.notice(f"training {plan.file}, {number} of {len(plans)}, in {plan.folder}")
        torch.set_num_threads(threads)
        try:
            made = _train(plan, strict=strict, resume=resume, allow_change=(), events=events)
            runs.append(_of_series(plan, made))
        except InterruptedRunError as error:
            raise InterruptedRunError(
                f"training was interrupted in {plan.file}, {number} of {len(plans)}; its state "
                f"and earlier checkpoints are kept (in {plan.folder.parent}). Continue with the "
                "same command and --resume."
            ) from error
        except FtregError as error:
            events.notice(f"{plan.file}: {error}")
            failed = FailedOfSeries(
                file=plan.file, error=str(error), exit_code=int(error.exit_code)
            )
            runs.append(failed)
        gc.collect()  # the last model is gone before the next one comes
    return Series(runs=tuple(runs))


def _of_series(
    plan: _Plan, made: CheckpointRecord | GroupRecord
) -> TrainedOfSeries | GroupOfSeries:
    if isinstance(made, CheckpointRecord):
        return TrainedOfSeries(file=str(plan.file), **dict(made))
    return GroupOfSeries(file=plan.file, checkpoint=made.checkpoint, replicas=made.replicas)


def _refuse(plans: Sequence[_Plan], *, resume: bool) -> None:
    folders = [plan.folder for plan in plans]
    for plan in plans:
        if folders.count(plan.folder) > 1:
            raise UsageError(
                f"{plan.file}: another of these configurations would also write to {plan.folder}; "
                "train them one by one, each with its own --output"
            )
        if not resume:
            check_writable(plan.folder)
