"""Optimizers that train with other weights than those to keep: schedule-free ones and their like.

Their `eval()` puts the weights to keep into the model and their `train()` those to go on with. A
training state holds the latter, so that a resumed run has the bits of one that was not stopped;
whatever else is saved or measured is made within `evaluation_weights`.
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
    """Have the weights in the model, in place, that a checkpoint is made of; it does not nest.

    Behind it the weights have the bits from before: there and back, an optimizer's own arithmetic
    rounds. An optimizer without modes keeps the weights that it trains, and nothing happens.

    Args:
        optimizer: the run's, wrapped by accelerate or not; in training mode.
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
    """Put an optimizer as built into training mode, and make sure that it can leave it again.

    Raises:
        UsageError: it has modes, and its `train` or `eval` is missing or needs an argument.
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
                f"be called as it is ({error}), so that a checkpoint would hold other weights "
                "than those to keep; give the class train() and eval() without arguments"
            ) from error
    switching.train()


def with_modes(optimizer: Any) -> Any:
    """Return what switches the weights: the optimizer, or one that it wraps; None if nothing does.

    accelerate's wrapper always has both methods, so that it says nothing of what is within; and
    the `eval` of older ones does not reach an optimizer within another
    (https://github.com/huggingface/accelerate/pull/4130).
    """
    if isinstance(optimizer, AcceleratedOptimizer):
        optimizer = optimizer.optimizer
    while isinstance(optimizer, torch.optim.Optimizer):
        if any(callable(getattr(optimizer, name, None)) for name in ("train", "eval")):
            return optimizer
        optimizer = getattr(optimizer, "optimizer", None)
    return None
