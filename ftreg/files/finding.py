"""Files and folders found while other processes write and remove beside us.

`Path.glob` and `Path.rglob` raise if a folder vanishes between being listed and being opened; these
two go on without it.
"""

import glob
import os
from collections.abc import Iterator
from pathlib import Path


def found_below(folder: Path, pattern: str) -> Iterator[Path]:
    """Return what matches a relative glob pattern below a folder, hidden names too, in no order.

    A folder that is not there has nothing below it.
    """
    found = glob.iglob(pattern, root_dir=folder, include_hidden=True)
    return (folder / name for name in found)


def whole_tree(path: Path) -> Iterator[Path]:
    """Return a path and, if it is a folder and no link, everything below it, in no order."""
    yield path
    if path.is_symlink():
        return
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in (*folders, *files))
