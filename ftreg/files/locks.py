"""Locks between processes that leave no file behind."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock


@contextlib.contextmanager
def locked(path: Path, *, timeout: float = -1) -> Iterator[None]:
    """Hold the lock file `path` while the block runs, and remove it at the end.

    It is removed while it is held. A process that has already opened it detects that it no longer
    has a name, and opens the new one: filelock checks this since 3.21.

    Args:
        path: the lock file, in an existing folder.
        timeout: seconds to wait for another holder; forever if negative.

    Raises:
        filelock.Timeout: another process still holds it.
    """
    with FileLock(path, timeout=timeout):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps the name of an open file
                path.unlink(missing_ok=True)
