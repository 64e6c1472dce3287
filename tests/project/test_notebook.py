"""`ftreg.notebook`: from a dataset to a verdict in Python, and what a notebook shows of it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import ftreg
from ftreg.errors import UndecidedError, UsageError
from ftreg.notebook import (
    Dataset,
    TrainingRun,
    evaluate,
    gate,
    open_evaluation,
    open_run,
    promote,
    report,
    train,
)
from tests.conftest import Cli, make_model, write_dataset
from tests.documented import DOCS, blocks
from tests.report_fakes import make_dataset, make_evaluation

ROOT = DOCS.parent
FEW = {"train.max_steps": 2}


@pytest.fixture
def run(config: Path) -> TrainingRun:
    return train(str(config), overrides=FEW, progress=False)


def test_from_a_dataset_to_a_verdict(run: TrainingRun, cli: Cli) -> None:
    dataset = Dataset("colours", version=1, root="datasets").add_evaluation("Equals")
    overrides = {"gate.min_examples": 2, "gate.margins": {"equals": 0.5}}
    first = evaluate(run, dataset, max_examples=4, overrides=overrides, progress=False)
    assert first.header["dataset"]["rows"] == 4
    assert list(first.means) == ["equals"]
    with pytest.raises(UndecidedError, match="there is no baseline yet"):
        gate(first)
    assert promote(first, why="first").baseline == first.id
    second = evaluate(run.folder, dataset, max_examples=4, overrides=overrides, progress=False)
    judged = gate(second, policy={"margin": 0.5, "min_examples": 2, "allow_undecided": True})
    assert judged.outcome == json.loads(cli("gate", "baseline", second.id, "--json").out)["outcome"]
    assert bool(judged) is (judged.exit_code == 0)
    assert judged.to_pandas()["scorer"].unique().tolist() == ["equals"]
    page = report(second, "report.html").path
    assert page == Path("report.html") and second.id in page.read_text("utf-8")
    assert open_evaluation("latest").header == second.header


def test_what_train_takes(config: Path, tiny_model: Path) -> None:
    by_file = train(config, overrides=["train.max_steps=1"], output="a", progress=False)
    sections = ftreg.load_config(config, overrides=["train.max_steps=1"])
    by_record = train(sections, output=Path("b"), progress=False)
    by_mapping = ftreg.train(
        {
            "base": {"model": str(tiny_model)},
            "dataset": {"version": "colours@1", "root": "datasets"},
            "optimizer": {"name": "adamw", "lr": 1e-3},
            "train": {"batch_size": 4, "precision": "fp32", "threads": 1, "max_steps": 1},
        },
        output="c",
        progress=False,
    )
    weights = {item.manifest.weights.digest for item in (by_file, by_record, by_mapping)}
    assert len(weights) == 1
    assert by_file.folder == Path("a") and open_run("b").manifest == by_record.manifest
    history = by_file.to_pandas()
    lines = Path("a/history.jsonl").read_text("utf-8").splitlines()
    assert history["loss"].tolist() == [json.loads(line)["loss"] for line in lines]
    seeds = train(sections, overrides={"train.seeds": [1, 2]}, output="d", progress=False)
    assert seeds.to_pandas()["seed"].tolist() == [1, 2]
    scored = evaluate(seeds, overrides={"eval.scorers": ["equals"]}, progress=False)
    table = scored.to_pandas()
    assert table["seed"].tolist() == [1] * 8 + [2] * 8
    for row in table.to_dict("records"):
        assert scored.scores["equals"][row["id"]][row["seed"] - 1] == row["equals"]  # type: ignore[index]
    write_dataset(Path("däta 😀"), version=2)
    dataset = Dataset("colours", root="däta 😀")
    other = train(config, dataset=dataset, overrides=FEW, progress=False)
    assert other.manifest.dataset.version == "colours@2"
    assert other.folder.parent == Path("checkpoints")


def test_the_table_of_an_evaluation_is_what_is_stored(workspace: Path) -> None:
    make_dataset(4, {1: {"tags": {"parity": "odd", "output": "x"}}})
    scores: dict[str, Any] = {"faithfulness": [0.5, None, 0.25, 1.0], "equals": [1, 0, 0, 1]}
    made = make_evaluation("001", outputs={0: "=1+1"}, scores=scores)
    found = open_evaluation("001")
    table = found.to_pandas()
    assert table["faithfulness"].isna().tolist() == [False, True, False, False]
    assert table["equals"].tolist() == [1, 0, 0, 1]
    assert table["faithfulness_reason"][1] == "no claims in the output"
    assert table["parity"].tolist() == ["even", "odd", "even", "odd"]
    assert table["output"][0] == "=1+1"
    assert table["references"][2] == ["blue", "It is blue."]
    assert found.means == {"faithfulness": pytest.approx(1.75 / 3), "equals": 0.5}
    assert found.scores == made.scores


def test_mistakes_have_the_messages_of_the_command_line(cli: Cli) -> None:
    make_dataset(4)
    make_evaluation("001")
    for call, command in (
        (lambda: train("missing.yaml"), ("train", "missing.yaml")),
        (lambda: evaluate("nothing"), ("eval", "nothing")),
        (lambda: gate("001"), ("gate", "baseline", "001")),
        (lambda: gate("002"), ("gate", "baseline", "002")),
        (lambda: promote("001", force=True), ("promote", "001", "--force")),
        (lambda: report("003"), ("report", "003")),
    ):
        done = cli(*command)
        assert done.code
        with pytest.raises(Exception) as raised:
            call()
        assert str(raised.value) in done.err
        assert raised.value.exit_code == done.code  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Dataset("colour"), "there is no dataset 'colour'; did you mean colours?"),
        (lambda: Dataset("colours", 9), "there is no dataset version colours@9"),
        (lambda: Dataset("colours@1", 1), "colours@1@1"),
        (lambda: Dataset("colours").add_evaluation("Faithfulnes"), "did you mean faithfulness"),
        (
            lambda: Dataset("colours").add_evaluation("Equals").add_evaluation("equals"),
            "equals is a duplicate scorer",
        ),
        (lambda: train("run.yaml", overrides="train.seed=1"), "a mapping or a list of strings"),
        (lambda: train({"optimiser": {}}), "did you mean optimizer?"),
        (lambda: train(["a.yaml", "b.yaml"]), "train takes one configuration"),
        (lambda: gate("001", policy={"margins": 1}), "policy: margins"),
    ],
)
def test_what_is_refused(call: Any, message: str, workspace: Path) -> None:
    make_dataset(4)
    make_evaluation("001")
    with pytest.raises(UsageError) as raised:
        call()
    assert message in str(raised.value)


def test_names_of_scorers_are_read_as_they_are_written(workspace: Path) -> None:
    make_dataset(4)
    dataset = Dataset("colours")
    for name in ("AnswerRelevancy", "GroundTruthMatch", "JsonSchema", "evaluate:rouge", "a.b:c"):
        dataset.add_evaluation(name)
    names = [item["name"] for item in dataset.evaluations]
    assert names == [
        "answer_relevancy", "ground_truth_match", "json_schema", "evaluate:rouge", "a.b:c"
    ]  # fmt: skip
    assert dataset.to_pandas()["id"].tolist() == ["e0", "e1", "e2", "e3"]


def test_what_a_notebook_shows_is_text_and_no_markup(run: TrainingRun, cli: Cli) -> None:
    hostile = "<script>hacked()</script>"
    make_dataset(60, {0: {"input": hostile, "reference": hostile}})
    first = make_evaluation("001", optimizer=hostile)
    make_evaluation("002", optimizer="lion", scores={"equals": [0.1] * 60})
    promote(first)
    verdict = gate("002")
    assert not verdict and verdict.outcome == "regression"
    page = report("002")
    again = promote("001", force=True, why="x")
    for item in (Dataset("colours"), open_evaluation("001"), verdict, page, run, again):
        html = item._repr_html_()
        assert "<script>" not in html, type(item)
    assert "REGRESSION" in verdict._repr_html_()
    assert 'sandbox="allow-scripts"' in page._repr_html_()
    assert "data:image/svg+xml;base64," in run._repr_html_()
    assert "&lt;script&gt;" in Dataset("colours")._repr_html_()


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, ftreg\nlight = set(sys.modules)\nfrom ftreg.notebook import train\n"
        "print({'pandas', 'pyarrow', 'pydantic', 'torch'} & light, 'torch' in sys.modules,"
        " 'transformers' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set() False False False"


@pytest.mark.slow
def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(tmp_path / "tiny", max_position_embeddings=2048)
    for name in ("configs", "sample_datasets/ferry-desk/v2"):
        shutil.copytree(ROOT / name, tmp_path / name)
    base = yaml.safe_load((tmp_path / "configs/base.yaml").read_text("utf-8"))
    base["base"] = {"model": str(model)}
    base["dataset"]["max_train_examples"] = 8
    base["train"] |= {"precision": "fp32", "epochs": 1}
    base["eval"]["max_new_tokens"] = 4
    (tmp_path / "configs/base.yaml").write_text(yaml.safe_dump(base))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("python.md", "python"):
        exec(block, names)
    assert list(names["first"].means) == ["faithfulness", "equals"]
    assert names["second"].header["checkpoint"]["lr"] == 1e-5
    assert names["verdict"].baseline["id"] == names["first"].id
    assert names["page"].path == Path("lion.html") and names["page"].path.is_file()
