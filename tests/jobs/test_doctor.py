"""`ftreg doctor`: what it finds, what it advises, and that it leaves nothing behind."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Cli, Result


def finding(result: Result, name: str) -> dict[str, str]:
    return next(item for item in result.json["findings"] if item["name"] == name)


def test_a_sound_machine_ends_with_0_and_nothing_is_left_behind(cli: Cli, workspace: Path) -> None:
    done = cli("doctor", "--json")
    assert done.code == 0, done
    assert done.json["ok"]
    assert {item["state"] for item in done.json["findings"]} <= {"ok", "note"}
    assert sorted(path.name for path in workspace.iterdir()) == ["cache"]
    assert list((workspace / "cache").iterdir()) == []


def test_models_that_are_not_here_come_with_the_command_that_fetches_them(cli: Cli) -> None:
    done = cli("doctor", "--json")
    assert (
        finding(done, "smollm2-135m-instruct")["fix"] == "ftreg models pull smollm2-135m-instruct"
    )


def test_precision_is_measured(cli: Cli) -> None:
    found = finding(cli("doctor", "--json"), "precision")["found"]
    assert "fp32" in found and "bf16" in found and "GFLOP/s" in found


def test_a_folder_that_cannot_be_written_is_a_problem(
    cli: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "file").write_text("")
    monkeypatch.setenv("FTREG_CACHE", str(workspace / "file" / "below"))
    done = cli("doctor", "--json")
    assert done.code == 2
    found = finding(done, "cache")
    assert found["state"] == "problem"
    assert "FTREG_CACHE" in found["fix"]


@pytest.mark.parametrize("place", ["~nobody-of-this-name/x", os.fsdecode(b"caf\xe9")])
def test_a_cache_that_cannot_be_is_named(
    place: str, cli: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTREG_CACHE", place)
    found = finding(cli("doctor", "--json"), "cache")
    assert (found["state"], found["fix"][:18]) == ("problem", "export FTREG_CACHE")
    done = cli("clean")
    assert (done.code, "FTREG_CACHE" in done.err) == (2, True), done


def test_a_baseline_that_git_ignores_is_noticed(cli: Cli, workspace: Path) -> None:
    assert "not a git repository" in finding(cli("doctor", "--json"), "baselines")["found"]
    subprocess.run(["git", "init", "-q"], cwd=workspace, check=True)
    assert finding(cli("doctor", "--json"), "baselines")["state"] == "ok"
    (workspace / ".gitignore").write_text("baselines/\n")
    assert "would find no baseline" in finding(cli("doctor", "--json"), "baselines")["found"]


def test_too_many_threads_are_noticed(cli: Cli) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)) + 1)
    try:
        found = finding(cli("doctor", "--json"), "threads")
    finally:
        torch.set_num_threads(before)
    assert found["state"] == "note"
    assert "train.threads" in found["fix"]


def test_the_table_fits_80_columns(cli: Cli) -> None:
    lines = cli("doctor").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("-> ftreg models pull" in line for line in lines)
