"""Set up packing, and prove on the model itself that packed examples do not see each other."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from ftreg.errors import UsageError
from ftreg.models.attention import use_packed_attention
from ftreg.training.batching.batches import micro_batches
from ftreg.training.batching.examples import TokenisedExamples
from ftreg.training.loop import completion_loss

# fp32 sums in another order; a leak between examples changes the loss by far more.
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Packing:
    """How a model takes packed rows: by `packed_attention`, and with a shared prefix in them."""

    own_attention: bool = False
    share_prefix: bool = False


def prepare_packing(model: PreTrainedModel, examples: TokenisedExamples) -> Packing:
    """Choose the attention for packed rows, and hold it against the model's own on single rows.

    Not every architecture and attention implementation honours positions that start again; one
    that does not would train on answers that can see other examples, and say nothing. A prefix is
    shared where `packed_attention` takes it and the model has no dropout, which would be another in
    each example.

    Returns:
        How the model, which may have been switched to `packed_attention`, takes packed rows.

    Raises:
        UsageError: the loss of two short examples in one row is not that of each alone.
    """
    shortest = sorted(range(len(examples)), key=examples.length)[:2]
    alone = _loss(model, examples, shortest, packing=False, how=Packing())
    switched = use_packed_attention(model)
    how = Packing(own_attention=switched, share_prefix=switched and not _is_random(model, examples))
    together = _loss(model, examples, shortest, packing=True, how=how)
    if abs(together - alone) > _TOLERANCE * max(1.0, abs(alone)):
        raise UsageError(
            "train.packing: this model does not keep packed examples apart (loss "
            f"{together:.4f} packed, {alone:.4f} alone); set train.packing: false"
        )
    return how


def _is_random(model: PreTrainedModel, examples: TokenisedExamples) -> bool:
    """Whether training draws random numbers in the model's own pass (dropout)."""
    shortest = [min(range(len(examples)), key=examples.length)]
    how = Packing(own_attention=True)
    before = model.training
    model.train()
    with torch.random.fork_rng(devices=[]):
        state = torch.random.get_rng_state()
        _loss(model, examples, shortest, packing=True, how=how)
        drawn = not torch.equal(state, torch.random.get_rng_state())
    model.train(before)
    return drawn


def _loss(
    model: PreTrainedModel,
    examples: TokenisedExamples,
    rows: list[int],
    *,
    packing: bool,
    how: Packing,
) -> float:
    room = sum(examples.length(row) for row in rows)
    batches = micro_batches(
        rows, examples, max_tokens=room, packing=packing, share_prefix=how.share_prefix
    )
    with torch.no_grad():
        losses = [
            completion_loss(model, batch, device=model.device, own_attention=how.own_attention)
            for batch in batches
        ]
    return sum(loss.item() for loss in losses)
