"""Find files and folders while other processes write and remove them.

`Path.glob` and `Path.rglob` raise if a folder vanishes between being listed and being opened; these
two functions skip it.
"""

import glob
import os
from collections.abc import Iterator
from pathlib import Path


def found_below(folder: Path, pattern: str) -> Iterator[Path]:
    """Return the matches of a relative glob pattern below a folder, hidden ones too, unsorted.

    A missing folder has no matches.
    """
    found = glob.iglob(pattern, root_dir=folder, include_hidden=True)
    return (folder / name for name in found)


def whole_tree(path: Path) -> Iterator[Path]:
    """Return a path and, if it is a folder and not a link, everything below it, unsorted."""
    yield path
    if path.is_symlink():
        return
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in (*folders, *files))
