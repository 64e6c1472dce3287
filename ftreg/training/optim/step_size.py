"""How far a step actually moves the weights, measured on a sample of them."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, Shard

from ftreg.errors import UsageError

_SAMPLE = 64


class StepSizeProbe:
    """Mean absolute change of the weights over one optimizer step.

    Up to 64 elements of each tensor, drawn once, represent it, weighted by its size: this costs a
    few thousand reads per step instead of a copy of the model. It shows what lr alone does not: an
    AdaGrad run whose step decays to nothing, or a Lion run in which every step is lr.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], *, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._parameters = list(parameters)
        drawn = [
            torch.randint(p.numel(), (min(_SAMPLE, p.numel()),), generator=generator)
            for p in self._parameters
        ]
        total = sum(p.numel() for p in self._parameters)
        self._indices = [
            _held_here(p, sample) for p, sample in zip(self._parameters, drawn, strict=True)
        ]
        # The share of each sampled element in the mean over all weights.
        self._shares = torch.cat(
            [
                torch.full((len(held),), p.numel() / total / len(sample), device=held.device)
                for p, sample, held in zip(self._parameters, drawn, self._indices, strict=True)
            ]
        )
        self._before: list[torch.Tensor] = []

    def _read(self) -> list[torch.Tensor]:
        pairs = zip(self._parameters, self._indices, strict=True)
        return [_local(p).view(-1)[index].float() for p, index in pairs]

    def before(self) -> None:
        """Remember the sampled weights; call right before the optimizer's step."""
        self._before = self._read()

    def after(self) -> torch.Tensor:
        """Return the mean absolute change since `before`, (), in units of the weights.

        The result is on the device of the weights, without synchronization.
        """
        changes = (torch.cat(self._read()) - torch.cat(self._before)).abs()
        total = changes @ self._shares
        first = self._parameters[0]
        if isinstance(first, DTensor):
            dist.all_reduce(total, group=first.device_mesh.get_group())
        return total


def _local(parameter: torch.Tensor) -> torch.Tensor:
    detached = parameter.detach()
    return detached.to_local() if isinstance(detached, DTensor) else detached


def _held_here(parameter: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """Turn indices in a full tensor into indices in this process's shard, dropping the rest.

    FSDP2 shards rows in order; each process except the last ones holds equally many.

    Raises:
        UsageError: the tensor is sharded in another way.
    """
    if not isinstance(parameter, DTensor):
        return sample.to(parameter.device)
    if tuple(parameter.placements) != (Shard(0),):
        raise UsageError(
            f"parameters are sharded as {parameter.placements}; ftreg trains with FSDP2's full "
            "sharding over one dimension of processes (configs/accelerate/fsdp.yaml)"
        )
    mesh = parameter.device_mesh
    row = parameter.numel() // parameter.shape[0]
    start = mesh.get_local_rank() * -(-parameter.shape[0] // mesh.size()) * row
    local = _local(parameter)
    here = (sample >= start) & (sample < start + local.numel())
    return (sample[here] - start).to(local.device)
