"""A linear layer and its low-rank adapter as one function.

Run separately, layer and adapter cast their input and its gradient twice, and make three more
passes over their outputs to scale and add them. On a CPU these passes cost as much as the matrix
products.
"""

import functools
from typing import Any

import torch
from torch import nn

from ftreg.models.adapters import plain_adapters


class _Adapted(torch.autograd.Function):
    """y = x W' + b + s (x A') B' (LoRA, https://arxiv.org/abs/2106.09685), W and b frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scaling: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1]).to(dtype)
        weight, down, scaled = weight.to(dtype), down.to(dtype), (up * scaling).to(dtype)
        inner = rows @ down.T
        out = rows @ weight.T if bias is None else torch.addmm(bias.to(dtype), rows, weight.T)
        out.addmm_(inner, scaled.T)
        ctx.save_for_backward(rows, weight, down, scaled, inner)
        ctx.scaling, ctx.shape, ctx.dtype = scaling, x.shape, x.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        rows, weight, down, scaled, inner = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, weight.shape[0]).to(rows.dtype)
        inner_gradient = gradient @ scaled
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ weight).addmm_(inner_gradient, down).to(ctx.dtype).view(ctx.shape)
        # Parameters keep their gradients in fp32.
        of_down = (inner_gradient.T @ rows).float()
        of_up = (gradient.T @ inner).float() * ctx.scaling
        return of_x, None, None, of_down, of_up, None, None


def fuse_adapters(model: nn.Module, dtype: torch.dtype) -> None:
    """Fuse each plain adapter of a model on a CPU with its layer.

    The layers' frozen weights are kept in `dtype` from then on: autocast would cast them in each
    pass.

    Args:
        model: from `with_adapters`.
        dtype: dtype of the products: bf16 under autocast, else fp32.
    """
    for adapter in plain_adapters(model):
        weight = adapter.layer.weight
        weight.data = weight.data.to(dtype)
        # Without the module itself: it would form a reference cycle with its `forward`, and keep
        # all weights below it alive until garbage collection.
        adapter.module.forward = functools.partial(
            _forward, adapter.layer, adapter.down, adapter.up, adapter.scaling, dtype
        )


def _forward(
    layer: nn.Linear,
    down: torch.Tensor,
    up: torch.Tensor,
    scaling: float,
    dtype: torch.dtype,
    x: torch.Tensor,
) -> torch.Tensor:
    out: torch.Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
        x, layer.weight, layer.bias, down, up, scaling, dtype
    )
    return out
