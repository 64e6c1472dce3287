"""`ftreg train`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.checkpoints import group_record, plot_beside, training_record
from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.processes import start_missing_processes
from ftreg.cli.shared.progress import Bars
from ftreg.errors import UsageError
from ftreg.records.checkpoint import Checkpoint
from ftreg.records.runs import new_run, newest_or_new, unfinished_runs
from ftreg.records.samples import PRINTED_SCHEMA
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.checkpoints import (
        FailedOfSeries,
        GroupOfSeries,
        PrintedSeries,
        TrainedOfSeries,
    )
    from ftreg.jobs.train import Trained


@command
def train(
    configs: Annotated[
        list[Path],
        typer.Argument(
            metavar="CONFIG",
            help="The run's YAML; several are trained in turn.",
            show_default=False,
        ),
    ],
    overrides: options.Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Checkpoint folder to write; of several, the folder to write theirs in.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse settings that there is advice against.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the state that an interrupted run saved.")
    ] = False,
    allow_change: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="With --resume: let this setting differ from the state's.",
            show_default=False,
        ),
    ] = None,
    no_custom_code: options.NoCustomCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Fine-tune a base model and save a checkpoint with all that made it.

    Example: ftreg train configs/lion.yaml -s optimizer.lr=1e-5
    """
    from ftreg.config.load import load_config

    settings = [load_config(config, overrides=overrides or []) for config in configs]
    start_missing_processes()
    leads = int(os.environ.get("RANK", "0")) == 0
    if allow_change and not resume:
        raise UsageError("--allow-change belongs to --resume")
    if allow_change and len(configs) > 1:
        raise UsageError("--allow-change belongs to one configuration; go on with it alone")
    if leads:
        options.tell_of_trust(item.base.model for item in settings if item.base.trust_remote_code)
    with Bars(quiet=quiet, silent=not leads) as bars:
        folders = [
            _folder(
                config,
                item.train.output,
                output,
                resume=resume,
                several=len(configs) > 1,
                bars=bars,
            )
            for config, item in zip(configs, settings, strict=True)
        ]
        bars.phase("starting")
        from ftreg.jobs.train import Planned, failure_of, train_configured, train_series

        if len(configs) == 1:
            made = train_configured(
                settings[0],
                output=folders[0],
                strict=strict,
                resume=resume,
                allow_change=allow_change or [],
                events=bars,
            )
        else:
            plans = list(map(Planned, configs, settings, folders))
            trained = train_series(plans, strict=strict, resume=resume, events=bars)
            made = tuple(item for one in trained for item in one.checkpoints)
        for checkpoint in made if leads else ():
            plot_beside(checkpoint, bars.notice)
    if not leads:
        return
    if len(configs) == 1:
        group = settings[0].train.seeds is not None
        options.show(
            as_json,
            value=group_record(folders[0], made) if group else training_record(made[0]),
            text=_text(folders[0], made, group=group),
        )
        return
    value: PrintedSeries = {
        "schema_version": PRINTED_SCHEMA,
        "runs": [_run_record(one) for one in trained],
    }
    texts = [
        _text(one.plan.folder, one.checkpoints, group=_is_group(one))
        for one in trained
        if one.error is None
    ]
    options.show(as_json, value=value, text="\n".join(texts))
    failure = failure_of(trained)
    if failure is not None:
        raise failure


def _folder(
    config: Path,
    named: str | None,
    output: Path | None,
    *,
    resume: bool,
    several: bool,
    bars: Bars,
) -> Path:
    """Where a configuration's checkpoint goes; `named` is its own `train.output`."""
    if output is not None:
        return output / config.stem if several else output
    if named is not None:
        return Path(named)
    checkpoints = Workspace.current().checkpoints
    if resume and not several:
        *others, last = unfinished_runs(checkpoints, config.stem)
        names = ", ".join(map(str, others))
        also = f", begun last; --output names another: {names}" if others else ""
        bars.notice(f"--resume goes on with {last}{also}")
        return last
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes train together: name their one --output")
    return (newest_or_new if resume else new_run)(checkpoints, config.stem)


def _is_group(one: "Trained") -> bool:
    return one.plan.config.train.seeds is not None


def _run_record(one: "Trained") -> "TrainedOfSeries | GroupOfSeries | FailedOfSeries":
    from ftreg.jobs.schemas.printed.checkpoints import TrainedOfSeries

    file = str(one.plan.file)
    if one.error is not None:
        return {"file": file, "error": str(one.error), "exit_code": int(one.error.exit_code)}
    if not _is_group(one):
        return TrainedOfSeries(file=file, **dict(training_record(one.checkpoints[0])))
    return {
        "file": file,
        "checkpoint": str(one.plan.folder),
        "replicas": [training_record(item) for item in one.checkpoints],
    }


def _text(folder: Path, checkpoints: Sequence[Checkpoint], *, group: bool) -> str:
    text = "\n".join(map(_summary, checkpoints))
    if not group:
        return text
    return f"{text}\n{folder}: {len(checkpoints)} replicas, which `ftreg eval` takes as one"


def _summary(checkpoint: Checkpoint) -> str:
    record = checkpoint.manifest.training
    return (
        f"{checkpoint.folder}\n"
        f"  {checkpoint.manifest.optimizer['name']}, {record.steps} steps, "
        f"{record.tokens} tokens in {record.seconds:.0f} s "
        f"({record.tokens / record.seconds:.0f} tokens/s), {record.precision}\n"
        f"  loss per token {record.first_loss:.3f} at the first step, "
        f"{record.last_loss:.3f} at the last (each sees other rows; see history.jsonl)"
    )
