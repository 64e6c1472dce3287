"""Folders are searched while others write and remove in them."""

import os
import shutil
from pathlib import Path

import pytest

from ftreg.files.finding import found_below, whole_tree


@pytest.fixture
def vanishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of which every `gone` folder is removed as soon as somebody opens it."""
    for name in ("a", "gone", "z"):
        for file in ("x.txt", ".tmp-x"):
            path = tmp_path / name / "gone" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            (tmp_path / name / file).touch()
    real = os.scandir

    def scandir(path: str | int) -> object:
        if not isinstance(path, int) and Path(path).name == "gone":
            monkeypatch.setattr(os, "scandir", real)
            shutil.rmtree(path)
            monkeypatch.setattr(os, "scandir", scandir)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return tmp_path


@pytest.mark.parametrize("pattern", ["*/*", "*/.tmp-*"])
def test_what_vanishes_while_a_pattern_is_matched_is_not_found(
    vanishing: Path, pattern: str
) -> None:
    found = {path.relative_to(vanishing).as_posix() for path in found_below(vanishing, pattern)}
    assert {"a/.tmp-x", "z/.tmp-x"} <= found or (pattern == "*/*/*" and not found)


def test_what_vanishes_while_a_tree_is_walked_is_not_found(vanishing: Path) -> None:
    found = {path.relative_to(vanishing).as_posix() for path in whole_tree(vanishing)}
    assert {"a", "a/x.txt", "a/.tmp-x", "z", "z/x.txt"} <= found
    assert not any(name.endswith("gone/x.txt") for name in found)


def test_a_link_is_not_followed_and_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    assert list(whole_tree(tmp_path / "link")) == [tmp_path / "link"]
    assert list(found_below(tmp_path / "none", "*")) == []
