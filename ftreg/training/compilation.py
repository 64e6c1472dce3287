"""How the model's repeated layers run: compiled, or recomputed in the backward pass."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

from ftreg.errors import UsageError
from ftreg.models.attention import PACKED, packed_attention
from ftreg.training.batching.examples import TokenisedExamples
from ftreg.training.loss import Loss


def compile_layers(
    model: PreTrainedModel,
    examples: TokenisedExamples,
    loss: Loss,
    *,
    phase: Callable[[str], None],
) -> None:
    """Compile each decoder layer in place, and run one so that a missing compiler shows up now.

    Layers of one kind share the compiled code, so only one of them takes time. Shapes are dynamic:
    a row of packed examples can have any length.

    Args:
        model: as loaded.
        examples: the shortest of them is run.
        loss: the loss that will train.
        phase: called with a description.

    Raises:
        UsageError: the model does not list its layers, or compiling fails.
    """
    phase("compiling the layers")
    kinds = set(model._no_split_modules or ())
    layers = [module for module in model.modules() if type(module).__name__ in kinds]
    if not layers:
        raise UsageError(
            "train.compile: this model does not list its layers; set train.compile: false"
        )
    if loss.packed_attention:
        # Its loop over the examples' lengths would be recompiled for each row.
        kept_out: Any = torch.compiler.disable
        AttentionInterface.register(PACKED, kept_out(packed_attention))
    for layer in layers:
        layer.compile(dynamic=True)
    (batch,) = loss.lay_out([min(range(len(examples)), key=examples.length)], examples)
    try:
        loss(model, batch, device=model.device)
    except Exception as error:  # every compiler fails in its own way
        first = next(iter(str(error).strip().splitlines()), "")
        raise UsageError(
            f"train.compile: torch.compile does not work here: {type(error).__name__}: {first}; "
            "it needs a C++ compiler on the PATH, or set train.compile: false"
        ) from error


def compute_layers_again(model: PreTrainedModel) -> None:
    """Have each layer keep only its input, and recompute the rest in the backward pass.

    Random numbers (dropout) are drawn as before, so the gradients have the same bits. It also works
    if only parameters within the layers are trained, such as adapters (torch's
    `use_reentrant=False`).

    Raises:
        UsageError: the model's code does not support it.
    """
    enable: Any = getattr(
        model,
        "activation_checkpointing_enable",  # its name from transformers 5.24 on
        model.gradient_checkpointing_enable,
    )
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise UsageError(
            "train.gradient_checkpointing: this model does not support it; set it to false, and "
            "lower train.micro_batch_tokens"
        ) from error
