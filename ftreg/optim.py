"""Optimizers by name and their parameter groups, under the import path that users rely on."""

from ftreg.config.optimizer import OptimizerConfig
from ftreg.training.optim.construct import build_optimizer, describe_optimizer
from ftreg.training.optim.groups import ParameterGroup, parameter_groups

__all__ = [
    "OptimizerConfig",
    "ParameterGroup",
    "build_optimizer",
    "describe_optimizer",
    "parameter_groups",
]
