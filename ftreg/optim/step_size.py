"""How far a step really moves the weights, measured on a sample of them."""

from collections.abc import Sequence

import torch

_SAMPLE = 64


class StepSizeProbe:
    """Mean absolute change of the weights over one optimizer step.

    Up to 64 elements of each tensor, drawn once, stand for all of it, weighted by its size: the
    cost is a few thousand reads a step instead of a copy of the model. It shows what lr alone
    hides: an AdaGrad run whose step decays to nothing, or a Lion run whose every step is lr.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], *, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._parameters = list(parameters)
        self._indices = [
            torch.randint(p.numel(), (min(_SAMPLE, p.numel()),), generator=generator).to(p.device)
            for p in self._parameters
        ]
        total = sum(p.numel() for p in self._parameters)
        self._weights = [p.numel() / total for p in self._parameters]
        self._before: list[torch.Tensor] = []

    def _read(self) -> list[torch.Tensor]:
        pairs = zip(self._parameters, self._indices, strict=True)
        return [p.detach().view(-1)[index].float() for p, index in pairs]

    def before(self) -> None:
        """Remember the sampled weights; call right before the optimizer's step."""
        self._before = self._read()

    def after(self) -> float:
        """Return the mean absolute change since `before`, in units of the weights."""
        changes = (
            weight * (new - old).abs().mean().item()
            for weight, new, old in zip(self._weights, self._read(), self._before, strict=True)
        )
        return sum(changes)
