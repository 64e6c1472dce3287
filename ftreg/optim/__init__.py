"""Optimizers by name, their parameter groups, schedules and step-size health."""

from ftreg.config.optimizer import OptimizerConfig
from ftreg.optim.factory import build_optimizer, describe_optimizer
from ftreg.optim.groups import ParameterGroup, parameter_groups

__all__ = [
    "OptimizerConfig",
    "ParameterGroup",
    "build_optimizer",
    "describe_optimizer",
    "parameter_groups",
]
