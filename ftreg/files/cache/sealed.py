"""Large cached files with their digest next to them: either intact or treated as missing."""

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
    """Yield a neighbour of `path` that replaces it, with its digest, if the block succeeds.

    The digest is written last: a file without it, or with another one, counts as missing.
    """
    temporary = path.with_suffix(".part")
    for place in (path, seal_of(path), temporary):
        if place.is_dir():  # not made by ftreg, and a file cannot replace it
            shutil.rmtree(place)
    try:
        yield temporary
        found = file_digest(temporary)
        temporary.replace(path)
        write_text(seal_of(path), found)
    finally:
        temporary.unlink(missing_ok=True)


def is_whole(path: Path, *, digest_of: Callable[[Path], str] = file_digest) -> bool:
    """Whether a file exists and is intact; `digest_of` computes the digest of its bytes."""
    recorded = seal_of(path)
    if not (path.is_file() and recorded.is_file()):
        return False
    return recorded.read_bytes().strip() == digest_of(path).encode()
