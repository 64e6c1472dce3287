"""What a run ran on: recorded, so that a difference can be found."""

import importlib.metadata
import os
import platform
import subprocess
from typing import Any

import psutil
import torch

import ftreg
from ftreg.process import cpu_facts

# A repository's own configuration can name programs for git to run; this one a mere status runs.
_QUIET_GIT = ("-c", "core.fsmonitor=false")
_LIBRARIES = ("transformers", "accelerate", "peft", "pytorch-optimizer", "safetensors")


def describe_environment() -> dict[str, Any]:
    """Return versions, hardware and the state of the git work tree, without any path."""
    return {
        "versions": {
            "python": platform.python_version(),
            "ftreg": ftreg.__version__,
            "torch": str(torch.__version__),  # names the build (+cpu, +cu130); its package may not
            **{name: _version(name) for name in _LIBRARIES},
        },
        "hardware": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "cpu_model": next(iter(cpu_facts("model name")), platform.processor()),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "accelerators": [
                torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
            ],
        },
        "git": _git(),
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit of the work tree, and whether it has changes; None outside of git."""
    commit = _ask_git("rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(_ask_git("status", "--porcelain"))}


def _ask_git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *_QUIET_GIT, *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
