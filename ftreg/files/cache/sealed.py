"""Large files of the cache with their digest beside them: whole, as written, or not there."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ftreg.files.store import file_digest, write_text


def seal_of(path: Path) -> Path:
    """Return the file with the hex SHA-256 of `path`."""
    return path.with_suffix(".sha256")


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a neighbour of `path` that takes its place, with its digest, if the block ends well.

    The digest goes last: a file without it, or with another one, counts as not there.
    """
    temporary = path.with_suffix(".part")
    for place in (path, seal_of(path), temporary):
        if place.is_dir():  # nothing of ftreg's, and no file could take its place
            shutil.rmtree(place)
    try:
        yield temporary
        found = file_digest(temporary)
        temporary.replace(path)
        write_text(seal_of(path), found)
    finally:
        temporary.unlink(missing_ok=True)


def is_whole(path: Path, *, digest_of: Callable[[Path], str] = file_digest) -> bool:
    """Whether a file is there with the bytes that were written; `digest_of` looks at these."""
    recorded = seal_of(path)
    if not (path.is_file() and recorded.is_file()):
        return False
    return recorded.read_bytes().strip() == digest_of(path).encode()
