"""The one place where training's kernels are switched on; `train.kernels: off` passes it by.

docs/kernels.md says what each of them replaces, and how to delete it.
"""

import contextlib
import dataclasses
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from ftreg.config.sections import RunConfig
from ftreg.models.attention import restore_attention, use_packed_attention
from ftreg.training.batching.examples import TokenisedExamples
from ftreg.training.kernels.adapted import fuse_adapters
from ftreg.training.kernels.head import find_head
from ftreg.training.kernels.tied import add_rows_to_tied_gradient
from ftreg.training.loss import Loss


def kernels_for_rows(
    loss: Loss,
    network: PreTrainedModel,
    examples: TokenisedExamples,
    *,
    accelerator: Accelerator,
) -> Loss:
    """Have a model take packed rows, and its output layer many positions, by kernels.

    What they compute is for `prove_packing` to check.

    Args:
        loss: by plain transformers.
        network: the model as loaded, with its adapters, where it has some.
        examples: what it is going to be trained on.
        accelerator: of the run.

    Returns:
        The loss by those kernels that suit model and machine.
    """
    # Sharded, the output layer's weights are whole in the model's own pass only.
    head = None if accelerator.is_fsdp2 else find_head(network)
    loss = dataclasses.replace(loss, head=head)
    if loss.row_tokens and use_packed_attention(network):
        loss = dataclasses.replace(loss, packed_attention=True)
        # Dropout is another in each example, also where they begin alike.
        share = not _draws_random_numbers(loss, network, examples)
        loss = dataclasses.replace(loss, share_prefix=share)
    return loss


def _draws_random_numbers(
    loss: Loss, network: PreTrainedModel, examples: TokenisedExamples
) -> bool:
    """Whether training draws random numbers in the model's own pass (dropout)."""
    (batch,) = loss.lay_out([min(range(len(examples)), key=examples.length)], examples)
    before = network.training
    network.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        state = torch.random.get_rng_state()
        loss(network, batch, device=network.device)
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
    """Have adapters, the output layer and the embedding compute by kernels, on a CPU.

    After `prove_packing`, which wants more than bf16.

    Args:
        loss: of `kernels_for_rows`.
        network: the model as loaded.
        trained: the same, or the adapters around it.
        config: the whole configuration.
        accelerator: of the run.
    """
    if accelerator.device.type != "cpu" or accelerator.is_fsdp2:
        return
    if config.lora is not None and not config.train.compile:
        low = accelerator.mixed_precision == "bf16"
        fuse_adapters(trained, torch.bfloat16 if low else torch.float32)
    # Several processes share a gradient as soon as autograd is done with it.
    if accelerator.num_processes == 1 and loss.head is not None:
        fused = loss.head.fuse()
        if fused is not None:
            add_rows_to_tied_gradient(network, fused.kept)


@contextlib.contextmanager
def without_kernels(loss: Loss, network: PreTrainedModel) -> Iterator[None]:
    """Undo, within the block, what would be saved with the model or keep it from working alone."""
    if loss.packed_attention:
        restore_attention(network)
    try:
        yield
    finally:
        if loss.packed_attention:
            use_packed_attention(network)
