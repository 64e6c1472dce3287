"""The loss of a plain output layer and its gradient, in one pass over the logits.

Autograd passes over the logits eight times: copies in fp32, their log-softmax, its gradient, zeros
for the positions and for the targets, and a copy back. Here a few rows at a time, which stay in the
CPU's caches, are overwritten with their gradient.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ftreg.training.kernels.kept_gradient import KeptGradient

# Positions whose logits are in fp32 at once: 6 MB with a vocabulary of 49,152.
_POSITIONS = 32


class _Loss(torch.autograd.Function):
    """Summed cross-entropy of x W', whose gradient in the logits is softmax(x W') - one-hot.

    The weight is an argument so that autograd knows about it; its gradient bypasses autograd and
    goes into `head.kept`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        head: "HeadLoss",
        dtype: torch.dtype,
        differentiated: bool,
    ) -> torch.Tensor:
        rows = hidden.to(dtype)
        logits = rows @ head.weight_in(dtype).T
        total = hidden.new_zeros((), dtype=torch.float32)
        wanted = differentiated and any(ctx.needs_input_grad)
        pairs = zip(torch.split(logits, _POSITIONS), torch.split(targets, _POSITIONS), strict=True)
        for part, target in pairs:
            index = target[:, None]
            logs = torch.log_softmax(part, dim=-1, dtype=torch.float32)
            total -= logs.gather(1, index).sum()
            if wanted:
                part.copy_(logs.exp_().scatter_add_(1, index, logs.new_full(index.shape, -1.0)))
        if wanted:
            ctx.save_for_backward(rows, logits)
        ctx.head, ctx.dtype = head, hidden.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, of_logits = ctx.saved_tensors
        factor = float(gradients[0])
        of_hidden = None
        if ctx.needs_input_grad[0]:
            product = of_logits @ ctx.head.weight_in(rows.dtype, again=True)
            of_hidden = (product.float() * factor).to(ctx.dtype)
        if ctx.needs_input_grad[1]:
            ctx.head.kept.add_product(of_logits, rows, factor)
        return of_hidden, None, None, None, None, None


class HeadLoss:
    """The loss of a linear output layer without a bias, on a CPU in a single process.

    Attributes:
        kept: receives the gradient of the layer's weight, if it is trained.
    """

    def __init__(self, kept: KeptGradient) -> None:
        self.kept = kept
        self._low: torch.Tensor | None = None

    def __call__(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the summed negative log-likelihood, in nats.

        Args:
            hidden: (n, width), the inputs of the layer.
            targets: (n,), the token at each position; all of them count.
        """
        kind = hidden.device.type
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else hidden.dtype
        with torch.autocast(kind, enabled=False):
            loss: torch.Tensor = _Loss.apply(  # type: ignore[no-untyped-call]
                hidden, self.kept.weight, targets, self, dtype, torch.is_grad_enabled()
            )
        return loss

    def weight_in(self, dtype: torch.dtype, *, again: bool = False) -> torch.Tensor:
        """Return the weight in the dtype of the products, in reused memory.

        `again` says that the weight has not changed since the last call.
        """
        weight = self.kept.weight.detach()
        if weight.dtype is dtype:
            return weight
        if self._low is None or self._low.dtype is not dtype:
            self._low = torch.empty_like(weight, dtype=dtype)
        elif again or not self.kept.weight.requires_grad:
            return self._low
        return self._low.copy_(weight)


def plain_head(module: nn.Module) -> HeadLoss | None:
    """Return the loss of an output layer that only multiplies by its weight; else None."""
    plain: Any = module
    # A hook sets its own `forward` there.
    if type(module) is not nn.Linear or plain.bias is not None or "forward" in vars(module):
        return None
    return HeadLoss(KeptGradient(plain.weight))
