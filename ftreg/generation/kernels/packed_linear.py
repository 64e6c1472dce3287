"""Linear layers whose weights are laid out once for the CPU's matrix kernels.

A decoding step multiplies a few rows with every weight of the model. oneDNN has faster kernels for
that than the ones behind `torch.nn.Linear`, if the weights come in its own layout; torch's compiler
freezes models with the same two operators. On CPUs with AVX-512 a row's result then has the same
bits whatever other rows are multiplied with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

# Rows that the layout is made for; it serves any number.
_ROWS = 32


@contextmanager
def packed_linears(model: nn.Module) -> Iterator[None]:
    """Run a model's linear layers on packed weights, where that is possible.

    The packed weights lie in memory beside the model's own, until the end of the block. Changes of
    the model's weights within the block are not seen. On an accelerator nothing happens.
    """
    packed: list[Any] = [module for module in model.modules() if _packable(module)]
    try:
        for module in packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), _ROWS)
            module.forward = partial(_linear, weight, module.bias)
        yield
    finally:
        for module in packed:
            module.__dict__.pop("forward", None)


def _packable(module: Any) -> bool:
    # A subclass, or a forward of its own (a hook of accelerate), may compute something else.
    if type(module) is not nn.Linear or "forward" in module.__dict__:
        return False
    names = ("_reorder_linear_weight", "_linear_pointwise")
    if not _mkldnn_is_there() or not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    weight = module.weight
    if weight.device.type != "cpu" or weight.layout is not torch.strided or not weight.numel():
        return False
    return weight.dtype is torch.float32 or (weight.dtype is torch.bfloat16 and bf16_is_fast())


def bf16_is_fast() -> bool:
    """Whether this CPU has instructions for products of bf16, and torch's build uses them."""
    operators: Any = torch.ops.mkldnn
    return _mkldnn_is_there() and bool(operators._is_mkldnn_bf16_supported())


def _mkldnn_is_there() -> bool:
    available: Any = torch.backends.mkldnn.is_available
    return bool(available())


def _linear(weight: torch.Tensor, bias: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
    # A single row has a kernel of its own, which adds in another order.
    single = rows.numel() == rows.shape[-1]
    many = rows.reshape(1, -1).expand(2, -1) if single else rows
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(many, weight, bias, "none", [], "")
    return product[:1].reshape(*rows.shape[:-1], -1) if single else product
