"""Folders that outlast a power cut: a name is on disk when the folder that holds it is synced."""

import errno
import os
from pathlib import Path


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable; some file systems cannot, and then it is left at that.

    Raises:
        OSError: the disk has failed.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # it may be written and not read, or the platform opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and make their names durable.

    Raises:
        OSError: it cannot be made.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        fsync_folder(place.parent)
