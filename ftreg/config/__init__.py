"""Strict models of the YAML configuration, and its reader."""

from ftreg.config.load import load_config
from ftreg.config.optimizer import OptimizerConfig
from ftreg.config.sections import RunConfig

__all__ = ["OptimizerConfig", "RunConfig", "load_config"]
