"""`ftreg clean`, the limits of the caches, and what is left behind by kills and by promotions."""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from ftreg.files.cache.table import Table
from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
DAY = 86_400


def _kinds(cli: Cli, *arguments: object) -> dict[str, dict[str, Any]]:
    done = cli("clean", *arguments, "--json")
    assert done.code == 0, done
    return {item["kind"]: item for item in done.json["kinds"]}


def _age(path: Path, seconds: float) -> None:
    """Set everything in a path back by so many seconds."""
    then = time.time() - seconds
    for item in [*(path.rglob("*") if path.is_dir() else ()), path]:
        os.utime(item, (then, then))


@pytest.fixture
def filled(cli: Cli, config: Path) -> Path:
    """A workspace after a training and an evaluation; the cache's folder."""
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    assert cli("eval", "checkpoints/a", "--no-gate").code == 0
    return Path("cache")


def test_it_lists_what_is_there_and_removes_nothing_unasked(cli: Cli, filled: Path) -> None:
    before = sorted(filled.rglob("*"))
    found = _kinds(cli)
    kinds = {kind for kind, item in found.items() if item["entries"]}
    # The digest of a file is kept where it was not changed for two seconds.
    assert kinds - {"digests"} == {"arrow", "prepared", "outputs", "ways"}
    assert found["outputs"]["entries"] == 8  # rows
    assert found["outputs"]["size"] > 0
    assert found["outputs"]["limit"] == 4 * 1024**3
    assert sorted(filled.rglob("*")) == before
    assert "outputs" in cli("clean").out


def test_all_of_it_is_made_again(cli: Cli, filled: Path) -> None:
    before = sorted(filled.rglob("*"))
    would = _kinds(cli, "--all", "--dry-run")
    assert sorted(filled.rglob("*")) == before
    did = _kinds(cli, "--all")
    for kind in ("arrow", "prepared", "outputs"):
        assert did[kind]["removed"] == would[kind]["removed"] != []
        assert did[kind]["freed"] == would[kind]["freed"] > 0
    # No data, and none of its locks; a table that may be open is emptied.
    left = {path for path in filled.glob("*/*") if not path.name.endswith("-journal")}
    tables = {filled / "tables" / f"{kind}.sqlite" for kind in ("outputs", "ways")}
    assert left - {filled / "tables" / "digests.sqlite"} == tables
    assert not any(item["entries"] for item in _kinds(cli).values())
    scores = next(Path("evaluations").glob("*/scores.jsonl")).read_text("utf-8")
    again = cli("eval", "checkpoints/a", "--no-gate", "--json")
    assert again.code == 0
    made = Path("evaluations", again.json["candidate"], "scores.jsonl")
    assert made.read_text("utf-8") == scores


def test_age_and_size_choose_what_was_used_longest_ago(cli: Cli, workspace: Path) -> None:
    folder = workspace / "cache" / "prepared"
    folder.mkdir(parents=True)
    for day in range(5):
        path = folder / f"{day}.arrow"
        path.write_bytes(b"x" * 100_000)
        _age(path, day * DAY + 60)
    assert _kinds(cli, "--older-than", "3d")["prepared"]["removed"] == [
        str(folder / "4.arrow"),
        str(folder / "3.arrow"),
    ] or sorted(path.name for path in folder.iterdir()) == ["0.arrow", "1.arrow", "2.arrow"]
    _kinds(cli, "judge", "--max-size", "0")  # another kind
    assert len(list(folder.iterdir())) == 3
    size = _kinds(cli)["prepared"]["size"]
    _kinds(cli, "prepared", "--max-size", size - 1)
    assert sorted(path.name for path in folder.iterdir()) == ["0.arrow", "1.arrow"]
    _kinds(cli, "--max-size", "500GiB")
    assert len(list(folder.iterdir())) == 2


