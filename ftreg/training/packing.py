"""Set up packing, and prove on the model itself that packed examples do not see each other."""

import torch
from transformers import PreTrainedModel

from ftreg.errors import UsageError
from ftreg.training.attention import use_packed_attention
from ftreg.training.batches import micro_batches
from ftreg.training.examples import TokenisedExamples
from ftreg.training.loop import completion_loss

# fp32 sums in another order; a leak between examples changes the loss by far more.
_TOLERANCE = 1e-3


def prepare_packing(model: PreTrainedModel, examples: TokenisedExamples) -> bool:
    """Choose the attention for packed rows, and hold it against the model's own on single rows.

    Not every architecture and attention implementation honours positions that start again; one
    that does not would train on answers that can see other examples, and say nothing.

    Returns:
        Whether the model was switched to `packed_attention`.

    Raises:
        UsageError: the loss of two short examples in one row is not that of each alone.
    """
    shortest = sorted(range(len(examples)), key=examples.length)[:2]
    alone = _loss(model, examples, shortest, packing=False, own_attention=False)
    switched = use_packed_attention(model)
    together = _loss(model, examples, shortest, packing=True, own_attention=switched)
    if abs(together - alone) > _TOLERANCE * max(1.0, abs(alone)):
        raise UsageError(
            "train.packing: this model does not keep packed examples apart (loss "
            f"{together:.4f} packed, {alone:.4f} alone); set train.packing: false"
        )
    return switched


def _loss(
    model: PreTrainedModel,
    examples: TokenisedExamples,
    rows: list[int],
    *,
    packing: bool,
    own_attention: bool,
) -> float:
    room = sum(examples.length(row) for row in rows)
    batches = micro_batches(rows, examples, max_tokens=room, packing=packing)
    with torch.no_grad():
        losses = [
            completion_loss(model, batch, device=model.device, own_attention=own_attention)
            for batch in batches
        ]
    return sum(loss.item() for loss in losses)
