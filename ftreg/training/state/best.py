"""The weights with the lowest validation loss so far, saved next to the training states.

`<output>.state/best-00000150/` is written atomically. The best step follows from the history that
each state contains; its weights are kept as long as any state needs them.
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
    """Save the weights after a step, and delete those that no state needs any more.

    Args:
        root: the folder of states.
        step: the step with the lowest validation loss so far.
        weights: from `whole_weights`.

    Raises:
        UsageError: they cannot be written; the previous ones are kept.
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
    """Delete the weights of later steps, which will be repeated."""
    for path in _list(root):
        if step_of(path) > step:
            shutil.rmtree(path, ignore_errors=True)


def check_best(root: Path, step: int) -> None:
    """Verify every byte of the saved weights of a step.

    Raises:
        UsageError: they are missing, or have changed.
    """
    path = _folder(root, step) / WEIGHTS
    if not is_whole(path):
        raise UsageError(
            f"{path}: the file is missing, or has changed since it was written; the run cannot be "
            f"resumed without its best weights so far: move {root} away and train again"
        )


def restore_best(root: Path, step: int, model: torch.nn.Module) -> None:
    """Load the saved weights of a step into the model.

    Raises:
        UsageError: they are missing or damaged, or belong to another model.
    """
    check_best(root, step)
    restore_weights(_folder(root, step) / WEIGHTS, model)


def _folder(root: Path, step: int) -> Path:
    return root / f"best-{step:08d}"


def _list(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("best-*") if path.is_dir())
