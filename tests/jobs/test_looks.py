"""The ledger of looks: what a gate and a promotion add to it, and what reports say of it."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from ftreg.files.store import write_record
from tests.conftest import Cli, rewrite_rows

LEDGER = Path("baselines/colours.looks")
POLICY = "gate.yaml"


@pytest.fixture
def checkpoint(cli: Cli, talking_config: Path) -> str:
    Path(POLICY).write_text("{margin: 0.3, min_examples: 4, resamples: 999}")
    assert cli("train", talking_config, "-o", "checkpoints/a").code == 0
    return "checkpoints/a"


def _scored(cli: Cli, shift: float) -> str:
    """The id of an evaluation that no gate has seen, whose scores are moved by `shift`."""
    before = set(Path("evaluations").glob("*"))
    assert cli("eval", "checkpoints/a", "--no-gate").code == 0
    (folder,) = set(Path("evaluations").glob("*")) - before

    def change(row: dict[str, Any]) -> dict[str, Any]:
        value = 0.5 + shift + 0.01 * int(row["id"][1:])
        return {**row, "score": value, "reason": None}

    rewrite_rows(folder / "scores.jsonl", lambda rows: [change(row) for row in rows])
    return folder.name


def _gate(cli: Cli, name: str) -> dict[str, Any]:
    done = cli("gate", "baseline", name, "--policy", POLICY, "--json")
    assert done.code in (0, 1, 3), done
    looks: dict[str, Any] = done.json["looks"]
    return looks


def _ledger() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in LEDGER.iterdir()}


def test_each_candidate_is_one_look_however_often_it_is_judged(cli: Cli, checkpoint: str) -> None:
    names = [_scored(cli, 0.01 * index) for index in range(4)]
    assert not LEDGER.exists()  # --no-gate judges nothing
    assert cli("promote", names[0]).code == 0
    assert [_gate(cli, name)["number"] for name in names[1:3]] == [1, 2]
    before = _ledger()
    assert _gate(cli, names[1])["number"] == 2  # the last number given, not the first
    assert _ledger() == before
    for against in (names[0], "latest"):
        assert (
            cli("gate", against, names[3], "--policy", POLICY, "--json").json.get("looks") is None
        )
    assert _ledger() == before  # another evaluation is no baseline that a candidate could replace
    looks = [json.loads(text) for text in before.values()]
    assert sorted(look["candidate"] for look in looks) == sorted(names[:3])
    assert [look["baseline"] for look in looks].count(None) == 1  # the first, promoted unjudged
    assert {look["dataset"] for look in looks} == {"colours@1"}


def test_a_baseline_was_chosen_from_all_that_were_seen(cli: Cli, checkpoint: str) -> None:
    names = [_scored(cli, 0.01 * index) for index in range(5)]
    assert cli("promote", names[0], "--anchor").code == 0
    for name in names[1:4]:
        assert _gate(cli, name)["chosen_from"] == 1
    assert cli("promote", names[3], "--force", "--why", "the best").code == 0
    found = _gate(cli, names[4])
    assert found == {
        "number": 4,
        "promoted": 1,
        "unheld": 1,
        "chosen_from": 4,
        "anchor_from": 1,
    }
    shown = cli("gate", "baseline", names[4], "--policy", POLICY)
    said = "the 4th candidate judged on these rows; the baseline was chosen from 4 seen on them"
    assert said in " ".join(shown.out.split())
    folder = Path("evaluations") / names[4]
    assert said in (folder / "report.md").read_text("utf-8")
    assert said[1:] in (folder / "report.html").read_text("utf-8")
    assert json.loads((folder / "gate.json").read_text("utf-8"))["verdict"]["looks"] == found
    history = cli("baseline", "colours", "--json").json
    assert [item["chosen_from"] for item in history["history"]] == [1, 4]
    assert history["looks"] == 4
    assert "4 candidates judged on these rows" in cli("baseline", "colours").out


def test_what_is_seen_before_there_is_a_baseline_counts(cli: Cli, checkpoint: str) -> None:
    assert cli("eval", checkpoint).code == 3
    assert len(_ledger()) == 1
    assert cli("eval", checkpoint, "--bootstrap").code == 0
    best = _scored(cli, 0.0)
    assert cli("promote", best).code == 0
    seen = len({json.loads(text)["scores"] for text in _ledger().values()})
    history = cli("baseline", "colours", "--json").json["history"]
    assert history[0]["chosen_from"] == seen > 1
    assert _gate(cli, _scored(cli, 0.01))["unheld"] == seen


def test_branches_that_judged_apart_merge_without_conflict(cli: Cli, checkpoint: str) -> None:
    names = [_scored(cli, 0.01 * index) for index in range(4)]
    assert cli("promote", names[0]).code == 0
    _gate(cli, names[1])
    shutil.copytree("baselines", "main")
    ours, theirs = {}, {}
    for branch, added in ((ours, names[2]), (theirs, names[3])):
        shutil.rmtree("baselines")
        shutil.copytree("main", "baselines")
        _gate(cli, names[1])  # judged on both
        assert _gate(cli, added)["number"] == 2
        branch.update(_ledger())
    assert all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())
    for name, text in ours.items():
        (LEDGER / name).write_bytes(text)
    assert _gate(cli, names[3])["number"] == 3


def test_another_dataset_version_has_looks_of_its_own(cli: Cli, checkpoint: str) -> None:
    names = [_scored(cli, 0.01 * index) for index in range(2)]
    assert cli("promote", names[0]).code == 0
    _gate(cli, names[1])
    for path in LEDGER.iterdir():
        look = json.loads(path.read_text("utf-8"))
        del look["digest"]
        write_record(path, {**look, "dataset": "colours@0", "dataset_digest": "0" * 64})
    assert _gate(cli, names[1])["number"] == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace('"split": "eval"', '"split": "test"'), "has changed since it"),
        (lambda text: text.replace('"digest"', '"dijest"'), "has changed since it was written"),
        (lambda text: text[: len(text) // 2], ""),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 9'), "newer"),
    ],
)
def test_a_damaged_look_is_named(damage: Any, message: str, cli: Cli, checkpoint: str) -> None:
    names = [_scored(cli, 0.01 * index) for index in range(2)]
    assert cli("promote", names[0]).code == 0
    (path,) = LEDGER.iterdir()
    path.write_text(damage(path.read_text("utf-8")), "utf-8")
    for command in (["gate", "baseline", names[1]], ["baseline", "colours"]):
        done = cli(*command)
        assert done.code == 2, done
        assert str(path) in done.err
        assert message in " ".join(done.err.split())
        assert "Traceback" not in done.err


def test_spending_is_shown_and_may_not_be_given_up_unseen(cli: Cli, checkpoint: str) -> None:
    Path(POLICY).write_text("{margin: 0.3, min_examples: 4, resamples: 999, spend_error: true}")
    names = [_scored(cli, 0.01 * index) for index in range(3)]
    assert cli("promote", names[0], "--anchor").code == 0
    levels = []
    for name in names[1:]:
        done = cli("gate", "baseline", name, "--policy", POLICY, "--json")
        rows = [row for row in done.json["rows"] if row["cohort"] == "all"]
        assert {row["against"] for row in rows if row["gated"]} == {"baseline", "anchor"}
        levels.append(done.json["level"])
    assert 0.05 > levels[0] > levels[1]
    shown = cli("gate", "baseline", names[2], "--policy", POLICY)
    assert "the error budget of all looks is spent" in " ".join(shown.out.split())
    needed = cli("power", names[2], "--margin", "0.3", "--json").json["scorers"][0]["need"]
    assert needed >= math.log(levels[1]) / math.log(1 - 0.3) > 9  # 9 if nothing were spent
