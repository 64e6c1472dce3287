"""Folders that appear whole, with the modes that their user chose."""

import os
from pathlib import Path

import pytest

from ftreg.files.store import staged_folder, write_bytes


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


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux what is synced")
def test_bytes_are_on_the_disk_before_they_have_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut leaves a file of zeros under the name of the old one."""
    done: list[tuple[str, str]] = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        sync(descriptor)
        done.append(("synced", os.readlink(f"/proc/self/fd/{descriptor}")))

    def rename(source: Path, target: Path) -> None:
        replace(source, target)
        done.append(("renamed", str(source)))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    write_bytes(tmp_path / "a", [b"1", b"2"])
    (renamed,) = [path for what, path in done if what == "renamed"]
    assert done == [("synced", renamed), ("renamed", renamed), ("synced", str(tmp_path))]
