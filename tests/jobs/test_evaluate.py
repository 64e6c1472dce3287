"""Evaluating, gating, promoting and scoring, through the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ftreg.files.store import read_json, write_json
from tests.conftest import Cli, Result, reseal, rewrite_rows, rows_of, write_dataset


@pytest.fixture
def checkpoint(cli: Cli, talking_config: Path) -> str:
    assert cli("train", talking_config, "-o", "checkpoints/a").code == 0
    return "checkpoints/a"


def _evaluations() -> list[Path]:
    return sorted(path.parent for path in Path("evaluations").glob("*/evaluation.json"))


def _rewrite_scores(folder: Path, change: Any) -> None:
    """Give the scores of an evaluation other values, as another checkpoint would."""
    rewrite_rows(folder / "scores.jsonl", lambda rows: [change(row) for row in rows])


def _evaluate(cli: Cli, *arguments: str) -> Path:
    """Evaluate without a gate and return the new evaluation."""
    before = _evaluations()
    done = cli("eval", "checkpoints/a", "--no-gate", *arguments)
    assert done.code == 0, done
    (new,) = set(_evaluations()) - set(before)
    return new


def _scored(cli: Cli, values: Any) -> Path:
    """An evaluation whose scores are `values(scorer, index)`."""
    folder = _evaluate(cli)

    def change(row: dict[str, Any]) -> dict[str, Any]:
        value = values(row["scorer"], int(row["id"][1:]))
        return {**row, "score": value, "reason": None if value is not None else "not computed"}

    _rewrite_scores(folder, change)
    return folder


def test_an_evaluation_has_every_output_and_score(cli: Cli, checkpoint: str) -> None:
    folder = _evaluate(cli)
    header = json.loads((folder / "evaluation.json").read_text())
    outputs = [json.loads(line) for line in (folder / "outputs.jsonl").read_text().splitlines()]
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert [row["id"] for row in outputs] == [f"e{i}" for i in range(8)]
    assert outputs[1]["cohorts"] == {"parity": "odd"}
    assert len(scores) == 16
    assert all((row["score"] is None) == (row["reason"] is not None) for row in scores)
    manifest = json.loads(Path(checkpoint, "ftreg.json").read_text())
    assert header["checkpoint"]["weights"] == manifest["weights"]["digest"]
    assert header["dataset"]["version"] == "colours@1"
    for name, summary in header["summary"].items():
        values = [row["score"] for row in scores if row["scorer"] == name]
        present = [value for value in values if value is not None]
        assert summary["missing"] == values.count(None)
        assert summary["mean"] == (sum(present) / len(present) if present else None)


def test_greedy_outputs_do_not_depend_on_the_batch_size(
    cli: Cli, checkpoint: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {}
    for size in (1, 3, 8):
        monkeypatch.setenv("FTREG_CACHE", str(workspace / f"cache{size}"))  # no output is there yet
        folder = _evaluate(cli, "-s", f"eval.batch_size={size}")
        assert json.loads((folder / "evaluation.json").read_text())["generation"]["taken"] == 0
        texts[size] = (folder / "outputs.jsonl").read_text()
    assert texts[1] == texts[3] == texts[8]
    assert len({json.loads(line)["output"] for line in texts[1].splitlines()}) == 8


def test_without_a_baseline_the_gate_cannot_decide(cli: Cli, checkpoint: str) -> None:
    done = cli("eval", checkpoint)
    assert done.code == 3
    assert "there is no baseline yet" in done.err
    (folder,) = _evaluations()  # the evaluation itself is kept
    assert f"report: {folder / 'report.html'}" in done.out
    assert (folder / "report.html").is_file()
    assert cli("eval", checkpoint, "--bootstrap").code == 0


def test_without_a_report_there_is_no_page(cli: Cli, checkpoint: str) -> None:
    for options in (["--no-gate"], ["--bootstrap"], [], ["--against", "latest"]):
        done = cli("eval", checkpoint, "--no-report", *options)
        assert done.code in (0, 3), done
        assert "report.html" not in done.out
    done = cli("eval", checkpoint, "--no-report", "--against", "latest", "--json")
    assert done.json["html"] is None
    assert Path(done.json["report"]).is_file()
    assert not list(Path("evaluations").glob("*/report.html"))
    assert cli("report", "latest").code == 0
    assert len(list(Path("evaluations").glob("*/report.html"))) == 1


def test_datasets_that_have_moved_are_found_and_their_place_is_recorded(
    cli: Cli, checkpoint: str, workspace: Path
) -> None:
    Path("datasets").rename("elsewhere")
    done = cli("eval", checkpoint, "--no-gate")
    assert done.code == 2, done
    moved = workspace / "elsewhere"
    done = cli("eval", checkpoint, "--no-gate", "-s", f"dataset.root={moved}")
    assert done.code == 0, done
    (folder,) = _evaluations()
    header = json.loads((folder / "evaluation.json").read_text())
    assert header["dataset"]["root"] == "elsewhere"
    assert "unknown" not in header["leakage"]
    assert "The dataset version is not available" not in (folder / "report.html").read_text()


def test_the_page_is_named_once(cli: Cli, checkpoint: str) -> None:
    for options in (["--no-gate"], ["--bootstrap"], ["--against", "latest"]):
        done = cli("eval", checkpoint, *options)
        assert done.code in (0, 3), done
        pages = [line.split()[-1] for line in done.out.splitlines() if "report.html" in line]
        assert len(pages) == 1, done.out
        assert Path(pages[0]).is_file()


def test_equal_scores_pass_and_can_be_promoted(cli: Cli, checkpoint: str) -> None:
    baseline, candidate = (_scored(cli, lambda scorer, index: 0.5 + 0.01 * index) for _ in "ab")
    assert cli("promote", baseline).code == 0
    refused = cli("promote", candidate)
    assert refused.code == 2
    assert "has not been gated against the baseline" in refused.err
    done = cli("gate", "baseline", candidate.name)
    assert done.code == 0, done
    assert "PASS" in done.out
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert cli("promote", candidate).code == 0
    history = cli("baseline", "colours", "--json").json["history"]
    assert [item["evaluation"] for item in history] == [baseline.name, candidate.name]
    assert "Promotions" in cli("baseline", "colours").out


def _drop(cli: Cli) -> tuple[Path, Path, Result]:
    # Of eight examples, only a drop as large as this is proven to be beyond the margin.
    baseline = _scored(cli, lambda scorer, index: 0.9 + 0.01 * index)
    candidate = _scored(cli, lambda scorer, index: 0.02 + 0.01 * index)
    assert cli("promote", baseline, "--anchor").code == 0
    return baseline, candidate, cli("gate", "baseline", "latest")


def test_a_regression_ends_with_1_and_is_not_promoted(cli: Cli, checkpoint: str) -> None:
    _, candidate, done = _drop(cli)
    assert done.code == 1, done
    assert "REGRESSION" in done.out
    report = (candidate / "report.md").read_text()
    assert report.startswith("# REGRESSION")
    assert "parity=even" in report
    refused = cli("promote", candidate)
    assert refused.code == 2
    assert "did not pass its gate" in refused.err
    assert cli("promote", candidate, "--force").code == 2
    forced = cli("promote", candidate, "--force", "--why", "agreed with the customer")
    assert forced.code == 0
    last = cli("baseline", "colours", "--json").json["history"][-1]
    assert (last["forced"], last["why"]) == (True, "agreed with the customer")


def test_the_verdict_as_json_stands_alone_on_stdout(cli: Cli, checkpoint: str) -> None:
    baseline, candidate, _ = _drop(cli)
    done = cli("gate", "baseline", candidate, "--json")
    assert done.code == 1
    assert done.json["outcome"] == "regression"
    assert done.json["baseline"] == baseline.name
    row = next(row for row in done.json["rows"] if row["cohort"] == "all")
    assert row["delta"] == pytest.approx(-0.88)


def test_the_anchor_catches_a_slow_drift(cli: Cli, checkpoint: str) -> None:
    Path("strict.yaml").write_text(
        "{margin: 0.5, anchor_margin: 0.01, min_examples: 4, "
        "constant: [equals, 'tests.fakes:length_scorer']}"
    )
    # Each step passes with the margin of 0.5: at 0.25 eight examples rule out no more than 0.48.
    means = [0.98, 0.8, 0.6, 0.45, 0.3, 0.1]
    for index, mean in enumerate(means):
        folder = _scored(cli, lambda scorer, i, mean=mean: mean + 0.001 * (i % 2))
        if index == 0:
            assert cli("promote", folder, "--anchor").code == 0
            continue
        code = cli("gate", "baseline", folder, "--policy", "strict.yaml").code
        # Of eight examples, the drop of 88 points is the first that is certain to be beyond 1.
        assert code == (1 if mean == means[-1] else 0), mean
        cli("promote", folder, "--force", "--why", "to go on")


def test_a_missing_score_never_passes(cli: Cli, checkpoint: str) -> None:
    baseline = _scored(cli, lambda scorer, index: 0.5)
    candidate = _scored(cli, lambda scorer, index: None if index == 3 else 0.9)
    assert cli("promote", baseline).code == 0
    done = cli("gate", "baseline", candidate)
    assert done.code == 3, done


def test_too_few_examples_cannot_pass(cli: Cli, checkpoint: str) -> None:
    first, second = (_scored(cli, lambda scorer, index: 0.5) for _ in range(2))
    assert cli("promote", first).code == 0
    Path("policy.yaml").write_text("{min_examples: 50}")
    done = cli("gate", "baseline", second, "--policy", "policy.yaml")
    assert done.code == 3, done


def test_a_critical_example_that_got_worse_is_a_regression(
    cli: Cli, config: Path, workspace: Path
) -> None:
    rows = rows_of(8)
    rows[2]["critical"] = True
    write_dataset(workspace / "datasets", version=2, evaluation=rows)
    done = cli("train", config, "-s", "dataset.version=colours@2", "-o", "checkpoints/a")
    assert done.code == 0
    baseline = _scored(cli, lambda scorer, index: 0.5)
    candidate = _scored(cli, lambda scorer, index: 0.3 if index == 2 else 0.6)
    assert cli("promote", baseline).code == 0
    done = cli("gate", "baseline", candidate)
    assert done.code == 1, done
    assert "e2" in done.out
    # Means move by 6 points when outputs are generated again: so an example may by 24 or more.
    path = candidate / "evaluation.json"
    header = json.loads(path.read_text())
    scorers = {name: {"n": 8, "means": None, "standard_error": 0.06} for name in header["scorers"]}
    header["noise"] = {
        "repeats": 2, "batch_sizes": [8, 4], "differing_outputs": [1], "scorers": scorers,
    }  # fmt: skip
    write_json(path, header)
    reseal(candidate)
    done = cli("gate", "baseline", candidate)
    assert done.code == 3, done
    assert "the critical example 'e2' fell" in " ".join(done.out.split())


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["-s", "eval.max_new_tokens=3"], "generation.max_new_tokens: 4 in the baseline, 3 in"),
        (["-s", "dataset.max_eval_examples=5"], "dataset.rows_digest: "),
        (["-s", "eval.precision=bf16"], "generation.precision: fp32 in the baseline, bf16 in"),
        (["-s", "dataset.eval_split=train"], "dataset.split: eval in the baseline, train in"),
        (
            ["-s", 'eval.scorers=[{name: "tests.fakes:length_scorer", options: {limit: 9}}]'],
            "scorers.tests.fakes:length_scorer.options: ",
        ),
    ],
)
def test_what_was_evaluated_otherwise_is_not_compared(
    arguments: list[str], field: str, cli: Cli, checkpoint: str
) -> None:
    assert cli("promote", _evaluate(cli)).code == 0
    done = cli("gate", "baseline", _evaluate(cli, *arguments))
    assert done.code == 3, done
    assert field in done.err


def test_another_dataset_version_is_not_compared(
    cli: Cli, checkpoint: str, workspace: Path
) -> None:
    write_dataset(workspace / "datasets", version=2, evaluation=rows_of(9))
    assert cli("promote", _evaluate(cli)).code == 0
    done = cli("gate", "baseline", _evaluate(cli, "--dataset", "colours@2"))
    assert done.code == 3
    assert "dataset.version: colours@1 in the baseline, colours@2 in the candidate" in done.err


def test_weights_that_are_not_the_manifests_are_refused(cli: Cli, checkpoint: str) -> None:
    path = Path(checkpoint, "model.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = cli("eval", checkpoint, "--no-gate")
    assert done.code == 2
    assert "the file does not match the manifest" in done.err


def test_a_changed_configuration_beside_the_weights_is_refused(cli: Cli, checkpoint: str) -> None:
    path = Path(checkpoint, "config.json")
    path.write_text(path.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 1'))
    done = cli("eval", checkpoint, "--no-gate")
    assert done.code == 2
    assert "config.json: the file does not match the manifest" in done.err


def test_a_folder_without_a_model_is_refused(cli: Cli, workspace: Path) -> None:
    done = cli("eval", ".")
    assert done.code == 2
    assert "this folder is neither a checkpoint nor a model" in done.err
    done = cli("eval", "nowhere")
    assert done.code == 2
    assert "nowhere: no such checkpoint folder" in done.err


def test_a_damaged_or_newer_record_is_named(cli: Cli, checkpoint: str) -> None:
    folder = _evaluate(cli)
    header = read_json(folder / "evaluation.json", kind="evaluation", schema=1)
    write_json(folder / "evaluation.json", {**header, "schema_version": 99})
    done = cli("promote", folder)
    assert done.code == 2
    assert "schema version 99" in done.err
    manifest = Path(checkpoint, "ftreg.json")
    manifest.write_text(manifest.read_text()[:100])
    done = cli("checkpoints", "show", checkpoint)
    assert done.code == 2
    assert "ftreg.json:" in done.err


def test_an_unknown_scorer_costs_no_generation(cli: Cli, checkpoint: str) -> None:
    done = cli("eval", checkpoint, "-s", "eval.scorers=[faithfullness]")
    assert done.code == 2
    assert "did you mean faithfulness?" in done.err
    assert not _evaluations()


def test_a_prompt_that_does_not_fit(cli: Cli, checkpoint: str) -> None:
    done = cli("eval", checkpoint, "-s", "eval.max_new_tokens=500")
    assert done.code == 2
    assert "does not fit into the model's context of 512" in done.err


def test_a_prompt_that_lacks_its_context(cli: Cli, checkpoint: str, workspace: Path) -> None:
    bare = [{"id": "bare", "input": "x"}]
    write_dataset(workspace / "datasets", version=2, evaluation=bare, cohorts=[])
    done = cli("eval", checkpoint, "--dataset", "colours@2")
    assert done.code == 2
    assert "example bare has no context" in done.err


def test_diff_names_what_two_recipes_differ_in(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    lion = "optimizer={name: lion, lr: 1e-4}"
    assert cli("train", config, "-s", lion, "-o", "checkpoints/b").code == 0
    done = cli("diff", "a", "b", "--json").json
    found = {row["setting"]: (row["first"], row["second"]) for row in done["differences"]}
    assert found["optimizer.name"] == ("adamw", "lion")
    assert found["optimizer.lr"] == (0.001, 0.0001)
    assert found["optimizer.betas"] == ([0.9, 0.999], [0.9, 0.99])
    assert not any(key.startswith(("base.", "dataset.", "versions.")) for key in found)
    assert not done["same_weights"]
    assert "optimizer.lr" in cli("diff", "a", "b").out
    same = cli("diff", "a", "a", "--json").json
    assert same == {"schema_version": 1, "same_weights": True, "differences": [], "base": None}
    assert cli("eval", "a", "--no-gate").code == 0
    assert cli("promote", "latest").code == 0
    cli("eval", "b")
    report = Path(cli("gate", "baseline", "latest", "--json").json["report"]).read_text()
    assert "| optimizer.name | adamw | lion |" in report


def test_power_says_how_many_examples_a_margin_needs(cli: Cli, checkpoint: str) -> None:
    baseline = _scored(cli, lambda scorer, index: 0.5)
    candidate = _scored(cli, lambda scorer, index: 0.4 if index % 2 else 0.6)
    refused = cli("power", candidate)
    assert refused.code == 3
    assert "has not been gated" in refused.err
    assert cli("promote", baseline).code == 0
    cli("gate", "baseline", candidate)
    wide, narrow = (
        cli("power", candidate, "--margin", margin, "--json").json["scorers"][0]
        for margin in (0.012, 0.006)
    )
    # (1.96 + 0.84)^2 spread^2 / margin^2, with deltas of +-0.1
    assert wide["have"] == 8
    assert 0.1 <= wide["spread"] <= 0.11
    expected = (1.95996 + 0.84162) ** 2 * wide["spread"] ** 2 / 0.012**2
    # The gate's own tests on samples that are drawn, where the formula has a normal curve.
    assert wide["need"] == pytest.approx(expected, rel=0.2)
    assert wide["need_range"][0] <= wide["need"] <= wide["need_range"][1]
    assert narrow["need"] == pytest.approx(4 * expected, rel=0.2)
    # A drop of 0.024, made by a share of examples that fall by (1 + 0.1) / 2, beyond 0.012 with
    # errors of 5 % on both sides: (1.645 + 1.645)^2 variance / margin^2.
    share = 0.024 / 0.55
    variance = (1 - share) * wide["spread"] ** 2 + share * 0.55**2 - 0.024**2
    assert wide["need_to_find"] == pytest.approx(3.29**2 * variance / 0.012**2, rel=0.2)


def test_score_takes_outputs_made_elsewhere(cli: Cli, workspace: Path) -> None:
    Path("outputs.jsonl").write_text(
        '{"id": "a", "input": "q", "output": "The Red.", "reference": ["red", "crimson"]}\n'
        '{"id": "b", "input": "q", "output": "blue", "reference": "red", "more": 1}\n'
        '{"id": "c", "input": "q", "output": "blue"}\n'
    )
    done = cli("score", "outputs.jsonl", "--scorer", "equals", "-o", "scores.jsonl")
    assert done.code == 0, done
    rows = [json.loads(line) for line in Path("scores.jsonl").read_text().splitlines()]
    assert [row["score"] for row in rows] == [1.0, 0.0, None]
    assert rows[2]["reason"]
    Path("broken.jsonl").write_text('{"id": "a", "output": "x"}\n{"id": "a", "output": "x"}\n')
    done = cli("score", "broken.jsonl", "--scorer", "equals")
    assert done.code == 2
    assert "broken.jsonl:2: duplicate id 'a'" in done.err


def test_checkpoints_list_and_show(cli: Cli, checkpoint: str) -> None:
    listed = cli("checkpoints", "list", "--json").json["checkpoints"]
    assert [(row["name"], row["optimizer"]) for row in listed] == [("a", "adamw")]
    assert cli("checkpoints", "show", "a").json["optimizer"]["name"] == "adamw"


def test_a_checkpoint_of_a_checkpoint_knows_its_parent(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    assert cli("train", config, "-s", "base.model=checkpoints/a", "-o", "checkpoints/b").code == 0
    first, second = (cli("checkpoints", "show", name).json for name in ("a", "b"))
    assert second["parent"] == first["identity"]
    assert second["base"]["digest"] == first["weights"]["digest"]


def test_a_fault_of_ours_is_neither_a_verdict_nor_a_usage_error(
    cli: Cli, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftreg.jobs.evaluate_and_gate.evaluate", lambda *a, **k: 1 / 0)
    done = cli("eval", checkpoint)
    assert done.code == 70
    assert "this is a bug in ftreg" in done.err


def test_what_is_stored_is_shown_whatever_becomes_of_the_gate(
    cli: Cli, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftreg.jobs.evaluate_and_gate.gate_and_report", lambda *a, **k: 1 / 0)
    done = cli("eval", checkpoint)
    assert done.code == 70
    (folder,) = _evaluations()
    assert "equals" in done.out and done.out.endswith(f"\n{folder}\n")
    assert cli("eval", checkpoint, "--json").out == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_interrupted_before_the_first_step_it_ends_with_130(config: Path, number: int) -> None:
    command = [sys.executable, "-m", "ftreg", "train", str(config), "-o", "checkpoints/a"]
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [*command, "-s", "train.epochs=100000"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # below nohup it is ignored
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("starting"):
            break
    time.sleep(0.2)
    process.send_signal(number)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert not Path("checkpoints").exists() or not list(Path("checkpoints").iterdir())


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_that_goes_away_is_not_a_regression(
    form: list[str], cli: Cli, workspace: Path
) -> None:
    write_dataset(workspace / "sample_datasets")
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-m", "ftreg", "data", "show", "colours@1", *form],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE


def _gated(cli: Cli, *, value: float = 0.95) -> tuple[Path, Path]:
    """A promoted baseline, and a candidate with about these scores that has not been gated."""
    baseline = _scored(cli, lambda scorer, index: 0.95 + 0.01 * (index % 2))
    candidate = _scored(cli, lambda scorer, index: value + 0.01 * (index % 2))
    assert cli("promote", baseline, "--anchor").code == 0
    return baseline, candidate


def test_a_ci_reads_the_verdict(
    cli: Cli, checkpoint: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline, candidate = _gated(cli, value=0.0)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(workspace / "summary.md"))
    Path("summary.md").write_text("an earlier step\n")
    Path("strict.yaml").write_text("margin: 0.03")
    strict = ("--policy", "strict.yaml")
    done = cli("gate", "baseline", candidate, *strict, "--junit", "verdict.xml", "--json")
    assert done.code == 1
    assert done.json["outcome"] == "regression"  # stdout holds the JSON alone
    assert "title=ftreg gate%3A regression::equals: the mean dropped by" in done.err
    summary = Path("summary.md").read_text()
    assert summary.startswith("an earlier step\n# REGRESSION")
    (suite,) = ElementTree.parse("verdict.xml").getroot()
    cases = {(case.get("classname"), case.get("name")): case for case in suite}
    assert cases["equals", "all"].find("failure") is not None
    assert ("equals", "parity=odd") in cases
    assert len(cases) == len(done.json["rows"])
    failed = sum(case.find("failure") is not None for case in suite)
    assert suite.get("failures") == str(failed)

    assert cli("gate", baseline, baseline, "--junit", "same.xml").code == 0
    (suite,) = ElementTree.parse("same.xml").getroot()
    assert suite.get("failures") == "0"


def _train_on_cohort(cli: Cli, config: Path, workspace: Path, name: str) -> None:
    """Train on a dataset version all of whose rows to evaluate are in one cohort."""
    rows = rows_of(8)
    for row in rows:
        row["tags"]["parity"] = name
    write_dataset(workspace / "datasets", version=2, evaluation=rows)
    done = cli("train", config, "-s", "dataset.version=colours@2", "-o", "checkpoints/a")
    assert done.code == 0, done


def test_junit_survives_names_that_xml_cannot_hold(cli: Cli, config: Path, workspace: Path) -> None:
    _train_on_cohort(cli, config, workspace, "<a&\x00\ufffe>")
    _, candidate = _gated(cli)
    assert cli("gate", "baseline", candidate, "--junit", "verdict.xml").code == 0
    (suite,) = ElementTree.parse("verdict.xml").getroot()
    assert "parity=<a&⌈U+0000⌋⌈U+FFFE⌋>" in {case.get("name") for case in suite}


def test_promote_wants_the_baselines_own_policy(cli: Cli, checkpoint: str) -> None:
    _, candidate = _gated(cli, value=0.1)
    Path("lax.yaml").write_text("{margin: 1, anchor_margin: 1, min_examples: 1}")
    assert cli("gate", "baseline", candidate, "--policy", "lax.yaml").code == 0
    refused = cli("promote", candidate)
    assert refused.code == 2
    assert "looser policy than the baseline's (margin 1, was 0.35; anchor_margin" in refused.err


def test_promote_wants_the_scores_that_were_gated(cli: Cli, checkpoint: str) -> None:
    _, candidate = _gated(cli)
    assert cli("gate", "baseline", candidate).code == 0
    _rewrite_scores(candidate, lambda row: {**row, "score": 0.0})
    refused = cli("promote", candidate)
    assert refused.code == 2
    assert "has changed scores since it was gated" in refused.err


def test_promote_wants_the_anchor_to_have_been_asked(cli: Cli, checkpoint: str) -> None:
    baseline, candidate = _gated(cli)
    assert cli("gate", baseline, candidate).code == 0  # an evaluation by name has no anchor
    refused = cli("promote", candidate)
    assert refused.code == 2
    assert "and the anchor None" in refused.err


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("evaluation.json", {"schema_version": 1}),
        ("evaluation.json", {"schema_version": 1, "id": "x", "created": "y", "policy": []}),
        ("scores.jsonl", {"id": "e0", "scorer": "equals", "score": "0.5"}),
        ("scores.jsonl", {"id": "e0", "scorer": "equals", "score": True}),
        ("scores.jsonl", {"id": "e0"}),
        ("outputs.jsonl", {"id": "e0", "cohorts": [1], "cluster": None, "critical": False}),
        ("gate.json", {"schema_version": 1}),
    ],
)
def test_a_record_of_the_wrong_shape_is_named(
    file: str, content: dict[str, Any], cli: Cli, checkpoint: str
) -> None:
    _, candidate = _gated(cli)
    assert cli("gate", "baseline", candidate).code == 0
    (candidate / file).write_text(json.dumps(content) + "\n")
    if file.endswith(".jsonl"):
        reseal(candidate)
    done = cli("promote", candidate)
    assert done.code == 2, done
    assert file in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "content",
    [{"schema_version": 1}, {"schema_version": 1, "baseline": {"header": {}, "scores": {}}}, []],
)
def test_a_damaged_baseline_is_named(content: Any, cli: Cli, checkpoint: str) -> None:
    _, candidate = _gated(cli)
    Path("baselines/colours.json").write_text(json.dumps(content))
    for command in (
        ["gate", "baseline", candidate],
        ["promote", candidate],
        ["baseline", "colours"],
    ):
        done = cli(*command)
        assert done.code == 2, done
        assert "baselines/colours.json: " in done.err


def test_a_scorer_that_fails_is_named_and_costs_no_outputs(cli: Cli, checkpoint: str) -> None:
    scorers = 'eval.scorers=[equals, {name: "tests.fakes:broken_scorer"}]'
    done = cli("eval", checkpoint, "--no-gate", "-s", scorers)
    assert done.code == 2, done
    assert "tests.fakes:broken_scorer failed on the row 'e0': RuntimeError: out of" in done.err
    assert "Traceback" not in done.err
    assert "in score\n" in cli("eval", checkpoint, "--no-gate", "-s", scorers, "--debug").err
    assert not _evaluations()
    done = cli("eval", checkpoint, "--no-gate")
    assert "8 of 8 outputs taken from an earlier run" in done.err


def test_cohort_names_are_no_markup(cli: Cli, config: Path, workspace: Path) -> None:
    _train_on_cohort(cli, config, workspace, "[/b]list[int]")
    _, candidate = _gated(cli)
    done = cli("gate", "baseline", candidate)
    assert done.code == 0, done
    assert "parity=[/b]list[int]" in done.out
    assert cli("promote", candidate, "--force", "--why", "see [/y]").code == 0
    assert "see [/y]" in cli("baseline", "colours").out


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ({"cluster": "grp"}, "which the row 'e0' does not have; did you mean group?"),
        ({"cohorts": ["paritty"]}, "'paritty', which no row has; did you mean parity?"),
    ],
)
def test_a_tag_that_the_rows_lack_is_not_passed_over(
    card: dict[str, Any], expected: str, cli: Cli, checkpoint: str, workspace: Path
) -> None:
    write_dataset(workspace / "datasets", version=2, **card)
    done = cli("eval", checkpoint, "--dataset", "colours@2")
    assert done.code == 2
    assert expected in done.err
    assert not _evaluations()


def test_rows_to_train_on_need_no_tags(cli: Cli, config: Path, workspace: Path) -> None:
    rows = [
        {key: row[key] for key in ("id", "input", "context", "reference")} for row in rows_of(9)
    ]
    write_dataset(workspace / "datasets", version=2, train=rows, cluster="group")
    assert cli("train", config, "-s", "dataset.version=colours@2", "-o", "checkpoints/a").code == 0
    assert cli("eval", "checkpoints/a", "--no-gate").code == 0


def test_an_existing_file_of_scores_is_not_overwritten(cli: Cli, workspace: Path) -> None:
    text = '{"id": "a", "output": "x", "reference": "x"}\n'
    Path("in.jsonl").write_text(text)
    done = cli("score", "in.jsonl", "--scorer", "equals", "-o", "in.jsonl")
    assert done.code == 2
    assert Path("in.jsonl").read_text() == text


@pytest.mark.parametrize("reference", ["0", "5", "false", "{}", "[0]"])
def test_a_reference_that_is_no_text_is_refused(reference: str, cli: Cli, workspace: Path) -> None:
    Path("in.jsonl").write_text(f'{{"id": "a", "output": "0", "reference": {reference}}}\n')
    done = cli("score", "in.jsonl", "--scorer", "equals")
    assert done.code == 2, done
    assert "in.jsonl:1: 'reference' must be a string or a list of strings" in done.err


def test_where_nothing_could_be_scored_score_ends_with_2(cli: Cli, workspace: Path) -> None:
    without = '{"id": "a", "output": "x"}\n{"id": "b", "output": "x", "reference": []}\n'
    Path("in.jsonl").write_text(without)
    for given in (["-o", "scores.jsonl"], ["--json"]):
        done = cli("score", "in.jsonl", "--scorer", "equals", *given)
        assert done.code == 2, done
        assert "in.jsonl: nothing could be scored" in done.err
        assert "equals: no reference" in done.err
    assert len(Path("scores.jsonl").read_text().splitlines()) == 2
    Path("in.jsonl").write_text(without + '{"id": "c", "output": "x", "reference": "x"}\n')
    assert cli("score", "in.jsonl", "--scorer", "equals").code == 0


@pytest.mark.parametrize(
    "choice",
    [("-s", "eval.scorers=[equals]"), ("--scorer", "equals"), ("--config", "equals.yaml")],
)
def test_a_margin_of_a_scorer_that_is_left_out_is_no_dead_end(
    choice: tuple[str, str], cli: Cli, config: Path
) -> None:
    margins = 'gate.margins={"tests.fakes:length_scorer": 0.1, equals: 0.2}'
    assert cli("train", config, "-s", margins, "-o", "checkpoints/a").code == 0
    Path("equals.yaml").write_text("eval: {scorers: [equals]}\n")
    done = cli("eval", "a", "--no-gate", *choice)
    assert done.code == 0, done
    assert "gate.margins.tests.fakes:length_scorer is left out" in done.err
    (folder,) = _evaluations()
    header = json.loads((folder / "evaluation.json").read_text())
    assert (set(header["scorers"]), header["policy"]["margins"]) == ({"equals"}, {"equals": 0.2})


def test_mistakes_in_scorers_are_seen_before_anything_runs(cli: Cli, checkpoint: str) -> None:
    for change, expected in (
        ("eval.scorers=[equals, equals]", "equals is a duplicate scorer"),
        ("gate.margins={eqals: 0.1}", "gate.margins names the scorer eqals"),
        ("eval.scorers=[{name: equals, options: {backend: x}}]", "does not belong into options"),
        ('eval.scorers=["tests.fakes:nothing"]', "has no 'nothing'"),
        ('eval.scorers=["builtins:dict"]', "is not a scorer"),
        ('eval.scorers=["collections:OrderedDict"]', "is not a scorer"),
        ('eval.scorers=["tests.fakes:LengthScorer"]', "needs the option 'limit'"),
        ('eval.scorers=["fractions:Fraction"]', "has no score()"),
    ):
        done = cli("eval", checkpoint, "-s", change)
        assert done.code == 2, done
        assert expected in done.err
    done = cli("eval", checkpoint, "-s", "optimizer.lr=7")
    assert done.code == 2
    assert "cannot be changed after training" in done.err
    assert cli("eval", checkpoint, "--against", "nowhere").code == 2
    assert not _evaluations()


def test_a_signal_that_a_library_swallows_ends_the_run_all_the_same(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is imported here swallows KeyboardInterrupt, as some libraries' callbacks do."""
    Path("greedy.py").write_text(
        "import os, signal\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    signal.pause()\n"
        "except KeyboardInterrupt:\n"
        "    pass\n"
        "from torch.optim import SGD as Custom\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    custom = "optimizer={name: custom, path: greedy:Custom, lr: 1e-3}"
    done = cli("train", config, "-o", "checkpoints/a", "-s", custom)
    assert done.code == 130, done
    assert "interrupted" in done.err
    assert not Path("checkpoints/a").exists()
