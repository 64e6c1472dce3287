"""The gradient of a large weight, accumulated in place in reused memory.

The gradient of an output layer is as large as the vocabulary times the model's width. Autograd
allocates it again in each step: the product in bf16, then a copy in fp32, both in new memory that
the operating system has to find and clear page by page. That can take longer than the product.
"""

import torch

# Rows of a gradient computed at a time: few enough to stay in a CPU's caches.
_ROWS = 4096


class KeptGradient:
    """Adds to the gradient of a weight (rows, width) in place of autograd.

    It is for a single process: several processes exchange a gradient as soon as autograd is done
    with it. Anything that autograd itself adds, before or after, is included. A tensor hook on the
    weight is called with None; to keep a gradient beyond the step, copy it.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight
        self._memory: torch.Tensor | None = None

    def add_product(self, left: torch.Tensor, right: torch.Tensor, factor: float) -> None:
        """Add `factor` times the product of `left` (n, rows), transposed, with `right` (n, width).

        The product is in the dtype of the inputs; it is scaled and accumulated in the gradient's.
        """
        gradient, fresh = self._gradient()
        columns = torch.split(left, _ROWS, dim=1)
        for part, block in zip(torch.split(gradient, _ROWS), columns, strict=True):
            product = block.T @ right
            if fresh:
                part.copy_(product).mul_(factor)
            else:
                part.add_(product, alpha=factor)

    def add_rows(self, indices: torch.Tensor, rows: torch.Tensor) -> None:
        """Add `rows` (n, width) to the rows with these indices (n,), which are distinct."""
        gradient, fresh = self._gradient()
        if fresh:
            gradient.zero_()
        gradient.index_add_(0, indices, rows.to(gradient.dtype))

    def _gradient(self) -> tuple[torch.Tensor, bool]:
        """Return the weight's gradient, and whether it is new, with arbitrary values."""
        if self.weight.grad is not None:
            return self.weight.grad, False
        if self._memory is None:
            self._memory = torch.empty_like(self.weight)
        gradient = self._memory.detach()  # an optimizer may change its shape
        self.weight.grad = gradient
        return gradient, True
