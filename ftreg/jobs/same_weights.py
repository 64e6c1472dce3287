"""Compare a retrained checkpoint with the original, and list the differences."""

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from ftreg.errors import ExitCode, UsageError
from ftreg.files.store import read_jsonl
from ftreg.records.checkpoint import Checkpoint
from ftreg.records.manifest import Manifest
from ftreg.records.printed import Printed, printed
from ftreg.records.recipe import recipe_differences, recipe_of

Outcome = Literal["reproduced", "not reproduced", "undecided"]

# Elements of a tensor that are compared at a time, in float64.
_CHUNK = 1 << 20
# Files that do not depend on training alone: times, threads, the order of a set.
_INCIDENTAL = ("config.yaml", "history.jsonl", "adapter_config.json")
# Settings whose change may legitimately change the last bits.
_ENVIRONMENT = (
    "versions.",
    "hardware.",
    "git.",
    "files.",
    "training.threads",
    "training.processes",
    "training.precision",
    "training.resumed",
    "optimizer.implementation",
)
OUTCOMES: Mapping[Outcome, ExitCode] = {
    "reproduced": ExitCode.OK,
    "not reproduced": ExitCode.REGRESSION,
    "undecided": ExitCode.UNDECIDED,
}


@printed
class ComparedDigests:
    """A recorded digest, and that of the reproduction."""

    equal: bool
    """Whether the two are the same."""
    recorded: str | None
    """Null if the checkpoint has no such file."""
    reproduced: str | None
    """Null if the reproduction has none."""


@printed
class FirstLossDifference:
    """The first step whose loss differs."""

    step: int
    """Counted from 1."""
    recorded: float | None
    """Loss per token in nats; null past the history's end."""
    reproduced: float | None
    """Null past the history's end."""


@printed
class WeightDistance:
    """Distance between the weights."""

    max_abs: float
    """The largest absolute difference of two weights."""
    relative_l2: float | None
    """L2 norm of all differences, relative to the recorded weights; null if these are all 0."""
    unlike: list[str]
    """Tensors that only one side has, or whose shapes differ; neither number includes them."""


@printed
class ReproducedSetting:
    """A setting, or a part of the environment, that differs."""

    setting: str
    """For example `versions.torch`."""
    recorded: Any
    """Its value in the manifest; null if it has none."""
    here: Any
    """Its value now; null if it has none."""


@printed
class Reproduction(Printed):
    """What `ftreg reproduce --json` prints, whether it exits with 0, 1 or 3."""

    checkpoint: Path
    """Path of the checkpoint's folder."""
    reproduction: Path | None
    """Path of the new checkpoint's folder; null without --output."""
    outcome: Outcome
    """Whether the weights are equal; undecided if both the weights and the environment differ."""
    weights: ComparedDigests
    """Over all files of weights."""
    files: Mapping[str, ComparedDigests]
    """The same for each file."""
    order: ComparedDigests
    """Of the order of the rows."""
    first_loss_difference: FirstLossDifference | None
    """Null if the losses of all steps are equal."""
    distance: WeightDistance | None
    """Null if the weights are equal."""
    differences: tuple[ReproducedSetting, ...]
    """Differences in recipe, environment or the files beside the weights."""

    @property
    def exit_code(self) -> ExitCode:
        """The command's exit code."""
        return OUTCOMES[self.outcome]


def recorded_environment(manifest: Manifest) -> dict[str, Any]:
    """Return what the last bits of a checkpoint can depend on, from its manifest."""
    training = manifest.training
    values = environment(
        manifest.environment, threads=training.threads, processes=training.processes
    )
    # A run that was interrupted may have been finished somewhere else.
    changes = [change for item in training.resumed for change in item.environment]
    return values | ({"training.resumed": "; ".join(changes)} if changes else {})


def environment(
    record: Mapping[str, Any], *, threads: int | None, processes: int
) -> dict[str, Any]:
    """Return what the last bits can depend on, as a flat mapping.

    It excludes memory, which affects no number, and whether the work tree was clean, which any new
    file beside the code changes.
    """
    hardware = {key: value for key, value in record["hardware"].items() if key != "memory_gib"}
    git = record.get("git") or {}
    return {
        **{f"versions.{key}": value for key, value in record["versions"].items()},
        **{f"hardware.{key}": value for key, value in hardware.items()},
        "git.commit": git.get("commit"),
        "training.threads": threads,
        "training.processes": processes,
    }


