"""Which parameters weight decay touches: by module type first, then by dimension."""

from dataclasses import dataclass

import torch
from torch import nn

from ftreg.config.optimizer import OptimizerConfig

# torch's own norms; the models of transformers bring classes of their own (LlamaRMSNorm, ...),
# which are known by their name.
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase, nn.LocalResponseNorm)


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Trainable parameters that share a weight decay; names and parameters run in step."""

    name: str
    weight_decay: float
    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]


def parameter_groups(module: nn.Module, config: OptimizerConfig) -> list[ParameterGroup]:
    """Split a module's trainable parameters into a decayed and an undecayed group.

    Undecayed are the parameters of any norm, biases, and whatever has fewer than two dimensions,
    unless `decay_norms_and_biases`; and embeddings where `decay_embeddings` is off. A parameter
    that is shared between modules counts once, under its first name. Empty groups are left out.

    Raises:
        ValueError: nothing in the module is trainable.
    """
    decayed: dict[str, nn.Parameter] = {}
    undecayed: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for module_name, owner in module.named_modules():
        for parameter_name, parameter in owner.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = f"{module_name}.{parameter_name}" if module_name else parameter_name
            chosen = decayed if _is_decayed(owner, name, parameter, config) else undecayed
            chosen[name] = parameter
    if not seen:
        raise ValueError("no parameter of this module is trainable")
    groups = (("decayed", config.weight_decay, decayed), ("undecayed", 0.0, undecayed))
    return [
        ParameterGroup(name, decay, tuple(members), tuple(members.values()))
        for name, decay, members in groups
        if members
    ]


def _is_decayed(
    owner: nn.Module, name: str, parameter: torch.Tensor, config: OptimizerConfig
) -> bool:
    if isinstance(owner, nn.Embedding):
        return config.decay_embeddings
    small = (
        isinstance(owner, _NORMS)
        or type(owner).__name__.endswith("Norm")
        or name.rpartition(".")[2] == "bias"
        or parameter.ndim < 2
    )
    return config.decay_norms_and_biases or not small
