"""The training state on disk: what `--resume` needs to continue as if uninterrupted.

```
<output>.state/
    history.jsonl        a line per step, written live, for watching a run
    best-00000150/       the weights with the lowest validation loss, see `state.best`
    step-00000200/       written atomically
        model.safetensors      the trainable weights (all of them, or the adapters) and buffers
        optimizer.safetensors  the tensors of the optimizer's state
        history.jsonl          every step up to here
        config.yaml            the recipe; `ftreg train` accepts it
        state.json             the rest, with the files' SHA-256; written last
```

It has no random state: each step is seeded separately (`ftreg.training.loop`).
"""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ftreg.errors import UsageError
from ftreg.files.names import files_below
from ftreg.files.store import (
    TEMPORARY_PREFIX,
    damaged,
    file_digest,
    read_json,
    read_jsonl,
    staged_folder,
    write_jsonl,
    write_record,
    write_text,
)
from ftreg.training.events import StepRecord
from ftreg.training.state.tensors import (
    holds_tensors,
    join_tensors,
    load_tensors,
    save_tensors,
    sharded_like,
    split_tensors,
    whole,
)

STATE_SCHEMA = 1
STATE = "state.json"
WEIGHTS = "model.safetensors"
_OPTIMIZER = "optimizer.safetensors"
# The schedule sets these from the configuration, so they are never taken from a state.
_SCHEDULED = ("lr", "initial_lr")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerLayout:
    """What a saved state needs to know about an optimizer before its first step.

    `names` are the parameters' names in the optimizer's order; references to the parameters would
    keep the unsharded ones in memory. `built` are the initial `group_values`.
    """

    names: list[str]
    built: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """A verified state; `facts` is what the run recorded about itself, `history` its steps."""

    folder: Path
    step: int
    facts: dict[str, Any]
    history: list[StepRecord]
    optimizer: dict[str, Any]

    def restore(self, model: torch.nn.Module, optimizer: Any, names: Sequence[str]) -> None:
        """Load weights and optimizer state; `optimizer` keeps its hyperparameters.

        torch's `load_state_dict` takes all hyperparameters from the state, so a changed lr would
        have no effect, and Adam could become AdamW. Here a value of a parameter group comes from
        the state only if the run itself changed it (a step counter, an estimate).

        Args:
            model: the model, without a wrapper of data parallelism.
            optimizer: its optimizer.
            names: the parameters' names in the optimizer's order (`OptimizerLayout.names`).

        Raises:
            UsageError: the state is damaged, or does not fit this model or this optimizer.
        """
        restore_weights(self.folder / WEIGHTS, model)
        with damaged(self.folder / _OPTIMIZER, kind="training state"):
            tensors = load_tensors(self.folder / _OPTIMIZER)
            saved = {
                name: join_tensors(values, tensors)
                for name, values in self.optimizer["state"].items()
            }
        if not set(saved) <= set(names):
            raise UsageError(f"{self.folder}: the optimizer's state is of other parameters")
        current = optimizer.state_dict()["param_groups"]
        before, after = self.optimizer["groups_built"], self.optimizer["groups"]
        if len(before) != len(current):
            raise UsageError(f"{self.folder}: the optimizer has other parameter groups")
        merged = [
            group | {key: join_tensors(now[key], tensors) for key in _changed(built, now)}
            for group, built, now in zip(current, before, after, strict=True)
        ]
        parameters = dict(model.named_parameters())
        for name, values in saved.items():
            for key, value in values.items():
                if isinstance(value, torch.Tensor) and value.shape == parameters[name].shape:
                    values[key] = sharded_like(parameters[name], value)
        optimizer.load_state_dict(
            {
                "state": {i: saved[name] for i, name in enumerate(names) if name in saved},
                "param_groups": merged,
            }
        )


def state_folder(output: Path) -> Path:
    """Return the folder of a run's states: `<output>.state/`, next to its checkpoint."""
    return output.with_name(f"{output.name}.state")


def save_state(
    root: Path,
    *,
    model: torch.nn.Module,
    optimizer: Any,
    layout: OptimizerLayout,
    history: list[StepRecord],
    facts: Mapping[str, Any],
    config: str,
    keep: int,
    write: bool = True,
) -> Path:
    """Save the state after the last step of `history`, and delete all but the newest `keep`.

    Args:
        root: the folder of states.
        model: the model, without a wrapper of data parallelism.
        optimizer: its optimizer.
        layout: the optimizer's layout.
        history: every step so far, at least one.
        facts: what the run records about itself, JSON-ready.
        config: the recipe as YAML.
        keep: number of states to keep, at least 1.
        write: False on processes that only contribute their shards of tensors.

    Returns:
        The state's folder; an existing one is left unchanged.

    Raises:
        UsageError: the folder cannot be written, or the optimizer's state has something that is
            neither a tensor nor a plain value. Earlier states are kept.
    """
    step = history[-1].step
    folder = state_of_step(root, step)
    if folder.exists():
        return folder
    values, tensors = _taken_apart(optimizer, layout)
    weights = whole_weights(model)
    if not write:
        return folder
    with staged_folder(folder) as staging:
        save_tensors(staging / WEIGHTS, weights)
        save_tensors(staging / _OPTIMIZER, tensors)
        write_jsonl(staging / "history.jsonl", (record.to_dict() for record in history))
        write_text(staging / "config.yaml", config)
        content = {
            "schema_version": STATE_SCHEMA,
            "step": step,
            "facts": dict(facts),
            "optimizer": values,
            "files": {path.name: file_digest(path) for path in sorted(staging.iterdir())},
        }
        write_record(staging / STATE, content)
    for old in list_states(root)[:-keep]:
        remove_state(old)
    return folder