def compare_weights(checkpoint: Checkpoint, again: Checkpoint, *, kept: bool) -> Reproduction:
    """Compare a retrained checkpoint with the original.

    Args:
        checkpoint: the original.
        again: the retrained one.
        kept: whether its folder is kept.
    """
    old, new = checkpoint.manifest, again.manifest
    weights = _digests(old.weights.digest, new.weights.digest)
    names = sorted({*old.weights.files, *new.weights.files})
    settings = recipe_differences(_everything(old), _everything(new))
    elsewhere = any(key.startswith(_ENVIRONMENT) for key, _, _ in settings)
    # Such a run has different bits each time; one that ran out of memory is split differently.
    elsewhere |= old.training.deterministic is False or old.training.halvings != (
        new.training.halvings
    )
    otherwise: Outcome = "undecided" if elsewhere else "not reproduced"
    return Reproduction(
        checkpoint=checkpoint.folder,
        reproduction=again.folder if kept else None,
        outcome="reproduced" if weights.equal else otherwise,
        weights=weights,
        files={
            name: _digests(old.weights.files.get(name), new.weights.files.get(name))
            for name in names
        },
        order=_digests(old.dataset.order_digest, new.dataset.order_digest),
        first_loss_difference=_first_difference(checkpoint.folder, again.folder),
        distance=None if weights.equal else _distance(checkpoint, again),
        differences=tuple(
            ReproducedSetting(setting=key, recorded=recorded, here=here)
            for key, recorded, here in settings
        ),
    )


def _digests(recorded: str | None, reproduced: str | None) -> ComparedDigests:
    return ComparedDigests(equal=recorded == reproduced, recorded=recorded, reproduced=reproduced)


def _everything(manifest: Manifest) -> dict[str, Any]:
    """Return recipe, environment and the other files (tokenizer, model configuration)."""
    files = {
        f"files.{name}": value for name, value in manifest.files.items() if name not in _INCIDENTAL
    }
    return {**recipe_of(manifest), **recorded_environment(manifest), **files}


def _first_difference(old: Path, new: Path) -> FirstLossDifference | None:
    """Return the first step at which two histories differ; exact, as JSON keeps every bit."""
    histories = (read_jsonl(folder / "history.jsonl") for folder in (old, new))
    for step, (recorded, reproduced) in enumerate(zip_longest(*histories), start=1):
        losses = [None if line is None else line[1]["loss"] for line in (recorded, reproduced)]
        if losses[0] != losses[1]:
            return FirstLossDifference(step=step, recorded=losses[0], reproduced=losses[1])
    return None


def _distance(old: Checkpoint, new: Checkpoint) -> WeightDistance:
    """Compare tensor by tensor, so that neither checkpoint is ever completely in memory."""
    from safetensors import SafetensorError, safe_open

    def places(checkpoint: Checkpoint) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for name in checkpoint.manifest.weights.files:
            path = checkpoint.folder / name
            try:
                with safe_open(path, framework="pt") as tensors:
                    found |= dict.fromkeys(tensors.keys(), path)
            except SafetensorError as error:
                raise UsageError(f"{path}: these weights are not safetensors: {error}") from error
        return found

    first, second = places(old), places(new)
    unlike = sorted(set(first) ^ set(second))
    largest, squares, norm = 0.0, 0.0, 0.0
    for name in sorted(set(first) & set(second)):
        with (
            safe_open(first[name], framework="pt") as recorded,
            safe_open(second[name], framework="pt") as reproduced,
        ):
            before, after = recorded.get_tensor(name), reproduced.get_tensor(name)
        if before.shape != after.shape:
            unlike.append(name)
            continue
        for one, other in zip(
            before.flatten().split(_CHUNK), after.flatten().split(_CHUNK), strict=True
        ):
            difference = (other.double() - one.double()).abs()
            largest = max(largest, float(difference.max()) if len(difference) else 0.0)
            squares += float(difference.square().sum())
            norm += float(one.double().square().sum())
    return WeightDistance(
        max_abs=largest,
        relative_l2=(squares / norm) ** 0.5 if norm else None,
        unlike=unlike,
    )
