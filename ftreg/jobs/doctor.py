"""Problems of this machine, including those that would appear during a run, and their fixes."""

import importlib.metadata
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from filelock import FileLock
from packaging.requirements import Requirement

import ftreg
from ftreg.errors import UsageError
from ftreg.files.cache.folder import cache_folder
from ftreg.models.packaged import PACKAGED, is_pulled, packaged_folder
from ftreg.records.printed import DESCRIBED, Printed, printed
from ftreg.records.workspace import Workspace

_GIB = 2**30
# A checkpoint of the default base model is 0.5 GiB, a training state 1.5 GiB, and two are kept.
_DISK_GIB = 5.0
# Full fine-tuning of the default base model took 4.25 GiB (docs/training-speed.md).
_MEMORY_GIB = 4.5


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look at the machine found."""

    __pydantic_config__ = DESCRIBED

    name: str
    """What was looked at: a library, `memory`, a folder, ..."""
    state: Literal["ok", "note", "problem"]
    """A problem stops a run, a note does not."""
    found: str
    """In words."""
    fix: str | None = None
    """The way out in words, often a command to type; null where nothing is to be done."""


@printed
class Findings(Printed):
    """What `ftreg doctor --json` prints, whether it ends with 0 or 2."""

    ok: bool
    """Whether none of the findings is a problem."""
    findings: tuple[Finding, ...]
    """In the order in which they were looked at."""


def examine(workspace: Workspace, *, say: Callable[[str], None] = lambda text: None) -> Findings:
    """Check this machine and the workspace, and return a finding per check.

    Nothing stays changed: files written to test a folder are removed. The network is not used.

    Args:
        workspace: where checkpoints, evaluations and baselines are stored.
        say: called with a short description of each check.
    """
    found: list[Finding] = []
    folders = [("workspace", workspace.root), ("temporary files", Path(tempfile.gettempdir()))]
    checks = [("libraries", _libraries), ("arithmetic", _arithmetic)]
    try:
        folders.insert(1, ("cache", cache_folder()))
        checks.append(("models", _models))
    except UsageError as error:
        found.append(Finding("cache", "problem", str(error), "export FTREG_CACHE=/some/folder"))
    for text, check in checks:
        say(text)
        found += check()
    say("folders")
    found.append(_memory())
    found += [_folder(name, folder) for name, folder in folders]
    found.append(_baselines(workspace))
    return Findings(ok=all(finding.state != "problem" for finding in found), findings=tuple(found))


def _libraries() -> Iterator[Finding]:
    yield Finding("ftreg", "ok", ftreg.__version__)
    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires("ftreg") or []]
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "libraries", "note", "ftreg runs from a folder; what it requires is not known", None
        )
        return
    wanted = [item for item in requirements if not _extras(item)]
    wrong = [text for text in map(_unmet, wanted) if text]
    needed = " ".join(f"'{item}'" for item in wanted if _unmet(item))
    torch = importlib.metadata.version("torch") if not _unmet(Requirement("torch")) else "missing"
    if wrong:
        yield Finding("libraries", "problem", "; ".join(wrong), f"pip install {needed}")
    else:
        yield Finding("libraries", "ok", f"all {len(wanted)} in range, torch {torch}")
    extras: dict[str, bool] = {}
    for item in requirements:
        for extra in _extras(item) - {"dev", "bench"}:
            extras[extra] = extras.get(extra, True) and _unmet(item) is None
    if extras:
        here = [name for name, whole in sorted(extras.items()) if whole]
        absent = [name for name, whole in sorted(extras.items()) if not whole]
        text = f"installed: {', '.join(here) or 'none'}; not: {', '.join(absent) or 'none'}"
        yield Finding("extras", "ok", text)


def _extras(item: Requirement) -> set[str]:
    """Return the extras that include a requirement; empty for mandatory ones."""
    declared = importlib.metadata.metadata("ftreg").get_all("Provides-Extra") or []
    if item.marker is None or item.marker.evaluate({"extra": ""}):
        return set()
    return {name for name in declared if item.marker.evaluate({"extra": name})}


def _unmet(item: Requirement) -> str | None:
    """Return how an installed library differs from the requirement; None if it does not."""
    try:
        version = importlib.metadata.version(item.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{item.name} is missing"
    if item.specifier.contains(version, prereleases=True):
        return None
    return f"{item.name} is {version}, wanted {item.specifier}"


def _arithmetic() -> Iterator[Finding]:
    try:
        import torch

        from ftreg.training.precision import choose_precision, product_rate
    except (ImportError, OSError) as error:  # OSError: a shared library of torch's is missing
        yield Finding("torch", "problem", f"cannot be loaded: {error}", "reinstall torch")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        yield Finding("accelerator", "ok", torch.cuda.get_device_name(device))
    else:
        yield _threads(torch.get_num_threads())
    rates = {
        name: product_rate(dtype, device)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    chosen = choose_precision("auto", device)
    text = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
    text = f"{text} GFLOP/s in matrix products; train.precision auto takes {chosen}"
    slower = chosen == "bf16" and rates["bf16"] < rates["fp32"]
    fix = "set train.precision: fp32, or try again while nothing else runs" if slower else None
    yield Finding("precision", "note" if slower else "ok", text, fix)


def _threads(threads: int) -> Finding:
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    cores = min(psutil.cpu_count(logical=False) or usable, usable)
    text = f"{threads} of {usable} usable processors ({cores} cores)"
    if threads > usable:
        return Finding("threads", "note", text, f"set train.threads: {cores}, or OMP_NUM_THREADS")
    if threads < cores:
        return Finding("threads", "note", text, "unset OMP_NUM_THREADS, or set train.threads")
    return Finding("threads", "ok", text)


def _models() -> Iterator[Finding]:
    for name, model in PACKAGED.items():
        pull = f"ftreg models pull {name}"
        if not is_pulled(name):
            yield Finding(name, "note", f"this {model.kind} is not on this machine", pull)
            continue
        try:
            packaged_folder(name)
        except UsageError as error:
            yield Finding(name, "problem", str(error))
        else:
            yield Finding(name, "ok", f"{model.kind}, here and intact")


def _memory() -> Finding:
    free = psutil.virtual_memory().available / _GIB
    limit = _container_limit()
    if limit is not None:
        free = min(free, limit)
    text = f"{free:.1f} GiB free"
    if free >= _MEMORY_GIB:
        return Finding("memory", "ok", text)
    return Finding(
        "memory",
        "note",
        f"{text}; full fine-tuning of {next(iter(PACKAGED))} takes {_MEMORY_GIB} GiB",
        "lower train.micro_batch_tokens, or train adapters with lora: {r: 16}",
    )


def _container_limit() -> float | None:
    """Return the memory limit of a container in GiB, which the machine's figures do not show."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        return int(text) / _GIB
    except (OSError, ValueError):  # no such file, or the word `max`
        return None


