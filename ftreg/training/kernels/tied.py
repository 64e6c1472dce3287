"""The gradient of an embedding whose weight is the output layer's too.

Autograd makes a gradient as large as the vocabulary for the embedding, zero but in the rows of the
tokens that occurred, and adds it to that of the output layer. Here those rows alone are added.
"""

import functools
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers import PreTrainedModel

from ftreg.training.kernels.kept_gradient import KeptGradient


class _Embedded(torch.autograd.Function):
    """Rows of a weight, whose gradient goes straight into the weight's."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: torch.Tensor,
        ids: torch.Tensor,
        kept: KeptGradient,
        padding: int | None,
    ) -> torch.Tensor:
        ctx.ids, ctx.kept, ctx.padding = ids, kept, padding
        return functional.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[None, None, None, None]:
        rows = gradients[0].flatten(0, -2)
        # Summed up before they are added, as autograd would.
        tokens, places = torch.unique(ctx.ids.flatten(), return_inverse=True)
        sums = rows.new_zeros(len(tokens), rows.shape[1]).index_add_(0, places, rows)
        if ctx.padding is not None:
            sums[tokens == ctx.padding] = 0
        ctx.kept.add_rows(tokens, sums)
        return None, None, None, None


def add_rows_to_tied_gradient(model: PreTrainedModel, kept: KeptGradient) -> bool:
    """Have a model add to the gradient of its tied weight only the rows of tokens that occurred.

    The gradient is the same as autograd's, which takes about 3 % of a step of a small model, and
    memory as much as the weight's, for the rest of the rows.

    Args:
        model: the model.
        kept: of its output layer's weight.

    Returns:
        Whether it was set up: the weight is tied and trained, and nothing but its rows is asked
        for.
    """
    embedding: Any = model.get_input_embeddings()
    if type(embedding) is not nn.Embedding:
        return False
    weight = embedding.weight
    special = embedding.max_norm is not None or embedding.scale_grad_by_freq or embedding.sparse
    if kept.weight is not weight or not weight.requires_grad or special:
        return False
    # Not the module itself, which would stand in a circle with its `forward`.
    forward = functools.partial(_forward, weight, kept, embedding.padding_idx)
    embedding.forward = forward  # type: ignore[method-assign]
    return True


def _forward(
    weight: torch.Tensor, kept: KeptGradient, padding: int | None, input: torch.Tensor
) -> torch.Tensor:
    if not torch.is_grad_enabled():
        return functional.embedding(input, weight)
    rows: torch.Tensor = _Embedded.apply(  # type: ignore[no-untyped-call]
        weight, input, kept, padding
    )
    return rows
