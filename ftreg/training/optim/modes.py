"""Optimizers whose training weights are not the weights to keep, such as schedule-free ones.

Their `eval()` puts the weights to keep into the model, and their `train()` the weights to continue
with. A training state holds the latter, so that a resumed run has the same bits as an uninterrupted
one; everything else is saved or measured within `evaluation_weights`.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer

from ftreg.errors import UsageError


@contextlib.contextmanager
def evaluation_weights(optimizer: Any) -> Iterator[None]:
    """Put the weights to keep into the model, in place, for the block; it does not nest.

    Afterwards the weights have the same bits as before, which an optimizer's own round trip would
    not give: it rounds. For an optimizer without modes, nothing happens.

    Args:
        optimizer: the run's optimizer, wrapped by accelerate or not; in training mode.
    """
    switching = with_modes(optimizer)
    if switching is None:
        yield
        return
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    trained = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        switching.eval()
    try:
        yield
    finally:
        with torch.no_grad():
            switching.train()
            for weight, before in zip(weights, trained, strict=True):
                weight.copy_(before)


def begin_training(optimizer: torch.optim.Optimizer) -> None:
    """Put a new optimizer into training mode, and check that it can leave it again.

    Raises:
        UsageError: it has modes, but its `train` or `eval` is missing or needs an argument.
    """
    switching = with_modes(optimizer)
    if switching is None:
        return
    for method in ("train", "eval"):
        found = getattr(switching, method, None)
        try:
            if not callable(found):
                raise TypeError("there is none")
            inspect.signature(found).bind()
        except TypeError as error:
            raise UsageError(
                f"optimizer.path: {type(switching).__name__} has modes, but its {method}() cannot "
                f"be called without arguments ({error}), so a checkpoint would not hold the "
                "weights to keep; give the class train() and eval() without arguments"
            ) from error
    switching.train()


def with_modes(optimizer: Any) -> Any:
    """Return the optimizer that switches weights: this one or one that it wraps; else None.

    accelerate's wrapper always has both methods, whatever it wraps; and in older versions its
    `eval` does not reach an optimizer nested in another
    (https://github.com/huggingface/accelerate/pull/4130).
    """
    if isinstance(optimizer, AcceleratedOptimizer):
        optimizer = optimizer.optimizer
    while isinstance(optimizer, torch.optim.Optimizer):
        if any(callable(getattr(optimizer, name, None)) for name in ("train", "eval")):
            return optimizer
        optimizer = getattr(optimizer, "optimizer", None)
    return None
