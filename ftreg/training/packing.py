"""Prove on the model itself that packed examples do not see each other."""

import dataclasses

import torch
from transformers import PreTrainedModel

from ftreg.errors import UsageError
from ftreg.training.batching.examples import TokenisedExamples
from ftreg.training.loss import Loss

# fp32 sums in another order; a leak between examples changes the loss by far more.
_TOLERANCE = 1e-3


def loss_alone(model: PreTrainedModel, examples: TokenisedExamples) -> float:
    """Return the loss of the two shortest examples in nats, each alone, by plain transformers.

    Before any kernel is switched on.
    """
    return _of_shortest(model, examples, Loss())


def prove_packing(
    model: PreTrainedModel, examples: TokenisedExamples, loss: Loss, *, alone: float
) -> None:
    """Hold the loss of two examples in one row against that of each alone.

    Not every architecture and attention implementation honours positions that start again; one
    that does not would train on answers that can see other examples, and say nothing.

    Args:
        model: as it is going to train, but for its precision.
        examples: of which the two shortest are taken.
        loss: that is going to train.
        alone: of `loss_alone`.

    Raises:
        UsageError: the two losses are not the same.
    """
    together = _of_shortest(model, examples, loss)
    if abs(together - alone) > _TOLERANCE * max(1.0, abs(alone)):
        raise UsageError(
            "train.packing: this model does not keep packed examples apart (loss "
            f"{together:.4f} packed, {alone:.4f} alone); set train.packing: false"
        )


def _of_shortest(model: PreTrainedModel, examples: TokenisedExamples, loss: Loss) -> float:
    rows = sorted(range(len(examples)), key=examples.length)[:2]
    if loss.row_tokens:  # the two are to share a row, however long they are
        loss = dataclasses.replace(loss, row_tokens=sum(map(examples.length, rows)))
    with torch.no_grad():
        losses = [loss(model, batch, device=model.device) for batch in loss.lay_out(rows, examples)]
    return sum(part.item() for part in losses)
