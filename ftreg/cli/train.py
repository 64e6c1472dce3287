"""`ftreg train`."""

import datetime
import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ftreg.checkpoint import MANIFEST, REPLICAS, Checkpoint
from ftreg.cli import options
from ftreg.cli.checkpoints import plot_beside
from ftreg.cli.command import command
from ftreg.cli.processes import start_missing_processes
from ftreg.cli.progress import Bars
from ftreg.errors import UsageError
from ftreg.workspace import Workspace

_RECORDS = (MANIFEST, REPLICAS)


@command
def train(
    config: Annotated[Path, typer.Argument(help="The run's YAML.", show_default=False)],
    overrides: options.Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Checkpoint folder to write.", show_default=False),
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
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Fine-tune a base model and save a checkpoint with all that made it.

    Example: ftreg train configs/lion.yaml -s optimizer.lr=1e-5
    """
    from ftreg.config.load import load_config

    settings = load_config(config, overrides=overrides or [])
    folder = output or (Path(settings.train.output) if settings.train.output else None)
    start_missing_processes()
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    leads = int(os.environ.get("RANK", "0")) == 0
    if allow_change and not resume:
        raise UsageError("--allow-change belongs to --resume")
    if allow_change and settings.train.seeds is not None:
        raise UsageError("--allow-change: replicas share one recipe, from their first step on")
    if folder is None and resume:
        folder = _newest_unfinished(Workspace.current().checkpoints, config.stem)
    if folder is None and together:
        raise UsageError("several processes train together: name their one --output")
    if folder is None:
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
        name = f"{config.stem}-{stamp}-{uuid.uuid4().hex[:4]}"
        folder = Workspace.current().checkpoints / name

    with Bars(quiet=quiet or not leads) as bars:
        bars.phase("starting")
        if settings.train.seeds is None:
            from ftreg.training.run import train as run_training

            checkpoints: Sequence[Checkpoint] = [
                run_training(
                    settings,
                    output=folder,
                    strict=strict,
                    resume=resume,
                    allow_change=allow_change or [],
                    events=bars,
                )
            ]
        else:
            from ftreg.training.replicas import train_replicas

            checkpoints = train_replicas(
                settings, output=folder, strict=strict, resume=resume, events=bars
            ).members
        for checkpoint in checkpoints if leads else ():
            plot_beside(checkpoint, bars.notice)
    if not leads:
        return
    values = [
        {"checkpoint": str(item.folder), **item.manifest.model_dump(mode="json")}
        for item in checkpoints
    ]
    text = "\n".join(map(_summary, checkpoints))
    if settings.train.seeds is None:
        options.show(as_json, value=values[0], text=text)
    else:
        options.show(
            as_json,
            value={"checkpoint": str(folder), "replicas": values},
            text=f"{text}\n{folder}: {len(values)} replicas, which `ftreg eval` takes as one",
        )


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


def _newest_unfinished(checkpoints: Path, stem: str) -> Path:
    """The run of this configuration that was interrupted last, among those named by ftreg."""
    named = re.compile(re.escape(stem) + r"-\d{8}T\d{6}-[0-9a-f]{4}")
    states = [path for path in checkpoints.glob("*.state") if named.fullmatch(path.stem)]
    # Of replicas, the group's folder is there from the first one on, and its record in the end.
    states += [
        path
        for path in checkpoints.glob("*")
        if named.fullmatch(path.name) and not any((path / name).is_file() for name in _RECORDS)
    ]
    found = sorted(states, key=lambda path: path.stat().st_mtime)
    if not found:
        raise UsageError(
            f"--resume: {checkpoints} has no interrupted run of {stem}; name it with --output"
        )
    newest = found[-1]
    return newest.with_suffix("") if newest.suffix == ".state" else newest
