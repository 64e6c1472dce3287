"""Malicious files, which run code if a reader lets them."""

import json
import pickle
from pathlib import Path
from typing import Any


class _Touch:
    """Creates a file when unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (Path.touch, (self.canary,))


def pickle_that_touches(canary: Path) -> bytes:
    """Return a pickle that creates the file `canary` when loaded."""
    return pickle.dumps({"weight": _Touch(canary)})


def add_code(model: Path, canary: Path, *, custom: bool = True) -> Path:
    """Add Python files to a model folder that create the file `canary` when imported.

    With `custom`, only this code defines the model type; otherwise transformers knows it too.
    """
    (model / "configuration_hostile.py").write_text(
        f"from pathlib import Path\nPath({str(canary)!r}).touch()\n"
        "from transformers import LlamaConfig\n"
        "class HostileConfig(LlamaConfig):\n    model_type = 'hostile'\n",
        encoding="utf-8",
    )
    (model / "modeling_hostile.py").write_text(
        f"from pathlib import Path\nPath({str(canary)!r}).touch()\n"
        "from transformers import LlamaForCausalLM\n"
        "from .configuration_hostile import HostileConfig\n"
        "class Hostile(LlamaForCausalLM):\n    config_class = HostileConfig\n",
        encoding="utf-8",
    )
    path = model / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["auto_map"] = {
        "AutoConfig": "configuration_hostile.HostileConfig",
        "AutoModelForCausalLM": "modeling_hostile.Hostile",
    }
    if custom:
        config["model_type"] = "hostile"
    path.write_text(json.dumps(config), encoding="utf-8")
    return model


def module_that_touches(folder: Path, name: str, canary: Path, rest: str = "") -> None:
    """Write a module that creates the file `canary` when imported, followed by `rest`."""
    (folder / f"{name}.py").write_text(
        f"from pathlib import Path\nPath({str(canary)!r}).touch()\n{rest}", encoding="utf-8"
    )
