"""The one place that enables training's kernels; `train.kernels: off` disables them.

docs/kernels.md says what each of them replaces, and how to remove it.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from ftreg.config.sections import RunConfig
from ftreg.models.attention import (
    restore_attention,
    shares_prefixes,
    takes_packed_attention,
    use_packed_attention,
)
from ftreg.training.batching.examples import TokenisedExamples
from ftreg.training.kernels.adapted import fuse_adapters
from ftreg.training.kernels.head import find_head
from ftreg.training.kernels.tied import add_rows_to_tied_gradient
from ftreg.training.loss import Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingWay:
    """A way to train; with no flag set, the model gets token ids and returns all logits."""

    shared_prefix: bool = False
    own_attention: bool = False
    packed: bool = False
    head: bool = False
    chosen_logits: bool = False

    @property
    def has_kernels(self) -> bool:
        """Whether it uses any of ftreg's own kernels."""
        return self.own_attention or self.head

    def lacks(self, other: "TrainingWay") -> list[str]:
        """Return the features that another way has and this one lacks, for messages."""
        names = {
            "packed": "packing (train.packing)",
            "own_attention": "attention by example (train.kernels)",
            "shared_prefix": "the shared prefix (train.kernels)",
            "head": "the head's loss (train.kernels)",
        }
        return [
            text for key, text in names.items() if getattr(other, key) and not getattr(self, key)
        ]


def ways_of(
    network: PreTrainedModel,
    examples: TokenisedExamples,
    *,
    config: RunConfig,
    accelerator: Accelerator,
) -> list[TrainingWay]:
    """Return the ways that a configuration allows, the fastest first, the plainest last.

    Args:
        network: the model as loaded, with its adapters, if any.
        examples: the training examples.
        config: the complete configuration.
        accelerator: the run's accelerator.
    """
    kernels = config.train.kernels == "auto"
    # Under sharding, the output layer's weights are complete only in the model's own pass.
    head = kernels and not accelerator.is_fsdp2
    ways = []
    if config.train.packing:
        if kernels and takes_packed_attention(network):
            # Dropout differs between examples, even in a common prefix.
            if shares_prefixes(accelerator.device) and not _draws_random_numbers(network, examples):
                ways.append(
                    TrainingWay(shared_prefix=True, own_attention=True, packed=True, head=head)
                )
            ways.append(TrainingWay(own_attention=True, packed=True, head=head))
        ways += [TrainingWay(packed=True, head=head), TrainingWay(packed=True)]
    ways += [TrainingWay(head=head), TrainingWay()]
    chosen = [dataclasses.replace(way, chosen_logits=True) for way in ways]
    return list(dict.fromkeys([*chosen, TrainingWay()]))


def loss_by(
    way: TrainingWay, network: PreTrainedModel, *, row_tokens: int, fused: bool = False
) -> Loss:
    """Switch a model to a way of training, and return the loss.

    Args:
        way: one of `ways_of` for the model, or for the model that it is a twin of.
        network: the model.
        row_tokens: maximum tokens of a row that examples share.
        fused: let the head also compute its gradient, as `kernels_for_layers` does later.
    """
    head = find_head(network) if way.head else None
    if fused and head is not None:
        gradients = head.fuse()
        if gradients is not None:
            add_rows_to_tied_gradient(network, gradients.kept)
    return Loss(
        row_tokens=row_tokens if way.packed else 0,
        packed_attention=way.own_attention and use_packed_attention(network),
        share_prefix=way.shared_prefix,
        head=head,
        bare=not way.chosen_logits,
    )


def _draws_random_numbers(network: PreTrainedModel, examples: TokenisedExamples) -> bool:
    """Whether training draws random numbers in the model's forward pass (dropout)."""
    bare = Loss(bare=True)
    (batch,) = bare.lay_out([min(range(len(examples)), key=examples.length)], examples)
    before = network.training
    network.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        state = torch.random.get_rng_state()
        bare(network, batch, device=network.device)
        drawn = not torch.equal(state, torch.random.get_rng_state())
    network.train(before)
    return drawn


def kernels_for_layers(
    loss: Loss,
    network: PreTrainedModel,
    trained: nn.Module,
    *,
    config: RunConfig,
    accelerator: Accelerator,
) -> None:
    """Switch adapters, output layer and embedding to kernels, on a CPU.

    Call it after `choose_loss`, whose check needs more precision than bf16.

    Args:
        loss: from `choose_loss`.
        network: the model as loaded.
        trained: the same, or the adapters around it.
        config: the complete configuration.
        accelerator: the run's accelerator.
    """
    if accelerator.device.type != "cpu" or accelerator.is_fsdp2:
        return
    if config.lora is not None and not config.train.compile:
        low = accelerator.mixed_precision == "bf16"
        fuse_adapters(trained, torch.bfloat16 if low else torch.float32)
    # Several processes exchange a gradient as soon as autograd is done with it.
    if accelerator.num_processes == 1 and loss.head is not None:
        fused = loss.head.fuse()
        if fused is not None:
            add_rows_to_tied_gradient(network, fused.kept)


@contextlib.contextmanager
def without_kernels(loss: Loss, network: PreTrainedModel) -> Iterator[None]:
    """Within the block, remove kernels that would be saved with the model or break it elsewhere."""
    remove_kernels(loss, network)
    try:
        yield
    finally:
        if loss.packed_attention:
            use_packed_attention(network)


def remove_kernels(loss: Loss, network: PreTrainedModel) -> None:
    """Remove kernels that would be saved with a model or break it elsewhere."""
    if loss.packed_attention:
        restore_attention(network)
