"""Which parameters are decayed, and which go to Muon: by module type, then by dimension."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from ftreg.config.optimizer import MuonConfig, OptimizerConfig
from ftreg.errors import UsageError

# torch's own norms; the models of transformers define their own classes (LlamaRMSNorm, ...), which
# are recognised by name.
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase, nn.LocalResponseNorm)


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Trainable parameters with the same weight decay; names and parameters match in order.

    `settings` are further arguments specific to the group.
    """

    name: str
    weight_decay: float
    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


def parameter_groups(module: nn.Module, config: OptimizerConfig) -> list[ParameterGroup]:
    """Split a module's trainable parameters into a decayed and an undecayed group.

    The undecayed group has the parameters of all norms, biases, and whatever has fewer than two
    dimensions, unless `decay_norms_and_biases` is on, and embeddings if `decay_embeddings` is off.
    A parameter shared between modules counts once, under its first name. Empty groups are omitted.

    Muon's group comes first: the matrices of linear layers, including adapters but not the output
    layer. The other two groups then go to AdamW.

    Raises:
        ValueError: nothing in the module is trainable.
        UsageError: the module has nothing for Muon to train.
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
                "optimizer.name: muon trains the matrices of hidden linear layers, and none is "
                "trainable here; use adamw"
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
    """Return the parameters for Muon, the decayed and the undecayed ones, by name."""
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
    """Return the ids of linear layers' weights, except the output layer's and embeddings'."""
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
