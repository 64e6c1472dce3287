"""What a model has kept: retention and instructions, from the evaluation to the gate."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftreg.scoring import get_scorer
from tests.conftest import Cli, rewrite_rows, write_dataset

PROBED = [
    "-s",
    "eval.scorers=[equals, {name: retention, options: {texts: texts.jsonl}}, instructions]",
]
LAX = ["-s", "gate.constant=[equals, instructions]", "-s", "gate.margins={retention: 0.01}"]
TEXTS = {f"text-{i}": f"The ferry number {i} sails at {i} o'clock from pier {i}." for i in range(8)}


@pytest.fixture
def checkpoint(cli: Cli, talking_config: Path) -> str:
    assert cli("train", talking_config, "-o", "checkpoints/a").code == 0
    lines = (json.dumps({"id": name, "text": text}) + "\n" for name, text in TEXTS.items())
    Path("texts.jsonl").write_text("".join(lines))
    return "checkpoints/a"


def _evaluate(cli: Cli, *arguments: str) -> Path:
    done = cli("eval", "checkpoints/a", "--no-gate", *PROBED, *LAX, *arguments)
    assert done.code == 0, done
    assert "retention" in done.out
    return max(Path("evaluations").glob("*/evaluation.json")).parent


def _probes(folder: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "probes.jsonl").read_text().splitlines()]
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        found.setdefault(row["scorer"], {})[row["id"]] = row
    return found


def _scale(folder: Path, scorer: str, factor: float) -> None:
    """Change the scores of a probe as if another model had been asked."""

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**row, "score": row["score"] * factor} if row["scorer"] == scorer else row
            for row in rows
        ]

    rewrite_rows(folder / "probes.jsonl", change)


def test_retention_is_the_loss_that_transformers_computes(cli: Cli, checkpoint: str) -> None:
    folder = _evaluate(cli)
    found = _probes(folder)["retention"]
    assert list(found) == list(TEXTS)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    for name, text in TEXTS.items():
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            loss = float(model(input_ids=ids, labels=ids).loss)
        assert found[name]["score"] == pytest.approx(math.exp(-loss), rel=1e-4)
        assert found[name]["evidence"][0]["tokens"] == ids.shape[1]
    header = json.loads((folder / "evaluation.json").read_text())
    assert header["probes"]["retention"]["items"] == len(TEXTS)
    assert set(header["scorers"]) == {"equals"}


def test_every_instruction_is_answered_and_checked(cli: Cli, checkpoint: str) -> None:
    found = _probes(_evaluate(cli))["instructions"]
    probe: Any = get_scorer("instructions")
    assert list(found) == list(probe.items)
    for name, row in found.items():
        (evidence,) = row["evidence"]
        assert evidence["instruction"] == probe.items[name]
        assert row["score"] == float(not evidence["failed"])


def test_the_gate_finds_what_was_forgotten(cli: Cli, checkpoint: str) -> None:
    first, second = _evaluate(cli), _evaluate(cli)
    done = cli("gate", first, second, "--json")
    rows = {row["scorer"]: row for row in done.json["rows"] if row["cohort"] == "all"}
    assert rows["retention"]["n"] == rows["retention"]["units"] == len(TEXTS)
    assert rows["instructions"]["n"] == 64
    assert rows["equals"]["n"] == 8
    assert rows["retention"]["margin"] == 0.01
    assert {row["scorer"] for row in done.json["rows"] if row["cohort"] != "all"} == {"equals"}
    _scale(first, "instructions", 0.0)
    rewrite_rows(
        first / "probes.jsonl",
        lambda rows: [
            {**row, "score": 0.9 - index / 1000} if row["scorer"] == "retention" else row
            for index, row in enumerate(rows)
        ],
    )
    done = cli("gate", first, second)
    assert done.code == 1, done
    assert "retention: the mean dropped by" in " ".join(done.out.split())
    assert "equals: the mean" not in done.out


def test_a_baseline_keeps_what_was_asked(cli: Cli, checkpoint: str) -> None:
    first = _evaluate(cli)
    assert cli("promote", first, "--anchor", "--force", "--why", "first").code == 0
    again = _evaluate(cli)
    _scale(again, "retention", 0.1)
    done = cli("gate", "baseline", again, "--json")
    against = {row["against"] for row in done.json["rows"] if row["scorer"] == "retention"}
    assert against == {"baseline", "anchor"}
    # Scores that are made anew from outputs do not lose it.
    assert cli("rescore", first).code == 0
    rescored = max(Path("evaluations").glob("*/evaluation.json"), key=lambda at: at.stat().st_mtime)
    assert _probes(rescored.parent) == _probes(first)


def test_a_floor_and_other_texts(cli: Cli, checkpoint: str) -> None:
    first, second = _evaluate(cli), _evaluate(cli)
    Path("policy.yaml").write_text("constant: [equals, instructions]\nfloors: {retention: 0.9}\n")
    done = cli("gate", first, second, "--policy", "policy.yaml")
    assert done.code == 1
    assert "below its floor of 90" in " ".join(done.out.split())
    Path("texts.jsonl").write_text('{"text": "Something else altogether."}\n')
    other = _evaluate(cli)
    done = cli("gate", first, other)
    assert done.code == 3
    assert "scorers.retention.digest" in done.err


def test_replicas_are_asked_each(cli: Cli, checkpoint: str, talking_config: Path) -> None:
    trained = cli("train", talking_config, "-s", "train.seeds=[1, 2]", "-o", "checkpoints/both")
    assert trained.code == 0, trained
    assert cli("eval", "checkpoints/both", "--no-gate", *PROBED, *LAX).code == 0
    folder = max(Path("evaluations").glob("both*/evaluation.json")).parent
    rows = [json.loads(line) for line in (folder / "probes.jsonl").read_text().splitlines()]
    assert {row["seed"] for row in rows} == {1, 2}
    done = cli("gate", folder, folder, "--json")
    (row,) = [row for row in done.json["rows"] if row["scorer"] == "retention"]
    assert (row["candidate_seeds"], row["n"]) == (2, len(TEXTS))


@pytest.mark.parametrize(
    ("scorers", "said"),
    [
        ("[retention]", "name a scorer of its outputs too"),
        ("[equals, {name: retention, options: {text: x}}]", "did you mean"),
        ("[equals, {name: retention, options: {texts: 5}}]", "path of a JSONL file"),
        ("[equals, {name: retention, options: {texts: no.jsonl}}]", "no.jsonl"),
        ("[equals, {name: retention, options: {texts: bad.jsonl}}]", "bad.jsonl:2"),
        ("[equals, {name: instructions, backend: judge}]", "has no backend"),
    ],
)
def test_mistakes_are_told_before_anything_is_generated(
    cli: Cli, checkpoint: str, scorers: str, said: str
) -> None:
    Path("bad.jsonl").write_text('{"text": "One."}\n{"texts": "Two."}\n')
    done = cli("eval", checkpoint, "--no-gate", "-s", f"eval.scorers={scorers}")
    assert done.code == 2, done
    assert said in " ".join(done.err.split())
    assert not Path("evaluations").exists() or not list(Path("evaluations").iterdir())


def test_a_probe_scores_no_outputs(cli: Cli, checkpoint: str, talking_config: Path) -> None:
    Path("outputs.jsonl").write_text('{"id": "1", "input": "a", "output": "b"}\n')
    done = cli("score", "outputs.jsonl", "--scorer", "retention")
    assert done.code == 2
    assert "asks the model itself" in done.err
    served = ["-s", "eval.engine={name: openai, base_url: 'http://localhost:1/v1', model: a}"]
    done = cli("eval", checkpoint, "--no-gate", *PROBED, *served)
    assert done.code == 2
    assert "needs the weights" in done.err
    assert cli("promote", _evaluate(cli), "--force", "--why", "first").code == 0
    done = cli("eval", checkpoint, *PROBED, *LAX, "--until-decided")
    assert done.code == 2, done
    assert "cannot be judged before all rows are evaluated" in " ".join(done.err.split())


def test_a_probe_cannot_choose_a_checkpoint(cli: Cli, talking_config: Path) -> None:
    write_dataset(Path("more"))
    done = cli(
        "train", talking_config, "-o", "checkpoints/b", "-s", "train.keep_by=instructions",
        "-s", "train.keep=best", "-s", "train.checkpoint_steps=1",
        "-s", "dataset.validation_split=valid", "-s", "eval.scorers=[equals, instructions]",
    )  # fmt: skip
    assert done.code == 2
    assert "train.keep_by" in done.err


BUDGETS = "constant: [equals, instructions]\nmargin: 0.9\nmin_examples: 1\nbudgets: {{{}}}\n"


@pytest.mark.parametrize(
    ("budget", "outcome", "said"),
    [
        ("tokens_per_answer: 0.5", "regression", "above its budget of 0.5"),
        ("tokens_per_answer: 4", "pass", ""),
        ("tokens_per_answer: 3.99", "undecided", "keeps its budget of 3.99"),
        ("seconds_per_token: 1e-12", "regression", "above its budget of 1e-12"),
        ("seconds_per_token: 1e9", "pass", ""),
    ],
)
def test_a_budget_is_held(cli: Cli, checkpoint: str, budget: str, outcome: str, said: str) -> None:
    assert cli("eval", "checkpoints/a", "--no-gate", "-s", "eval.scorers=[equals]").code == 0
    (header,) = Path("evaluations").glob("*/evaluation.json")
    folder = header.parent
    Path("policy.yaml").write_text(BUDGETS.format(budget))
    done = cli("gate", folder, folder, "--policy", "policy.yaml", "--json")
    (row,) = done.json["costs"]
    assert row["outcome"] == outcome
    text = " ".join(cli("gate", folder, folder, "--policy", "policy.yaml").out.split())
    assert said in text
    assert "Costs (less is better)" in text
    outputs = [json.loads(line) for line in (folder / "outputs.jsonl").read_text().splitlines()]
    if row["name"] == "tokens_per_answer":
        mean = sum(item["tokens"] for item in outputs) / len(outputs)
        assert row["candidate"] == pytest.approx(mean) == pytest.approx(row["baseline"])
        assert row["interval"][0] <= mean <= row["interval"][1]
    assert done.code == {"regression": 1, "pass": 0, "undecided": 3}[outcome], done
    assert "Costs" in (folder / "report.md").read_text()
    assert "What answers cost" in (folder / "report.html").read_text()


def test_time_that_was_not_measured_decides_nothing(cli: Cli, checkpoint: str) -> None:
    first, again = _evaluate(cli), _evaluate(cli)
    times = [
        json.loads((folder / "evaluation.json").read_text())["generation"]["seconds_per_token"]
        for folder in (first, again)
    ]
    assert times[0] > 0
    assert times[1] is None  # every output was there already
    Path("policy.yaml").write_text(BUDGETS.format("seconds_per_token: 1"))
    done = cli("gate", first, again, "--policy", "policy.yaml")
    assert done.code == 3
    assert "the time was not measured" in " ".join(done.out.split())


def test_a_budget_may_not_be_widened_on_the_way_to_a_promotion() -> None:
    from ftreg.config.policy import GatePolicy, loosened

    old, new = (
        GatePolicy.model_validate({"budgets": {"tokens_per_answer": most}}) for most in (40, 50)
    )
    assert loosened(old, new) == ["budgets.tokens_per_answer 50, was 40"]
    assert loosened(new, old) == []
    assert loosened(old, GatePolicy()) == ["budgets.tokens_per_answer null, was 40"]


def _model_that_knows(texts: list[str], base: str, folder: Path) -> None:
    """Teach a tiny model some texts, by plain torch."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = tokenizer(texts, return_tensors="pt").input_ids  # all are as long
    for _ in range(150):
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_training_too_long_at_too_high_a_rate_is_caught(
    cli: Cli, config: Path, tiny_model: Path
) -> None:
    """The task's score rises meanwhile, so that nothing else would stop it."""
    texts = [f"The ferry {i} sails at {i} o'clock." for i in range(10, 34)]
    _model_that_knows(texts, str(tiny_model), Path("general"))
    rows = (json.dumps({"text": text}) + "\n" for text in texts)
    Path("texts.jsonl").write_text("".join(rows))
    scorers = "eval.scorers=[equals, {name: retention, options: {texts: texts.jsonl}}]"
    common = ["-s", "base.model=general", "-s", "dataset.eval_split=train", "-s", scorers]
    common += ["-s", "gate.margins={retention: 0.05}", "-s", "eval.max_new_tokens=6"]
    runs = {"gentle": ("1e-4", "1"), "hot": ("3e-3", "60")}
    for name, (rate, epochs) in runs.items():
        done = cli(
            "train", config, *common, "-o", f"checkpoints/{name}",
            "-s", f"optimizer.lr={rate}", "-s", f"train.epochs={epochs}",
        )  # fmt: skip
        assert done.code == 0, done
    assert cli("eval", "gentle", "--no-gate").code == 0
    assert cli("promote", "latest", "--force", "--why", "first").code == 0
    done = cli("eval", "hot", "--json")
    whole = {row["scorer"]: row for row in done.json["rows"] if row["cohort"] == "all"}
    assert whole["equals"]["delta"] > 0.5
    assert whole["retention"]["delta"] < -0.05
    assert done.code == 1
    assert len(done.json["reasons"]) == 1
    assert done.json["reasons"][0].startswith("retention: the mean dropped")


def test_a_flipped_byte_of_what_a_probe_found_is_found(cli: Cli, checkpoint: str) -> None:
    first = _evaluate(cli)
    assert cli("promote", first.name).code == 0
    second = _evaluate(cli)
    _scale(second, "retention", 0.9)
    assert cli("gate", "baseline", second.name, "--attest", "verdict.json").code in (0, 1, 3)
    assert cli("verify", "verdict.json").code == 0
    for folder in (first, second):
        path = folder / "probes.jsonl"
        before = path.read_bytes()
        for place in (0, len(before) // 2, len(before) - 1):
            path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
            done = cli("verify", "verdict.json")
            assert (done.code, "probes.jsonl: changed since" in done.out) == (3, True), done
        path.write_bytes(before)
    assert cli("verify", "verdict.json").code == 0