def _folder(name: str, folder: Path) -> Finding:
    """Test in `folder` what every run does: create, rename, lock and remove a file."""
    shown = folder.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".tmp-doctor-") as trial:
            (Path(trial) / "a").write_bytes(b"ftreg")
            os.replace(Path(trial) / "a", Path(trial) / "b")
            with FileLock(Path(trial) / "lock", timeout=5):
                pass
        free = shutil.disk_usage(folder).free / _GIB
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        return Finding(name, "problem", f"{shown} cannot be written: {reason}", _elsewhere(name))
    text = f"{shown}, {free:.1f} GiB free"
    if free < _DISK_GIB:
        return Finding(name, "note", f"{text}; a run may need {_DISK_GIB:g}", _elsewhere(name))
    return Finding(name, "ok", text)


def _elsewhere(name: str) -> str:
    variable = {"workspace": "FTREG_WORKSPACE", "cache": "FTREG_CACHE"}.get(name, "TMPDIR")
    return f"make room or rights, or let {variable} name another folder"


def _baselines(workspace: Workspace) -> Finding:
    """Check that git does not ignore baselines, which the next gate needs."""
    probe = workspace.baselines / "dataset.json"
    try:
        done = subprocess.run(
            ["git", "check-ignore", "--quiet", str(probe.resolve())],
            cwd=workspace.root,
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return Finding("baselines", "note", "git cannot be asked", "install git")
    if done.returncode == 0:
        return Finding(
            "baselines",
            "note",
            "git ignores baselines/, so a CI would find no baseline",
            "remove baselines/ from .gitignore",
        )
    if done.returncode == 1:
        return Finding("baselines", "ok", "git would keep them")
    return Finding("baselines", "note", "this is not a git repository", "git init")
