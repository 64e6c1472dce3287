"""The language-model head over many positions, in chunks.

Logits are the largest tensor of a step: for 2,048 positions and 49,152 tokens they take 0.4 GB in
fp32, and softmax and gradient as much again. In chunks, recomputed in the backward pass, they take
a fraction of that, at the cost of one more product with the head.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ftreg.models.soundness import vocabulary_of
from ftreg.training.kernels.head_loss import HeadLoss, plain_head

# Positions per chunk.
CHUNK = 512
# Bytes of a chunk's fp32 logits on an accelerator, which would idle with small chunks.
_CHUNK_THERE = 1 << 30
_TOLERANCE = 1e-4


class Head:
    """A model's output layer, which can be left out of its forward pass and applied later."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._forward = module.forward
        self._random = any(isinstance(part, nn.Dropout) and part.p for part in module.modules())
        self._fused: HeadLoss | None = None
        self._chunk_there = _CHUNK_THERE // 4 // max(1, int(getattr(module, "out_features", 1)))

    def chunk(self, device: torch.device) -> int:
        """Return the maximum positions whose logits are computed at a time on a device."""
        return CHUNK if device.type == "cpu" else max(CHUNK, self._chunk_there)

    def fuse(self) -> HeadLoss | None:
        """Compute the loss and its gradient together from now on, if the layer is plain.

        For one process on a CPU.

        Returns:
            The fused loss; None if the layer is not plain.
        """
        self._fused = plain_head(self._module)
        return self._fused

    def takes(self, targets: torch.Tensor) -> bool:
        """Whether `loss` handles this many positions better than the model's forward pass."""
        return self._fused is not None or len(targets) > self.chunk(targets.device)

    @contextlib.contextmanager
    def left_out(self) -> Iterator[None]:
        """Let the model return hidden states instead of logits."""
        own = self._module.__dict__.get("forward")  # one of accelerate's hooks sets it
        self._module.forward = _identity
        try:
            yield
        finally:
            # Restoring the bound method as an attribute would create a reference cycle, and keep
            # the weights of the head alive until garbage collection.
            del self._module.forward
            if own is not None:
                self._module.forward = own

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, vocabulary) of hidden states (n, width)."""
        logits: torch.Tensor = self._forward(hidden)
        return logits

    def loss(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the summed negative log-likelihood, in nats.

        Args:
            hidden: (n, width), the inputs of the head.
            targets: (n,), the token at each position.
        """
        size = self.chunk(targets.device)
        if len(targets) <= size:
            return self._chunk_loss(hidden, targets)
        total = hidden.new_zeros((), dtype=torch.float32)
        pairs = zip(torch.split(hidden, size), torch.split(targets, size), strict=True)
        for part, wanted in pairs:
            total = total + checkpoint(
                self._chunk_loss,
                part,
                wanted,
                use_reentrant=False,
                preserve_rng_state=self._random,  # an adapter's dropout must be the same again
            )
        return total

    def _chunk_loss(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self._fused is not None:
            return self._fused(hidden, targets)
        logits = self.logits(hidden).float()
        return functional.cross_entropy(logits, targets, reduction="sum")


def _identity(hidden: torch.Tensor) -> torch.Tensor:
    return hidden


def find_head(model: PreTrainedModel) -> Head | None:
    """Return the model's head if it can be applied separately.

    Some models transform their logits further (scaling, a soft cap). So the logits of a few tokens
    are compared with the model's own; if they differ, the head cannot be separated.
    """
    module: Any = model.get_output_embeddings()
    # The comparison would miss a soft cap: it hardly changes the small logits of an untrained
    # model.
    if module is None or getattr(model.config.get_text_config(), "final_logit_softcapping", None):
        return None
    head = Head(module)
    tokens = torch.arange(8, device=model.device)[None] % vocabulary_of(model)
    with torch.no_grad():
        expected = model(input_ids=tokens, use_cache=False).logits[0].float()
        try:
            with head.left_out():
                hidden = model(input_ids=tokens, use_cache=False).logits[0]
            logits = head.logits(hidden).float()
        except Exception:  # the model's own transformation rejects hidden states
            return None
    if logits.shape != expected.shape:
        return None
    same = torch.allclose(logits, expected, rtol=_TOLERANCE, atol=_TOLERANCE)
    return head if same else None
