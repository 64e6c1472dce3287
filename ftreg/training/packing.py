"""Prove on the model itself that packed examples do not see each other."""

import torch
from torch import nn

from ftreg.errors import UsageError
from ftreg.training.batches import micro_batches
from ftreg.training.examples import TokenisedExamples
from ftreg.training.loop import completion_loss

# fp32 sums in another order; a leak between examples changes the loss by far more.
_TOLERANCE = 1e-3


def check_packing(model: nn.Module, examples: TokenisedExamples) -> None:
    """Compare the loss of two short examples in one row with the loss of each alone.

    Not every architecture and attention implementation honours positions that start again; one
    that does not would train on answers that can see other examples, and say nothing.

    Raises:
        UsageError: the losses differ.
    """
    shortest = sorted(range(len(examples)), key=examples.length)[:2]
    if len(shortest) < 2:
        return
    room = sum(examples.length(row) for row in shortest)
    with torch.no_grad():
        losses = [
            sum(
                completion_loss(model, batch, device=torch.device("cpu")).item()
                for batch in micro_batches(shortest, examples, max_tokens=room, packing=packing)
            )
            for packing in (True, False)
        ]
    if abs(losses[0] - losses[1]) > _TOLERANCE * max(1.0, abs(losses[1])):
        raise UsageError(
            "train.packing: this model does not keep packed examples apart (loss "
            f"{losses[0]:.4f} packed, {losses[1]:.4f} alone); set train.packing: false"
        )
