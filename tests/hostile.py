"""What a stranger might hand over: files that run code where a reader lets them."""

import json
import pickle
from pathlib import Path
from typing import Any


class _Touch:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (Path.touch, (self.canary,))


def pickle_that_touches(canary: Path) -> bytes:
    """A pickle that makes the file `canary` where it is loaded."""
    return pickle.dumps({"weight": _Touch(canary)})


def add_code(model: Path, canary: Path, *, custom: bool = True) -> Path:
    """Give a model folder Python files that make the file `canary` when they are imported.

    With `custom` the model is of a type that only this code knows; otherwise the library knows it.
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
    """Write a module that makes the file `canary` when it is imported."""
    (folder / f"{name}.py").write_text(
        f"from pathlib import Path\nPath({str(canary)!r}).touch()\n{rest}", encoding="utf-8"
    )
