"""The environment of a run, recorded so that differences can be found."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psutil
import torch

import ftreg
from ftreg.process import cpu_facts

# Repository settings that affect what counts as a change and cannot run a program.
_HARMLESS = r"^core\.(filemode|ignorecase|symlinks|autocrlf|eol|precomposeunicode)$"
_LIBRARIES = ("transformers", "accelerate", "peft", "pytorch-optimizer", "safetensors")


def describe_environment() -> dict[str, Any]:
    """Return versions, hardware and the state of the git work tree, without paths."""
    return {
        "versions": {
            "python": platform.python_version(),
            "ftreg": ftreg.__version__,
            "torch": str(torch.__version__),  # has the build (+cpu, +cu130); its metadata may not
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
    """Return the work tree's commit and whether it has changes; None outside of git.

    `dirty` is None if it cannot be determined without running a program that the repository names.
    """
    commit = _ask_git("rev-parse", "HEAD")
    if commit is None:
        return None
    found = _ask_git("rev-parse", "--show-toplevel", "--absolute-git-dir", "--git-common-dir")
    lines = (found or "").splitlines()
    if len(lines) != 3:
        return {"commit": commit, "dirty": None}
    top, own, common = (Path.cwd() / line for line in lines)
    with tempfile.TemporaryDirectory(prefix="ftreg-git-") as folder:
        status = _status(Path(folder), commit, top=top, own=own, common=common)
    return {"commit": commit, "dirty": None if status is None else bool(status)}


def _status(folder: Path, commit: str, *, top: Path, own: Path, common: Path) -> str | None:
    """Run `git status` with a temporary git folder that has no configuration and no hooks.

    In the repository itself, even `git status` runs programs named by `.git/config` and hooks: a
    filter's clean command, a file system monitor, a fetch for a partial clone. So git gets a folder
    with HEAD and a copy of the index, and only reads the repository's objects. A file that a filter
    converts (Git LFS) counts as changed if its modification time has changed.
    """
    for name in ("refs", "info"):
        (folder / name).mkdir()
    (folder / "HEAD").write_text(commit, encoding="utf-8")
    version = "repositoryformatversion = 1\n[extensions]\n\tobjectFormat = sha256\n"
    plain = "repositoryformatversion = 0\n"
    (folder / "config").write_text(
        f"[core]\n\t{version if len(commit) == 64 else plain}", encoding="utf-8"
    )
    try:
        for path, copy in ((own / "index", "index"), (common / "info" / "exclude", "info/exclude")):
            if path.is_file():
                shutil.copy2(path, folder / copy)
    except OSError:
        return None
    settings = (_ask_git("config", "--get-regexp", _HARMLESS) or "").splitlines()
    return _ask_git(
        *(part for line in settings for part in ("-c", line.replace(" ", "=", 1))),
        f"--git-dir={folder}",
        f"--work-tree={top}",
        *("status", "--porcelain", "--ignore-submodules=dirty"),
        GIT_OBJECT_DIRECTORY=str(common / "objects"),
    )


def _ask_git(*arguments: str, **variables: str) -> str | None:
    kept_out = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
            env={**os.environ, **kept_out, **variables},
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()