def _taken_apart(
    optimizer: Any, layout: OptimizerLayout
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return an optimizer's state, JSON-ready, and the tensors that it refers to."""
    tensors: dict[str, torch.Tensor] = {}
    try:
        state = {
            layout.names[index]: split_tensors(values, layout.names[index], tensors)
            for index, values in optimizer.state_dict()["state"].items()
        }
    except TypeError as error:
        raise UsageError(
            f"train.save_steps: the state of this optimizer cannot be saved: {error}; set "
            "train.save_steps: null to train without saving it"
        ) from error
    groups = group_values(optimizer, tensors)
    return {"state": state, "groups_built": layout.built, "groups": groups}, tensors


def group_values(
    optimizer: Any, tensors: dict[str, torch.Tensor] | None = None
) -> list[dict[str, Any]]:
    """Return the parameter groups' values without the parameters, JSON-ready.

    Some optimizers keep counters and estimates there. Tensors are moved to `tensors`; values that
    cannot be saved (a function) are omitted.
    """
    kept = {} if tensors is None else tensors
    groups = []
    for index, group in enumerate(optimizer.state_dict()["param_groups"]):
        values: dict[str, Any] = {}
        for key, value in group.items():
            if key == "params":
                continue
            with contextlib.suppress(TypeError):
                values[key] = split_tensors(value, f"group {index}/{key}", kept)
        groups.append(values)
    return groups


def _changed(built: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the keys that the run itself has changed; a tensor counts as changed."""
    return [
        key
        for key, value in now.items()
        if key not in _SCHEDULED
        and (key not in built or built[key] != value or holds_tensors(value))
    ]


def whole_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of a model to save, on the CPU; if sharded, all processes must call it."""
    return {name: whole(tensor).to("cpu") for name, tensor in _saved_tensors(model).items()}


def restore_weights(path: Path, model: torch.nn.Module) -> None:
    """Load `whole_weights` from a file into the model.

    Raises:
        UsageError: the file is damaged, or belongs to another model.
    """
    with damaged(path, kind="training state"):
        tensors = load_tensors(path)
    own = _saved_tensors(model)
    if set(own) != set(tensors):
        name = sorted(set(own) ^ set(tensors))[0]
        raise UsageError(f"{path}: these weights are of another model ({name})")
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise UsageError(f"{path}: {name} has another shape in this model")
            tensor.copy_(sharded_like(tensor, tensors[name]))


def _saved_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the trainable parameters, each once, and the persistent buffers."""
    buffers = dict(model.named_buffers())
    persistent = {name: buffers[name] for name in model.state_dict() if name in buffers}
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {name: tensor.detach() for name, tensor in (trainable | persistent).items()}


def state_of_step(root: Path, step: int) -> Path:
    """Return the folder of the state after a step, whether or not it exists."""
    return root / f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """Return the step in a folder's name."""
    return int(folder.name.rpartition("-")[2])


def list_states(root: Path) -> list[Path]:
    """Return the folders of states, oldest first."""
    return sorted(path for path in root.glob("step-*") if path.is_dir())


def remove_state(folder: Path) -> None:
    """Delete a state, `state.json` first, so that a partly deleted one never looks complete."""
    (folder / STATE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path) -> None:
    """Delete incomplete states of a killed run."""
    for path in root.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in list_states(root):
        if not (path / STATE).exists():
            shutil.rmtree(path, ignore_errors=True)


def read_state(folder: Path) -> TrainingState:
    """Read a state and verify every byte of it.

    Raises:
        UsageError: something is missing or has changed.
        NewerRecordError: a newer ftreg wrote it.
    """
    path = folder / STATE
    content = read_json(path, kind="training state", schema=STATE_SCHEMA, sealed=True)
    with damaged(path, kind="training state"):
        for name, expected in files_below(content["files"]).items():
            if not (folder / name).is_file():
                raise UsageError(f"{folder / name}: this file of a training state is missing")
            if file_digest(folder / name) != expected:
                raise UsageError(f"{folder / name}: the file has changed since it was written")
        return TrainingState(
            folder=folder,
            step=content["step"],
            facts=content["facts"],
            history=[StepRecord(**row) for _, row in read_jsonl(folder / "history.jsonl")],
            optimizer=content["optimizer"],
        )
