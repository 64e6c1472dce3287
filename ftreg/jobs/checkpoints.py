"""What `ftreg checkpoints` shows: the checkpoints of a workspace, one of them, and its plot."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ConfigDict

from ftreg.errors import FtregError, UsageError
from ftreg.files.store import write_text
from ftreg.records.checkpoint import Checkpoint, list_checkpoints, read_checkpoint
from ftreg.records.manifest import Manifest
from ftreg.records.printed import Printed, printed
from ftreg.records.replicas import read_replicas
from ftreg.records.workspace import Workspace

PLOT = "history.svg"


class CheckpointRecord(Manifest):
    """What `ftreg train --json` prints of a checkpoint: its manifest, and where it lies."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    checkpoint: str
    """Path of its folder."""


@printed
class GroupRecord(Printed):
    """What is printed of a group of replicas."""

    checkpoint: Path
    """Path of the group's folder, which `ftreg eval` takes as one."""
    replicas: tuple[CheckpointRecord, ...]
    """In the order of their seeds."""


@printed
class ListedCheckpoint:
    """A checkpoint of the workspace; each replica of a group is one."""

    name: str
    """Path of its folder, below that of the checkpoints."""
    optimizer: str
    """As the configuration names it."""
    lr: float
    """The learning rate of the configuration."""
    dataset: str
    """`name@N`, what it was trained on."""
    steps: int
    """Optimizer steps."""
    loss: float
    """Loss per token in nats at the last step."""
    identity: str
    """Hex digest of its recipe, environment and weights."""


@printed
class CheckpointList(Printed):
    """What `ftreg checkpoints list --json` prints."""

    checkpoints: tuple[ListedCheckpoint, ...]
    """By name."""


def checkpoints_of(workspace: Workspace) -> CheckpointList:
    """List the checkpoints of a workspace with their optimizer and data.

    Raises:
        UsageError: a manifest is damaged, or of a newer ftreg.
    """
    return CheckpointList(
        checkpoints=tuple(
            ListedCheckpoint(
                name=str(checkpoint.folder.relative_to(workspace.checkpoints)),
                optimizer=checkpoint.manifest.optimizer["name"],
                lr=checkpoint.manifest.optimizer["arguments"]["lr"],
                dataset=checkpoint.manifest.dataset.version,
                steps=checkpoint.manifest.training.steps,
                loss=checkpoint.manifest.training.last_loss,
                identity=checkpoint.manifest.identity,
            )
            for checkpoint in list_checkpoints(workspace.checkpoints)
        )
    )


def show_checkpoint(folder: Path) -> Manifest | GroupRecord:
    """Return a checkpoint's manifest, or those of a group of replicas, after checking the files.

    Raises:
        UsageError: there is no checkpoint, or its files do not match its manifest.
    """
    found = read_replicas(folder)
    for member in found.members:
        member.verify()
    if len(found.members) == 1:
        return found.first.manifest
    return group_record(found.folder, found.members)


def checkpoint_record(checkpoint: Checkpoint) -> CheckpointRecord:
    """Return a checkpoint's manifest and its folder."""
    return CheckpointRecord(checkpoint=str(checkpoint.folder), **dict(checkpoint.manifest))


def group_record(folder: Path, members: Sequence[Checkpoint]) -> GroupRecord:
    """Return the manifests of replicas and their folders."""
    return GroupRecord(checkpoint=folder, replicas=tuple(map(checkpoint_record, members)))


def plot_checkpoint(folder: Path, *, output: Path | None = None) -> Path:
    """Draw loss, learning rate, gradient norm and step size of a checkpoint's run.

    Args:
        folder: the checkpoint's.
        output: the .svg to write; None is `history.svg` in the folder.

    Returns:
        The file that was written.

    Raises:
        UsageError: there is no checkpoint, or `output` has another extension.
    """
    checkpoint = read_checkpoint(folder)
    path = output or folder / PLOT
    if path.suffix.lower() != ".svg":
        raise UsageError(f"--output {path}: name a file that ends in .svg")
    from ftreg.report.history_plot import draw_checkpoint

    write_text(path, draw_checkpoint(checkpoint))
    return path


def plot_beside(folder: Path, *, notice: Callable[[str], None]) -> None:
    """Write the plot into a new checkpoint's folder; a failure is only a notice."""
    try:
        plot_checkpoint(folder)
    except Exception as error:  # the checkpoint is complete even without the plot
        kind = "" if isinstance(error, FtregError) else f"{type(error).__name__}: "
        notice(f"{PLOT} could not be drawn: {kind}{error}")
