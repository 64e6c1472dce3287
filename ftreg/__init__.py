"""Fine-tune small language models, and gate each checkpoint against the one in production.

The names below are the public API; each is imported when it is first used. A notebook has more of
them in `ftreg.notebook`: `gate` and `report` are packages here.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Dataset": "ftreg.notebook",
    "build_optimizer": "ftreg.optim",
    "compare": "ftreg.gate",
    "evaluate": "ftreg.notebook",
    "get_scorer": "ftreg.scoring",
    "load_config": "ftreg.config",
    "load_dataset": "ftreg.data",
    "train": "ftreg.notebook",
    "train_replicas": "ftreg.training.replicate",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'ftreg' has no attribute {name!r}")