def test_rows_go_by_their_last_use_too(
    cli: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = time.time()
    answers = Table("judge", "a judge")
    for day in range(5):
        with monkeypatch.context() as then:
            then.setattr("time.time", lambda day=day: today - day * DAY - 120)
            answers.put_many({str(day): bytes(100_000)})
    found = _kinds(cli)["judge"]
    assert found["entries"] == 5
    assert found["size"] >= 500_000
    did = _kinds(cli, "--older-than", "3d")["judge"]
    assert did["removed"] == [str(answers.path)]
    assert did["freed"] > 200_000
    assert answers.get_many("01234").keys() == {"0", "1", "2"}
    left = _kinds(cli)["judge"]
    assert left["size"] < found["size"] - 190_000
    _kinds(cli, "judge", "outputs", "--max-size", left["size"] - 1)
    assert _kinds(cli)["judge"]["entries"] == 2
    assert _kinds(cli, "judge", "--all")["judge"]["removed"] == [str(answers.path)]
    assert answers.get_many("01234") == {}


def test_what_an_older_ftreg_kept_goes_with_its_kind(cli: Cli, workspace: Path) -> None:
    cache = workspace / "cache"
    old = [cache / name for name in ("outputs", "judge", "vectors-1.sqlite", "digests.sqlite")]
    for path in old[:2]:
        (path / "ab").mkdir(parents=True)
        (path / "ab" / "kept").write_text("x")
    for path in old[2:]:
        path.write_text("x")
    found = _kinds(cli)
    assert all(found[kind]["entries"] == 1 for kind in ("outputs", "judge", "vectors", "digests"))
    assert all(path.exists() for path in old)
    assert _kinds(cli, "judge", "--all")["judge"]["removed"] == [str(cache / "judge")]
    _kinds(cli, "--all")
    assert not any(path.exists() for path in old)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["output"], "'output' is not a kind; did you mean outputs?"),
        (["--older-than", "soon"], "--older-than: 'soon' is not an age; write one such as 12h"),
        (["--max-size", "9" * 400], "is not a size; write one such as 500MB or 2GiB"),
        (["--max-size", "-1"], "--max-size: '-1' is not a size"),
        (["--all", "--max-size", "1G"], "--all removes entries of any age and size"),
    ],
)
def test_mistakes(arguments: list[str], message: str, cli: Cli) -> None:
    done = cli("clean", *arguments)
    assert done.code == 2
    assert message in done.err


def test_what_a_process_holds_stays(
    cli: Cli, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftreg.files.cache.table._PATIENCE", 0.1)
    outputs = filled / "tables" / "outputs.sqlite"
    (prepared,) = filled.glob("prepared/*.arrow")
    with (
        FileLock(f"{prepared}.lock"),
        contextlib.closing(sqlite3.connect(outputs, isolation_level=None)) as holder,
    ):
        holder.execute("BEGIN IMMEDIATE")
        done = cli("clean", "outputs", "prepared", "--all")
        for path in (outputs, prepared):
            assert f"in use, or cannot be removed: {path.absolute()}" in done.err
        assert prepared.is_file()
        assert holder.execute("SELECT count(*) FROM kept").fetchone() == (8,)
    found = _kinds(cli, "outputs", "prepared", "--all")
    assert found["outputs"]["kept"] == found["prepared"]["kept"] == []
    assert not prepared.exists()
    assert _kinds(cli)["outputs"]["entries"] == 0


def test_models_go_only_when_they_are_named(cli: Cli, workspace: Path) -> None:
    model = workspace / "cache" / "models" / "a-model"
    model.mkdir(parents=True)
    (model / "weights").write_text("w", "utf-8")
    _kinds(cli, "--all")
    assert model.is_dir()
    assert _kinds(cli, "models", "--all")["models"]["removed"] == [str(model)]
    assert not model.exists()


def test_what_killed_processes_left_goes(cli: Cli, workspace: Path) -> None:
    killed = [
        workspace / "checkpoints" / ".tmp-a-01234567",
        workspace / "checkpoints" / "a.steps" / ".tmp-step-00000002-01234567",
        workspace / "checkpoints" / "g" / "seed-1.steps" / ".tmp-step-00000002-01234567",
        workspace / "evaluations" / ".tmp-e-01234567",
        workspace / "evaluations" / "e" / ".tmp-gate.json-01234567",
        workspace / "baselines" / ".tmp-colours.json-01234567",
        workspace / "baselines" / "colours.looks" / ".tmp-0123.json-01234567",
        workspace / "cache" / "judge" / "ab" / ".tmp-abc.json-01234567",
        workspace / "checkpoints" / "begun.state" / "history.jsonl",
    ]
    for path in killed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half", "utf-8")
    states = workspace / "checkpoints" / "stopped.state"
    half = states / ".tmp-step-00000002-01234567"
    whole = states / "step-00000001" / "state.json"
    for path in (half, whole):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}", "utf-8")
    held = workspace / "checkpoints" / "living.state"
    held.mkdir()
    locks = [workspace / "baselines" / ".colours.json.lock", workspace / "cache" / "x.arrow.lock"]
    for path in locks:
        path.touch()
    with FileLock(held / ".lock"):
        found = _kinds(cli)
        # A folder of states is known by its lock; of the rest nothing is old enough.
        assert found["leftovers"]["kept"] == ["checkpoints/living.state"]
        assert not killed[-1].parent.exists()
        assert all(path.exists() for path in [*killed[:-1], half])
        assert not any(path.exists() for path in locks)
        for path in [*killed[:-1], half]:
            _age(path, 2 * 3600)
        _kinds(cli)
        assert held.is_dir()
    assert not any(path.exists() for path in [*killed, half])
    assert whole.is_file()
    assert (workspace / "evaluations" / "e").is_dir()
    assert _kinds(cli)["leftovers"]["removed"] == ["checkpoints/living.state"]
    assert not held.exists()
    # A run that can be resumed goes only when it is asked for.
    assert _kinds(cli, "--all")["states"]["entries"] == 1
    with FileLock(states / ".lock"):
        assert _kinds(cli, "states", "--all")["states"]["kept"] == ["checkpoints/stopped.state"]
    assert _kinds(cli, "states", "--all")["states"]["removed"] == ["checkpoints/stopped.state"]
    assert not states.exists()


