"""Strict models of the YAML configuration, and its reader; imported on first use."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftreg.config.load import load_config
    from ftreg.config.optimizer import OptimizerConfig
    from ftreg.config.sections import RunConfig

__all__ = ["OptimizerConfig", "RunConfig", "load_config"]

_PLACES = {
    "OptimizerConfig": "ftreg.config.optimizer",
    "RunConfig": "ftreg.config.sections",
    "load_config": "ftreg.config.load",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'ftreg.config' has no attribute {name!r}")
