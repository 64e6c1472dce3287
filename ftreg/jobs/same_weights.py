"""Whether a checkpoint that was trained again is the same, and what differs where it is not."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ftreg.errors import ExitCode, UsageError
from ftreg.files.store import read_jsonl
from ftreg.records.checkpoint import Checkpoint
from ftreg.records.manifest import Manifest
from ftreg.records.recipe import recipe_differences, recipe_of
from ftreg.records.samples import PRINTED_SCHEMA

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.checkpoints import ComparedDigests, PrintedReproduction

Outcome = Literal["reproduced", "not reproduced", "undecided"]

# Elements of a tensor that are compared at a time, in float64.
_CHUNK = 1 << 20
# Files that say nothing of what was trained: when, with which threads, in the order of a set.
_INCIDENTAL = ("config.yaml", "history.jsonl", "adapter_config.json")
# Settings whose change can change the last bits without anybody having made a mistake.
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


@dataclass(frozen=True, slots=True)
class Digests:
    """What was recorded of something, and what the reproduction has; None where it has nothing."""

    recorded: str | None
    reproduced: str | None

    @property
    def equal(self) -> bool:
        """Whether they are the same."""
        return self.recorded == self.reproduced


@dataclass(frozen=True, slots=True)
class LossDifference:
    """The first step whose losses are not the same number; None past a history's end."""

    step: int
    recorded: float | None
    reproduced: float | None


@dataclass(frozen=True, slots=True)
class Distance:
    """How far weights lie apart.

    `max_abs` is the largest absolute difference of two weights, `relative_l2` the L2 norm of all
    differences over that of the recorded weights (None if they are all 0). `unlike` names the
    tensors that only one side has, or that have another shape; they are in neither number.
    """

    max_abs: float
    relative_l2: float | None
    unlike: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What came out; `settings` are (setting, recorded, here) where recipe or environment differ.

    `distance` is None where the weights are equal.
    """

    outcome: Outcome
    weights: Digests
    files: dict[str, Digests]
    order: Digests
    losses: LossDifference | None
    distance: Distance | None
    settings: list[tuple[str, Any, Any]]

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with."""
        return OUTCOMES[self.outcome]

    def to_dict(self, *, checkpoint: Path, kept: Path | None) -> "PrintedReproduction":
        """Return everything, JSON-ready.

        Args:
            checkpoint: the folder of what was reproduced.
            kept: that of the reproduction; None where it was not kept.
        """
        losses, distance = self.losses, self.distance
        return {
            "schema_version": PRINTED_SCHEMA,
            "checkpoint": str(checkpoint),
            "reproduction": None if kept is None else str(kept),
            "outcome": self.outcome,
            "weights": _digests(self.weights),
            "files": {name: _digests(item) for name, item in self.files.items()},
            "order": _digests(self.order),
            "first_loss_difference": None
            if losses is None
            else {
                "step": losses.step,
                "recorded": losses.recorded,
                "reproduced": losses.reproduced,
            },
            "distance": None
            if distance is None
            else {
                "max_abs": distance.max_abs,
                "relative_l2": distance.relative_l2,
                "unlike": distance.unlike,
            },
            "differences": [
                {"setting": key, "recorded": recorded, "here": here}
                for key, recorded, here in self.settings
            ],
        }


def _digests(item: Digests) -> "ComparedDigests":
    return {"equal": item.equal, "recorded": item.recorded, "reproduced": item.reproduced}


def recorded_environment(manifest: Manifest) -> dict[str, Any]:
    """What the last bits of a checkpoint can depend on, as its manifest has it."""
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
    """What the last bits can depend on, flat.

    Memory is left out, which changes no number, and so is whether the work tree was clean, which
    a new file beside the code changes.
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


def compare(checkpoint: Checkpoint, again: Checkpoint) -> Reproduction:
    """Hold a checkpoint that was trained again against the first."""
    old, new = checkpoint.manifest, again.manifest
    weights = Digests(old.weights.digest, new.weights.digest)
    names = sorted({*old.weights.files, *new.weights.files})
    settings = recipe_differences(_everything(old), _everything(new))
    elsewhere = any(key.startswith(_ENVIRONMENT) for key, _, _ in settings)
    otherwise: Outcome = "undecided" if elsewhere else "not reproduced"
    return Reproduction(
        outcome="reproduced" if weights.equal else otherwise,
        weights=weights,
        files={
            name: Digests(old.weights.files.get(name), new.weights.files.get(name))
            for name in names
        },
        order=Digests(old.dataset.order_digest, new.dataset.order_digest),
        losses=_first_difference(checkpoint.folder, again.folder),
        distance=None if weights.equal else _distance(checkpoint, again),
        settings=settings,
    )


def _everything(manifest: Manifest) -> dict[str, Any]:
    """Recipe, environment, and the files beside the weights (tokenizer, model configuration)."""
    files = {
        f"files.{name}": value for name, value in manifest.files.items() if name not in _INCIDENTAL
    }
    return {**recipe_of(manifest), **recorded_environment(manifest), **files}


def _first_difference(old: Path, new: Path) -> LossDifference | None:
    """The first step at which two histories part; exactly, as JSON keeps every bit of a number."""
    histories = (read_jsonl(folder / "history.jsonl") for folder in (old, new))
    for step, (recorded, reproduced) in enumerate(zip_longest(*histories), start=1):
        losses = [None if line is None else line[1]["loss"] for line in (recorded, reproduced)]
        if losses[0] != losses[1]:
            return LossDifference(step, *losses)
    return None


def _distance(old: Checkpoint, new: Checkpoint) -> Distance:
    """Compare tensor by tensor, so that neither checkpoint is ever in memory as a whole."""
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
    return Distance(
        max_abs=largest,
        relative_l2=(squares / norm) ** 0.5 if norm else None,
        unlike=unlike,
    )
