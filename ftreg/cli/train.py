"""`ftreg train`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg import process
from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.checkpoints import CheckpointRecord
    from ftreg.jobs.train import FailedOfSeries, GroupOfSeries, Trained

Configs = Annotated[
    list[Path],
    typer.Argument(metavar="CONFIG", help="The run's YAML; several are trained in turn."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Checkpoint folder to write; of several configurations, its parent.",
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Treat advice as errors.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Resume an interrupted run from its last saved state.")
]
AllowChange = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY", help="With --resume: let this setting differ from the state's."),
]


@command
def train(
    configs: Configs,
    overrides: options.Overrides = None,
    output: Output = None,
    strict: Strict = False,
    resume: Resume = False,
    allow_change: AllowChange = None,
    no_custom_code: options.NoCustomCode = False,
    debug: options.Debug = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Fine-tune a base model and save a checkpoint with its full recipe.

    Example: ftreg train configs/lion.yaml -s optimizer.lr=1e-5
    """
    from ftreg.jobs.train import failure_of, train_files

    with Bars(quiet=quiet, silent=not process.leads()) as bars:
        found = train_files(
            configs,
            workspace=Workspace.current(),
            overrides=overrides or (),
            output=output,
            strict=strict,
            resume=resume,
            allow_change=allow_change or (),
            events=bars,
        )
    if not process.leads():
        return
    options.show(as_json, value=found, text="\n".join(_lines(found)))
    if (failure := failure_of(found)) is not None:
        raise failure


def _lines(found: "Trained | GroupOfSeries | FailedOfSeries") -> Iterator[str]:
    from ftreg.jobs.checkpoints import CheckpointRecord
    from ftreg.jobs.train import FailedOfSeries, Series, checkpoints_in

    if isinstance(found, Series):
        for run in found.runs:
            yield from _lines(run)
        return
    made = checkpoints_in(found)
    yield from map(_summary, made)
    if not isinstance(found, FailedOfSeries | CheckpointRecord):
        yield f"{found.checkpoint}: {len(made)} replicas, which `ftreg eval` takes as one"


def _summary(checkpoint: "CheckpointRecord") -> str:
    from ftreg.report.phrases import validation_sentence

    record = checkpoint.training
    said = validation_sentence(checkpoint)
    return (
        f"{checkpoint.checkpoint}\n"
        f"  {checkpoint.optimizer['name']}, {record.steps} steps, "
        f"{record.tokens} tokens in {record.seconds:.0f} s "
        f"({record.tokens / record.seconds:.0f} tokens/s), {record.precision}\n"
        f"  loss per token {record.first_loss:.3f} at the first step, "
        f"{record.last_loss:.3f} at the last (each sees other rows; see history.jsonl)"
        + (f"\n  {said}" if said else "")
    )
