"""What commands print with `--json` about checkpoints: training, listing, comparing recipes."""

from typing import Any, Literal

from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.files.checking import documented
from ftreg.jobs.schemas.printed.base import ALL_PRINTED, Printed
from ftreg.records.manifest import Manifest


class PrintedTraining(Manifest):
    """What `ftreg train --json` prints of a checkpoint: its manifest, and where it lies."""

    model_config = ALL_PRINTED

    checkpoint: str
    """Path of its folder."""


@documented
class PrintedGroup(Printed):
    """What is printed of a group of replicas."""

    checkpoint: str
    """Path of the group's folder, which `ftreg eval` takes as one."""
    replicas: list[PrintedTraining]
    """In the order of their seeds."""


class TrainedOfSeries(PrintedTraining):
    """A configuration of a series that became a checkpoint."""

    file: str
    """Path of the configuration."""


@documented
class GroupOfSeries(TypedDict):
    """A configuration of a series that became a group of replicas."""

    file: str
    """Path of the configuration."""
    checkpoint: str
    """Path of the group's folder."""
    replicas: list[PrintedTraining]
    """In the order of their seeds."""


@documented
class FailedOfSeries(TypedDict):
    """A configuration of a series that became no checkpoint."""

    file: str
    """Path of the configuration."""
    error: str
    """What went wrong, as stderr has it too."""
    exit_code: int
    """What training it alone would have ended with."""


@documented
class PrintedSeries(Printed):
    """What `ftreg train --json` prints of several configurations, whether or not one failed."""

    runs: list[TrainedOfSeries | GroupOfSeries | FailedOfSeries]
    """In the order of the configurations."""


@documented
class ListedCheckpoint(TypedDict):
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


@documented
class PrintedCheckpoints(Printed):
    """What `ftreg checkpoints list --json` prints."""

    checkpoints: list[ListedCheckpoint]
    """By name."""


@documented
class RecipeDifference(TypedDict):
    """A setting in which two recipes differ."""

    setting: str
    """As `optimizer.lr`."""
    first: Any
    """Its value in the first checkpoint; null where it has none, a list where replicas differ."""
    second: Any
    """The same of the second."""


@documented
class PrintedRecipeDifference(Printed):
    """What `ftreg diff --json` prints."""

    same_weights: bool
    """Whether the two have the same weights, whatever their recipes."""
    differences: list[RecipeDifference]
    """None where the recipes are the same."""


@documented
class ComparedDigests(TypedDict):
    """A digest that was recorded, and the reproduction's."""

    equal: bool
    """Whether the two are the same."""
    recorded: str | None
    """Null where the checkpoint has no such file."""
    reproduced: str | None
    """Null where the reproduction has none."""


@documented
class FirstLossDifference(TypedDict):
    """The first step whose loss is not the same number."""

    step: int
    """Counted from 1."""
    recorded: float | None
    """Loss per token in nats; null past the history's end."""
    reproduced: float | None
    """Null past the history's end."""


@documented
class WeightDistance(TypedDict):
    """How far the weights lie apart."""

    max_abs: float
    """The largest absolute difference of two weights."""
    relative_l2: float | None
    """L2 norm of all differences over that of the recorded weights; null if these are all 0."""
    unlike: list[str]
    """Tensors that only one side has, or that have another shape; they are in neither number."""


@documented
class ReproducedSetting(TypedDict):
    """A setting, or a part of the environment, that differs."""

    setting: str
    """As `versions.torch`."""
    recorded: Any
    """Its value in the manifest; null where it has none."""
    here: Any
    """Its value now; null where it has none."""


@documented
class PrintedReproduction(Printed):
    """What `ftreg reproduce --json` prints, whether it ends with 0, 1 or 3."""

    checkpoint: str
    """Path of the folder of the checkpoint."""
    reproduction: str | None
    """Path of the new checkpoint's folder; null where --output did not ask to keep it."""
    outcome: Literal["reproduced", "not reproduced", "undecided"]
    """Whether the weights are equal; undecided where they differ, and the environment does too."""
    weights: ComparedDigests
    """Over all files of weights."""
    files: dict[str, ComparedDigests]
    """The same file by file."""
    order: ComparedDigests
    """Of the order of the rows."""
    first_loss_difference: FirstLossDifference | None
    """Null where the losses of all steps are equal."""
    distance: WeightDistance | None
    """Null where the weights are equal."""
    differences: list[ReproducedSetting]
    """Where recipe, environment or the files beside the weights differ."""
