"""The gradient of an embedding whose weight is the output layer's too.

Autograd makes a gradient as large as the vocabulary for the embedding, zero but in the rows of the
tokens that occurred, and adds it to that of the output layer. Here those rows alone are added.
"""

import functools
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

_Rows = list[tuple[torch.Tensor, torch.Tensor]]
"""Tokens (n,) and the gradients of their rows (n, width), of the pass that is under way."""


class _Embedded(torch.autograd.Function):
    """Rows of a weight, whose gradient is kept for when the weight has got its other one."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, ids: torch.Tensor, kept: _Rows) -> torch.Tensor:
        ctx.ids, ctx.kept = ids, kept
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[None, None, None]:
        ctx.kept.append((ctx.ids.flatten(), gradients[0].flatten(0, -2)))
        return None, None, None


def add_rows_to_tied_gradient(model: PreTrainedModel) -> bool:
    """Have a model add to the gradient of its tied weight only the rows of tokens that occurred.

    The gradient is the same as autograd's, which takes about 3 % of a step of a small model, and
    memory as much as the weight's, for the rest of the rows. Not for several processes: they share
    a gradient as soon as autograd is done with it.

    Returns:
        Whether it was set up: the weight is tied and trained, and nothing but its rows is asked
        for.
    """
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    if type(embedding) is not nn.Embedding or type(head) is not nn.Linear:
        return False
    weight = embedding.weight
    special = embedding.max_norm is not None or embedding.scale_grad_by_freq or embedding.sparse
    if head.weight is not weight or not weight.requires_grad or special:
        return False
    kept: _Rows = []
    # Not the module itself, which would stand in a circle with its `forward`.
    embedding.forward = functools.partial(_forward, weight, kept)  # type: ignore[method-assign]
    hook: Any = weight.register_post_accumulate_grad_hook
    hook(functools.partial(_add, kept, embedding.padding_idx))
    return True


def _forward(weight: torch.Tensor, kept: _Rows, input: torch.Tensor) -> torch.Tensor:
    if not torch.is_grad_enabled():
        return functional.embedding(input, weight)
    rows: torch.Tensor = _Embedded.apply(weight, input, kept)  # type: ignore[no-untyped-call]
    return rows


def _add(kept: _Rows, padding: int | None, weight: torch.Tensor) -> None:
    gradient: Any = weight.grad
    for ids, rows in kept:
        # Summed up before they are added, as autograd would.
        tokens, places = torch.unique(ids, return_inverse=True)
        sums = rows.new_zeros(len(tokens), rows.shape[1]).index_add_(0, places, rows)
        if padding is not None:
            sums[tokens == padding] = 0
        gradient.index_add_(0, tokens, sums.to(gradient.dtype))
    kept.clear()
