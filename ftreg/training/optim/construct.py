"""Build the configured optimizer, and verify that it is the one configured."""

import contextlib
import importlib.metadata
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ftreg.config.optimizer import CustomConfig, OptimizerConfig
from ftreg.config.registry import Registry
from ftreg.errors import UsageError
from ftreg.records.manifest import OptimizerRecord
from ftreg.training.optim.groups import ParameterGroup, parameter_groups
from ftreg.training.optim.modes import begin_training

_OPTIMIZERS = Registry(
    "optimizer",
    {
        "adafactor": "torch.optim:Adafactor",
        "adagrad": "torch.optim:Adagrad",
        "adam": "torch.optim:Adam",
        "adamw": "torch.optim:AdamW",
        "lion": "pytorch_optimizer:Lion",
        "muon": "ftreg.training.optim.muon:MuonAndAdamW",
        "rmsprop": "torch.optim:RMSprop",
        "schedule_free_adamw": "pytorch_optimizer:ScheduleFreeAdamW",
        "sgd": "torch.optim:SGD",
    },
)

Parameters = nn.Module | Iterable[torch.Tensor] | Iterable[Mapping[str, Any]]


def build_optimizer(params_or_module: Parameters, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Build an optimizer from its configuration.

    A module's parameters are grouped (`ftreg.training.optim.groups`): norms and biases are not
    decayed unless the configuration says otherwise. Parameters, or torch's own parameter groups,
    are used as they are. An optimizer with modes is put into training mode.

    `fused: null` selects torch's fused step if this build has one for the device and dtype of these
    parameters. The fused and the plain step differ in the last bits, so `describe_optimizer`
    records which one runs.

    Raises:
        UsageError: the class rejects an argument, does not hold the configured values, or could not
            take a single step with them.
    """
    if isinstance(params_or_module, nn.Module):
        groups = parameter_groups(params_or_module, config)
        params: list[Any] = [
            {
                "params": list(group.parameters),
                "weight_decay": group.weight_decay,
                **group.settings,
            }
            for group in groups
        ]
    else:
        params = list(params_or_module)
    factory = _OPTIMIZERS.load(config.path if isinstance(config, CustomConfig) else config.name)
    optimizer = _construct(factory, params, config)
    _check(optimizer, params, config)
    _refuse_stuck(optimizer)
    begin_training(optimizer)
    return optimizer


def _construct(factory: Any, params: list[Any], config: OptimizerConfig) -> torch.optim.Optimizer:
    arguments = config.arguments
    if isinstance(config, CustomConfig):
        _refuse_unknown(factory, arguments, config)
    if "fused" in arguments and arguments["fused"] is None:
        free = not (arguments["foreach"] or arguments["differentiable"])
        if free:
            try:
                return _call(factory, params, {**arguments, "fused": True}, config)
            except UsageError:
                # This build has no fused step for these parameters. An invalid argument also fails
                # in the plain construction below, with its proper message.
                pass
        arguments["fused"] = False
    return _call(factory, params, arguments, config)


def _call(
    factory: Any, params: list[Any], arguments: dict[str, Any], config: OptimizerConfig
) -> torch.optim.Optimizer:
    # The constructors modify the groups that they are given, so each attempt gets its own.
    own = [dict(item) if isinstance(item, Mapping) else item for item in params]
    try:
        optimizer = factory(own, **arguments)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"optimizer: {config.name} rejects its settings: {error}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(f"optimizer: {config.name} is not a torch.optim.Optimizer")
    return optimizer


def _refuse_unknown(factory: Any, arguments: dict[str, Any], config: CustomConfig) -> None:
    """Reject options that the class would swallow in **kwargs without using them."""
    accepted = inspect.signature(factory).parameters
    unknown = [key for key in arguments if key not in accepted]
    if unknown:
        raise UsageError(
            f"optimizer.options: {config.path} does not take {', '.join(unknown)} "
            f"(it takes {', '.join(list(accepted)[1:])})"
        )


def _check(optimizer: torch.optim.Optimizer, params: list[Any], config: OptimizerConfig) -> None:
    """Check that each value in force in the built optimizer is the configured one."""
    wanted = {key: value for key, value in config.arguments.items() if key != "fused"}
    for index, group in enumerate(optimizer.param_groups):
        given = params[index] if isinstance(params[index], Mapping) else {}
        for key, value in {**wanted, **given}.items():
            if key in group and key != "params" and not _same(group[key], value):
                raise UsageError(
                    f"optimizer.{key}: the built {type(optimizer).__name__} holds {group[key]!r}, "
                    f"but the configuration says {value!r}; training would not follow the recorded "
                    "recipe"
                )


def _refuse_stuck(optimizer: torch.optim.Optimizer) -> None:
    """Reject settings that the constructors accept but that fail at the first step."""
    for group in optimizer.param_groups:
        params: list[torch.Tensor] = group["params"]
        if group.get("differentiable") and any(p.is_leaf and p.requires_grad for p in params):
            raise UsageError(
                "optimizer.differentiable: autograd cannot differentiate a step on a model's own "
                "weights; it is for computed weights (meta-learning). Leave it out"
            )
        # The fused step ignores it. If there is an accelerator, weights move there later.
        stuck = group.get("capturable") and not group.get("fused")
        on_cpu = all(p.device.type == "cpu" for p in params)
        if stuck and on_cpu and not torch.accelerator.is_available():
            raise UsageError(
                "optimizer.capturable: it is for CUDA graphs, but there is no GPU; leave it out"
            )


def _same(held: Any, wanted: Any) -> bool:
    if isinstance(held, list | tuple) and isinstance(wanted, list | tuple):
        return list(held) == list(wanted)
    return bool(held == wanted)


def describe_optimizer(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, groups: Iterable[ParameterGroup]
) -> OptimizerRecord:
    """Return the manifest's record of the optimizer: everything needed to rebuild it.

    Args:
        optimizer: as built from `groups`.
        config: the configuration that it was built from.
        groups: the module's parameter groups, in the optimizer's order.
    """
    cls = type(optimizer)
    library = cls.__module__.partition(".")[0]
    first = optimizer.param_groups[0]
    return {
        "name": config.name,
        "import_path": f"{cls.__module__}:{cls.__qualname__}",
        "library": library,
        "library_version": _version(library, ours=not isinstance(config, CustomConfig)),
        "implementation": _implementation(first),
        "decay_coupling": config.decay_coupling,
        "arguments": {key: first.get(key, value) for key, value in config.arguments.items()}
        | {"weight_decay": config.weight_decay, "lr": config.lr},
        "groups": [
            {
                "name": group.name,
                "weight_decay": held["weight_decay"],
                "tensors": len(group.names),
                "elements": sum(parameter.numel() for parameter in group.parameters),
                "parameters": list(group.names),
            }
            for group, held in zip(groups, optimizer.param_groups, strict=True)
        ],
    }


def _implementation(group: Mapping[str, Any]) -> str:
    if group.get("fused"):
        return "fused"
    return "foreach" if group.get("foreach") else "default"


def _version(library: str, *, ours: bool) -> str | None:
    # The libraries of ftreg's own optimizers are distributed under their import names; for others,
    # the files of all installed distributions must be read.
    named = (library,) if ours else importlib.metadata.packages_distributions().get(library, ())
    for distribution in named:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return None
