"""Folders that appear whole, with the modes that their user chose."""

import os
from pathlib import Path

import pytest

from ftreg.files.store import staged_folder


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o007])
def test_files_are_as_readable_as_their_folder(mask: int, tmp_path: Path) -> None:
    """safetensors writes weights that nobody but their owner may read, whatever the umask."""
    before = os.umask(mask)
    try:
        with staged_folder(tmp_path / "a") as staging:
            (staging / "w.safetensors").write_bytes(b"")
            (staging / "w.safetensors").chmod(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "w.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask
