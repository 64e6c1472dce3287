"""The language-model head over many positions, a chunk of them at a time.

Logits are the largest thing in a step: 2,048 positions of 49,152 tokens are 0.4 GB in fp32, and
softmax and gradient as much again. In chunks, computed again in the backward pass, they take a
fraction of that, for one more product with the head.
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

# Positions of a chunk; no more than that are not cut.
CHUNK = 512
# Bytes of a chunk's logits in fp32 on an accelerator, which would idle with small ones.
_CHUNK_THERE = 1 << 30
_TOLERANCE = 1e-4


class Head:
    """A model's output layer, that can be left out of the model's own pass and applied later."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._forward = module.forward
        self._random = any(isinstance(part, nn.Dropout) and part.p for part in module.modules())
        self._fused: HeadLoss | None = None
        self._chunk_there = _CHUNK_THERE // 4 // max(1, int(getattr(module, "out_features", 1)))

    def chunk(self, device: torch.device) -> int:
        """Return the most positions whose logits are computed at a time on a device."""
        return CHUNK if device.type == "cpu" else max(CHUNK, self._chunk_there)

    def fuse(self) -> HeadLoss | None:
        """Compute the loss and its gradient together from now on, if the layer is a plain one.

        For one process on a CPU.

        Returns:
            What computes them.
        """
        self._fused = plain_head(self._module)
        return self._fused

    def takes(self, targets: torch.Tensor) -> bool:
        """Whether so many positions are better left to `loss` than to the model's own pass."""
        return self._fused is not None or len(targets) > self.chunk(targets.device)

    @contextlib.contextmanager
    def left_out(self) -> Iterator[None]:
        """Let the model return the hidden states in the place of the logits."""
        own = self._module.__dict__.get("forward")  # a hook of accelerate's puts one there
        self._module.forward = _identity
        try:
            yield
        finally:
            # A method of the class, put back as the module's own, would make a circle of the two,
            # and the weights of the head would wait for the garbage collector.
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
            hidden: (n, width), what the head is applied to.
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
    """Return the model's head if it can be applied by itself.

    Some models do more to their logits than the head does (scaling, a soft cap). So one pass over a
    few tokens is compared with the model's own; where they differ, there is no head to take out.
    """
    module: Any = model.get_output_embeddings()
    # A soft cap hardly changes logits as small as those of an untrained model.
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
        except Exception:  # what the model does to its logits does not take hidden states
            return None
    if logits.shape != expected.shape:
        return None
    same = torch.allclose(logits, expected, rtol=_TOLERANCE, atol=_TOLERANCE)
    return head if same else None
