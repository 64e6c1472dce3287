"""Training rows that reappear in a held-out split: found, told, recorded, and gated."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ftreg.config.policy import GatePolicy, loosened
from ftreg.files.store import read_json, write_json
from tests.conftest import Cli, rewrite_rows, write_dataset

WORDS = [f"word{i}" for i in range(400)]


def _text(seed: int, length: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def _row(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "input": text, "reference": "an answer", **more}


def _dataset(train: list[dict[str, Any]], held_out: list[dict[str, Any]], **card: Any) -> None:
    write_dataset(
        Path("sample_datasets"), train=train, evaluation=held_out, cohorts=[],
        prompt={"user": "{input}"}, **card,
    )  # fmt: skip


def _leaks(cli: Cli) -> dict[str, tuple[str, str]]:
    found = cli("data", "leaks", "colours@1", "--json").json["leaks"]
    return {leak["id"]: (leak["train_id"], leak["kind"]) for leak in found}


def test_exact_and_near_rows_are_found_and_others_are_not(cli: Cli) -> None:
    one = _text(1)
    words = _text(2).split()
    near = " ".join([*words[:30], "another", *words[31:]])  # 5 of 58 sequences on each side differ
    far = " ".join([*words[:10], "a", *words[11:30], "b", *words[31:50], "c", *words[51:]])
    _dataset(
        [_row("t1", one), _row("t2", " ".join(words)), _row("t3", _text(3)), _row("t4", "Yes?")],
        [
            _row("same", f"  {one.upper()}!\n"),
            _row("near", near),
            _row("far", far),
            _row("new", _text(9)),
            _row("short", "yes"),
        ],
    )
    assert _leaks(cli) == {
        "same": ("t1", "exact"), "near": ("t2", "near"), "short": ("t4", "exact")
    }  # fmt: skip


def test_near_rows_agree_with_counting_every_pair(cli: Cli) -> None:
    """The index of every pair, by Python's sets: what the search finds is neither more nor less."""
    rng = random.Random(0)

    def edited(text: str) -> str:
        words = text.split()
        for place in rng.sample(range(len(words)), rng.randrange(0, 4)):
            words[place] = rng.choice(WORDS)
        return " ".join(words)

    train = [_row(f"t{i}", _text(i)) for i in range(60)]
    held_out = [_row(f"e{i}", edited(rng.choice(train)["input"])) for i in range(80)]
    _dataset(train, held_out)

    def sequences(row: dict[str, Any]) -> set[tuple[str, ...]]:
        words = f"{row['input']} {row['reference']}".split()
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    expected = set()
    for row in held_out:
        mine = sequences(row)
        for other in train:
            theirs = sequences(other)
            if len(mine & theirs) / len(mine | theirs) >= 0.8:
                expected.add(row["id"])
    assert 20 < len(expected) < 80
    assert set(_leaks(cli)) == expected


def test_equal_questions_about_other_documents_are_no_leak(cli: Cli) -> None:
    _dataset(
        [_row("t", "Is it open today?", context=_text(1))],
        [
            _row("other", "Is it open today?", context=_text(2)),
            _row("same", "Is it open today?", context=_text(1)),
        ],
    )
    assert _leaks(cli) == {"same": ("t", "exact")}


def test_texts_without_spaces_are_compared_by_character(cli: Cli) -> None:
    text = (
        "今天天气很好我们去公园散步然后一起吃晚饭再看一场电影最后回家休息准备明天的工作和学习计划"
        "他们的孩子在学校里认识了很多新朋友并且参加了足球队"
    )
    _dataset([_row("t", text)], [_row("near", text.replace("晚", "午")), _row("far", text[::-1])])
    assert _leaks(cli) == {"near": ("t", "near")}


def test_leaks_are_shown_with_their_twins(cli: Cli) -> None:
    _dataset([_row("t", _text(1))], [_row("e", _text(1))])
    done = cli("data", "leaks", "colours@1")
    assert done.code == 0
    assert "1 of 1 rows (100.0 %) repeat one (1 exactly, 0 nearly)" in " ".join(done.out.split())
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.fixture
def evaluation(cli: Cli, config: Path) -> Path:
    """An evaluation of 8 rows, each of which the fixture's training rows repeat."""
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    done = cli("eval", "checkpoints/a", "--no-gate")
    assert done.code == 0, done
    assert "8 of 8 rows (100.0 %) repeat one" in done.err
    assert "e0, e1, e2" in done.err
    (folder,) = Path("evaluations").glob("[!.]*")
    return folder


def test_an_evaluation_records_leaks_and_a_policy_refuses_them(cli: Cli, evaluation: Path) -> None:
    header = json.loads((evaluation / "evaluation.json").read_text())
    assert header["leakage"]["trained_on"] == "colours@1, train"
    assert header["leakage"]["share"] == 1.0
    assert header["leakage"]["exact"] == 8

    rewrite_rows(
        evaluation / "scores.jsonl",
        lambda rows: [{**row, "score": int(row["id"][1:]) % 2} for row in rows],
    )

    def gate(policy: str) -> Any:
        Path("policy.yaml").write_text(f"mode: threshold\n{policy}\n")
        return cli("gate", evaluation.name, evaluation.name, "--policy", "policy.yaml")

    assert gate("max_leaked: null").code == 0
    assert gate("max_leaked: 1.0").code == 0
    done = gate("max_leaked: 0.05")
    assert done.code == 3
    assert "100.0 % of the examples stand in the candidate's training" in " ".join(done.out.split())

    # An evaluation that was made before leaks were looked for.
    path = evaluation / "evaluation.json"
    older = read_json(path, kind="evaluation", schema=1)
    del older["leakage"]
    write_json(path, older)
    assert gate("max_leaked: null").code == 0
    assert gate("max_leaked: 0.05").code == 3


def test_training_rows_that_are_gone_leave_it_unknown(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    path = Path("datasets/colours/v1/train.jsonl")
    path.unlink()
    done = cli("eval", "checkpoints/a", "--no-gate")
    assert done.code == 0, done
    assert "is unknown" in done.err and "train.jsonl" in done.err
    (folder,) = Path("evaluations").glob("[!.]*")
    leakage = json.loads((folder / "evaluation.json").read_text())["leakage"]
    assert "share" not in leakage and "missing" in leakage["unknown"]


def test_only_the_rows_that_were_taken_count(cli: Cli, config: Path) -> None:
    assert (
        cli("train", config, "-o", "checkpoints/a", "-s", "dataset.max_train_examples=4").code == 0
    )
    done = cli("eval", "checkpoints/a", "--no-gate")
    assert "4 of 8 rows (50.0 %)" in done.err


def test_a_policy_that_lets_more_leak_is_looser() -> None:
    none, some, more = (GatePolicy(max_leaked=share) for share in (None, 0.01, 0.1))
    assert loosened(some, more) == ["max_leaked 0.1, was 0.01"]
    assert loosened(some, none) == ["max_leaked null, was 0.01"]
    assert loosened(more, some) == loosened(none, some) == []
