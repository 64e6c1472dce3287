"""The gradient of an embedding whose weight is shared with the output layer.

Autograd creates a gradient as large as the vocabulary for the embedding, zero except in the rows of
tokens that occurred, and adds it to that of the output layer. Here only those rows are added.
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
    """Rows of a weight, whose gradient goes directly into the weight's."""

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
        # Summed before they are added, as in autograd.
        tokens, places = torch.unique(ctx.ids.flatten(), return_inverse=True)
        sums = rows.new_zeros(len(tokens), rows.shape[1]).index_add_(0, places, rows)
        if ctx.padding is not None:
            sums[tokens == ctx.padding] = 0
        ctx.kept.add_rows(tokens, sums)
        return None, None, None, None


def add_rows_to_tied_gradient(model: PreTrainedModel, kept: KeptGradient) -> bool:
    """Make a model add only the rows of tokens that occurred to the gradient of its tied weight.

    The gradient is the same as autograd's, which spends about 3 % of a small model's step, and as
    much memory as the weight, on the remaining rows.

    Args:
        model: the model.
        kept: the gradient of its output layer's weight.

    Returns:
        Whether it applies: the weight is tied and trained, and only its rows are looked up.
    """
    embedding: Any = model.get_input_embeddings()
    if type(embedding) is not nn.Embedding:
        return False
    weight = embedding.weight
    special = embedding.max_norm is not None or embedding.scale_grad_by_freq or embedding.sparse
    if kept.weight is not weight or not weight.requires_grad or special:
        return False
    # Without the module itself: it would form a reference cycle with its `forward`.
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