def test_the_limit_of_a_cache_holds(
    cli: Cli, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = _kinds(cli)["prepared"]["size"]
    monkeypatch.setenv("FTREG_CACHE_LIMITS", f"prepared={3 * one}, outputs=1, judge=none")
    assert _kinds(cli)["judge"]["limit"] is None
    config = Path("run.yaml")
    for tokens in (200, 210, 220, 230):
        done = cli(
            "train", config, "-s", f"train.max_length={tokens}", "-o", f"checkpoints/{tokens}"
        )
        assert done.code == 0, done
        assert _kinds(cli)["prepared"]["size"] <= 3 * one
    for tokens in (7, 8):
        done = cli("eval", "checkpoints/a", "--no-gate", "-s", f"eval.max_new_tokens={tokens}")
        assert done.code == 0, done
    assert _kinds(cli)["outputs"]["entries"] == 1  # what was made last


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("outputs=much", "FTREG_CACHE_LIMITS: outputs: 'much' is not a size"),
        ("output=1GiB", "'output' is not a cache with a limit; did you mean outputs?"),
    ],
)
def test_a_wrong_limit_is_told_of_before_anything_is_done(
    value: str, message: str, cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTREG_CACHE_LIMITS", value)
    done = cli("train", config, "-o", "checkpoints/a")
    assert done.code == 2
    assert message in done.err
    assert not Path("checkpoints/a").exists()


def test_a_promotion_leaves_no_lock_and_excludes_another(cli: Cli, filled: Path) -> None:
    assert cli("promote", "latest").code == 0
    assert {path.name for path in Path("baselines").iterdir()} == {"colours.json", "colours.looks"}
    code = (
        "import sys\nfrom pathlib import Path\nfrom ftreg.jobs.promote import promote\n"
        "from ftreg.records.evaluation.stored import read_evaluation\n"
        "from ftreg.records.workspace import Workspace\n"
        "for i in range(8):\n"
        "    promote(read_evaluation(Path(sys.argv[1])), workspace=Workspace.current(),"
        " force=True, why=f'{sys.argv[2]}/{i}')\n"
    )
    (evaluation,) = Path("evaluations").iterdir()
    others = [
        subprocess.Popen(
            [sys.executable, "-c", code, evaluation, name],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for name in "abcd"
    ]
    assert [other.wait() for other in others] == [0] * 4
    history = json.loads(Path("baselines/colours.json").read_text("utf-8"))["history"]
    told = [item["why"] for item in history[1:]]
    assert sorted(told) == sorted(f"{name}/{i}" for name in "abcd" for i in range(8))
    assert {path.name for path in Path("baselines").iterdir()} == {"colours.json", "colours.looks"}


def test_cleaning_beside_evaluations_costs_none_of_them_anything(cli: Cli, filled: Path) -> None:
    code = (
        "from pathlib import Path\nfrom ftreg.jobs.clean import clean\n"
        "from ftreg.records.workspace import Workspace\n"
        "while not Path('done').exists():\n"
        "    clean(Workspace.current(), kinds=(), everything=True)\n"
    )
    cleaner = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        scores = set()
        for _ in range(8):
            done = cli("eval", "checkpoints/a", "--no-gate", "--json")
            assert done.code == 0, done
            assert not re.search("damaged|cannot", done.err)
            scores.add(Path("evaluations", done.json["candidate"], "scores.jsonl").read_bytes())
        assert len(scores) == 1
    finally:
        Path("done").touch()
        assert cleaner.wait(timeout=60) == 0
