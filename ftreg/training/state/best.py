"""The weights with the lowest validation loss so far, beside the training states.

`<output>.state/best-00000150/` is whole or not there. Which step is the best follows from the
history, so that a state says it by itself; its weights stay as long as a state needs them.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from ftreg.errors import UsageError
from ftreg.files.cache.sealed import is_whole, seal_of
from ftreg.files.store import file_digest, staged_folder, write_text
from ftreg.training.state.saved import WEIGHTS, list_states, restore_weights, step_of
from ftreg.training.state.tensors import save_tensors


def save_best(root: Path, step: int, weights: Mapping[str, torch.Tensor]) -> None:
    """Write the weights after a step, and delete those that no state needs any more.

    Args:
        root: the folder of states.
        step: whose validation loss is the lowest so far.
        weights: of `whole_weights`.

    Raises:
        UsageError: they cannot be written; the ones before are kept.
    """
    with staged_folder(_folder(root, step)) as staging:
        save_tensors(staging / WEIGHTS, weights)
        write_text(seal_of(staging / WEIGHTS), file_digest(staging / WEIGHTS))
    found = _list(root)
    needed = {found[-1]}
    for state in list_states(root):
        needed |= set([path for path in found if step_of(path) <= step_of(state)][-1:])
    for path in set(found) - needed:
        shutil.rmtree(path, ignore_errors=True)


def drop_best_after(root: Path, step: int) -> None:
    """Delete the weights of later steps: they are taken anew."""
    for path in _list(root):
        if step_of(path) > step:
            shutil.rmtree(path, ignore_errors=True)


def check_best(root: Path, step: int) -> None:
    """Check every byte of the weights after a step.

    Raises:
        UsageError: they are not there, or have changed.
    """
    path = _folder(root, step) / WEIGHTS
    if not is_whole(path):
        raise UsageError(
            f"{path}: the file is missing, or has changed since it was written; without the best "
            f"weights so far the run cannot go on: move {root} away and train again"
        )


def restore_best(root: Path, step: int, model: torch.nn.Module) -> None:
    """Put the weights after a step back into the model.

    Raises:
        UsageError: they are not there, or damaged.
    """
    check_best(root, step)
    restore_weights(_folder(root, step) / WEIGHTS, model)


def _folder(root: Path, step: int) -> Path:
    return root / f"best-{step:08d}"


def _list(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("best-*") if path.is_dir())
