"""Which parameters weight decay touches, and which ones Muon: by module type, then by dimension."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from ftreg.config.optimizer import MuonConfig, OptimizerConfig
from ftreg.errors import UsageError

# torch's own norms; the models of transformers bring classes of their own (LlamaRMSNorm, ...),
# which are known by their name.
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase, nn.LocalResponseNorm)


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Trainable parameters that share a weight decay; names and parameters run in step.

    `settings` are other arguments that the group has of its own.
    """

    name: str
    weight_decay: float
    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


def parameter_groups(module: nn.Module, config: OptimizerConfig) -> list[ParameterGroup]:
    """Split a module's trainable parameters into a decayed and an undecayed group.

    Undecayed are the parameters of any norm, biases, and whatever has fewer than two dimensions,
    unless `decay_norms_and_biases`; and embeddings where `decay_embeddings` is off. A parameter
    that is shared between modules counts once, under its first name. Empty groups are left out.

    Muon's group comes first: the matrices of linear layers, adapters among them, but not those of
    the output layer. The two others are AdamW's then.

    Raises:
        ValueError: nothing in the module is trainable.
        UsageError: nothing in it is for Muon.
    """
    hidden, decayed, undecayed = _split(module, config)
    if not (hidden or decayed or undecayed):
        raise ValueError("no parameter of this module is trainable")
    groups: list[tuple[str, float, dict[str, nn.Parameter], dict[str, Any]]] = [
        ("decayed", config.weight_decay, decayed, {}),
        ("undecayed", 0.0, undecayed, {}),
    ]
    if isinstance(config, MuonConfig):
        if not hidden:
            raise UsageError(
                "optimizer.name: muon trains the matrices of hidden linear layers, and none of "
                "them is trained here; take adamw"
            )
        rest = {"algorithm": "adamw", **config.of_adamw}
        groups = [
            ("muon", config.weight_decay, hidden, {"algorithm": "muon"}),
            ("adamw decayed", config.adamw_weight_decay, decayed, rest),
            ("adamw undecayed", 0.0, undecayed, rest),
        ]
    return [
        ParameterGroup(name, decay, tuple(members), tuple(members.values()), settings)
        for name, decay, members, settings in groups
        if members
    ]


def _split(module: nn.Module, config: OptimizerConfig) -> tuple[dict[str, nn.Parameter], ...]:
    """Return what goes to Muon, if anything does, what decays and what does not, by name."""
    matrices = _hidden_matrices(module) if isinstance(config, MuonConfig) else set()
    hidden: dict[str, nn.Parameter] = {}
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
            if id(parameter) in matrices:
                chosen = hidden
            chosen[name] = parameter
    return hidden, decayed, undecayed


def _hidden_matrices(module: nn.Module) -> set[int]:
    """The ids of the weights of linear layers, but the output layer's and what is in embeddings."""
    found = getattr(module, "get_output_embeddings", lambda: None)()
    outer = [found] if isinstance(found, nn.Module) else []
    outer += [part for part in module.modules() if isinstance(part, nn.Embedding)]
    excluded = {id(parameter) for part in outer for parameter in part.parameters()}
    return {
        id(part.weight)
        for part in module.modules()
        if isinstance(part, nn.Linear | Conv1D) and part.weight.ndim == 2
    } - excluded


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
