"""Locks between processes that leave no file behind."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock


@contextlib.contextmanager
def locked(path: Path, *, timeout: float = -1) -> Iterator[None]:
    """Hold the lock file `path` while the block runs, and remove it in the end.

    It is removed while it is held. Whoever had opened it by then finds that it has no name any
    more, and opens the new one: filelock looks, from 3.21 on.

    Args:
        path: the lock file; its folder is there.
        timeout: seconds to wait for another holder; forever if negative.

    Raises:
        filelock.Timeout: another process holds it still.
    """
    with FileLock(path, timeout=timeout):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps the name of an open file
                path.unlink(missing_ok=True)
