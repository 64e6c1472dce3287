"""Compile the model's repeated layers with torch.compile."""

from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

from ftreg.errors import UsageError
from ftreg.models.attention import PACKED, packed_attention
from ftreg.training.batching.examples import TokenisedExamples
from ftreg.training.loss import Loss


def compile_layers(model: PreTrainedModel, examples: TokenisedExamples, loss: Loss) -> None:
    """Compile each decoder layer in place, and run one so that a missing compiler shows now.

    Layers of one kind share the compiled code, so the wait is that of one layer. Shapes are
    dynamic: a row of packed examples has any length.

    Raises:
        UsageError: the model does not say which modules are its layers, or compiling fails.
    """
    kinds = set(model._no_split_modules or ())
    layers = [module for module in model.modules() if type(module).__name__ in kinds]
    if not layers:
        raise UsageError(
            "train.compile: this model does not name its layers; set train.compile: false"
        )
    if loss.packed_attention:
        # Its loop over the examples' lengths would be compiled anew for each row.
        kept_out: Any = torch.compiler.disable
        AttentionInterface.register(PACKED, kept_out(packed_attention))
    for layer in layers:
        layer.compile(dynamic=True)
    (batch,) = loss.lay_out([min(range(len(examples)), key=examples.length)], examples)
    try:
        loss(model, batch, device=model.device)
    except Exception as error:  # a compiler fails in as many ways as there are compilers
        first = next(iter(str(error).strip().splitlines()), "")
        raise UsageError(
            f"train.compile: torch.compile does not work here: {type(error).__name__}: {first}; "
            "it needs a C++ compiler on the PATH, or set train.compile: false"
        ) from error
