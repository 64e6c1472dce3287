"""A folder to start from: configurations, a small dataset version, and what to type."""

import os
import shutil
from pathlib import Path

from ftreg.errors import UsageError

_STARTER = Path(__file__).parent / "starter"
_REPOSITORY = Path(__file__).parents[2]
_CONFIGS = ("base", "adagrad", "adam", "adamw", "lion")
_DATASET = "sample_datasets/ferry-desk/v2"


def start(folder: Path) -> list[Path]:
    """Write the starting folder, and return its files, relative to it.

    Raises:
        UsageError: a file of that name already exists (nothing is written), or the folder is not
            writable.
    """
    files = _files()
    taken = sorted(name for name in files if os.path.lexists(folder / name))
    if taken:
        rest = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise UsageError(
            f"{folder / taken[0]}{rest}: already exists, and nothing is overwritten; choose an "
            "empty folder"
        )
    try:
        for name, source in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}") from error
    return [Path(name) for name in sorted(files)]


def _files() -> dict[str, Path]:
    """Map each name in the new folder to its source file."""
    own = _STARTER
    files = {
        "README.md": own / "README.md",
        ".gitignore": own / "gitignore",
    }
    files |= {name: _shared(name) for name in (f"configs/{kind}.yaml" for kind in _CONFIGS)}
    dataset = _shared(_DATASET)
    return files | {f"{_DATASET}/{path.name}": path for path in sorted(dataset.glob("[!.]*"))}


def _shared(name: str) -> Path:
    """Return a file of the repository; a built wheel has a copy beside the starter files."""
    copied = _STARTER / name
    return copied if copied.exists() else _REPOSITORY / name
