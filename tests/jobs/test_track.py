"""An evaluation in the MLflow run that trained its checkpoint, on a real server."""

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from ftreg.records.evaluation.stored import read_evaluation
from ftreg.records.samples import over_seeds
from ftreg.report.metrics import metrics_of
from tests.conftest import Cli, rows_of, write_dataset
from tests.jobs.test_printed import TRACKING, Story
from tests.mlflow_server import NOBODY, only_run, use_mlflow

TRAIN = ("-s", "train.report_to=[mlflow]")
EVAL = ("-s", "eval.report_to=[mlflow]")


@pytest.fixture
def client(mlflow_address: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    return MlflowClient(use_mlflow(mlflow_address, monkeypatch))


def artifact(client: MlflowClient, run: Run, path: str) -> bytes:
    address = f"{client.tracking_uri}/get-artifact?run_uuid={run.info.run_id}&path={path}"
    with urllib.request.urlopen(address) as answer:
        return bytes(answer.read())


def manifest_of(folder: str) -> dict[str, Any]:
    return dict(json.loads(Path(folder, "ftreg.json").read_text()))


def newest() -> Path:
    return max(Path("evaluations").iterdir(), key=lambda folder: folder.name[-22:])


def test_an_evaluation_goes_to_the_run_that_trained_the_checkpoint(
    cli: Cli, talking_config: Path, client: MlflowClient
) -> None:
    done = cli("train", talking_config, *TRAIN, "-o", "checkpoints/trained", "--json")
    assert done.code == 0, done
    run = only_run(client, "trained")
    assert done.json["trackers"] == {"mlflow": {"run": run.info.run_id, "experiment": "ftreg"}}
    assert str(client.tracking_uri) not in Path("checkpoints/trained/ftreg.json").read_text()
    assert cli("eval", "trained", *EVAL, "--bootstrap").code == 0
    assert cli("promote", "latest").code == 0
    run = only_run(client, "trained")
    assert run.data.tags["eval.gate"] == "none"
    assert "eval/colours-1/equals/delta" not in run.data.metrics

    done = cli("eval", "trained", *EVAL, "-s", "gate.margin=0.03")
    assert done.code == 3, done  # eight binary scores decide nothing
    assert f"mlflow: run trained, {run.info.run_id}" in done.err
    evaluation = read_evaluation(newest())
    run = only_run(client, "trained")  # still the only one of that name
    assert run.info.status == "FINISHED"
    assert run.data.tags["eval.id"] == evaluation.id
    assert run.data.tags["eval.gate"] == "undecided"
    assert run.data.tags["eval.gate.baseline"] != evaluation.id
    assert run.data.tags["eval.gate.reasons"].startswith("equals")
    assert run.data.tags["dataset"] == "colours@1"  # of the training, as before

    metrics = run.data.metrics
    last = max(point.step for point in client.get_metric_history(run.info.run_id, "lr"))
    for scorer, column in evaluation.scores.items():
        (place,) = {
            key.removesuffix("/mean")
            for key in metrics
            if key.startswith(f"eval/colours-1/{scorer.replace(':', '_')}")
            if key.count("/") == 3 and key.endswith("/mean")
        }
        values = [over_seeds(cell) for cell in column.values()]
        present = [value for value in values if value is not None]
        assert metrics[f"{place}/mean"] == pytest.approx(sum(present) / len(present))
        assert metrics[f"{place}/n"] == len(present)
        assert metrics[f"{place}/missing"] == 8 - len(present)
        assert metrics[f"{place}/delta"] == metrics[f"{place}/parity/odd/delta"] == 0
        odd = [column[name] for name, tags in evaluation.cohorts.items() if tags["parity"] == "odd"]
        scored = [cell for cell in odd if isinstance(cell, float)]
        assert metrics[f"{place}/parity/odd/mean"] == pytest.approx(sum(scored) / len(scored))
        assert metrics[f"{place}/parity/odd/n"] == len(scored)
        points = client.get_metric_history(run.info.run_id, f"{place}/mean")
        assert {point.step for point in points} == {last}

    folder = f"evaluations/{evaluation.id}"
    for name in ("report.html", "evaluation.json", "gate.json"):
        assert artifact(client, run, f"{folder}/{name}") == (evaluation.folder / name).read_bytes()
    # Both evaluations had the same input, which MLflow keeps once.
    (logged,) = run.inputs.dataset_inputs
    assert logged.dataset.name == "colours@1"
    assert evaluation.header["dataset"]["digest"].startswith(logged.dataset.digest)
    assert json.loads(logged.dataset.source) == {"uri": "datasets/colours/v1"}
    assert {tag.key: tag.value for tag in logged.tags} == {"mlflow.data.context": "evaluation"}
    assert run.data.tags["eval.dataset.digest"] == evaluation.header["dataset"]["digest"]


def test_without_a_training_run_there_is_one_run_for_the_checkpoint(
    cli: Cli, config: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Equal recipes make the same checkpoint, which would be found under its first name.
    assert cli("train", config, "-s", "train.seed=4", "-o", "checkpoints/alone").code == 0
    done = cli("eval", "alone", "--no-gate")
    assert done.code == 0 and "mlflow" not in done.err
    printed = Story(cli)
    told = printed("track", "latest", fits="tracking")
    printed.end(TRACKING)
    run = only_run(client, "alone")
    assert told == {
        "schema_version": 1,
        "evaluation": newest().name,
        "tracker": "mlflow",
        "run": run.info.run_id,
        "name": "alone",
        "where": os.environ["MLFLOW_TRACKING_URI"],
        "new": True,
    }
    manifest = manifest_of("checkpoints/alone")
    assert run.info.status == "FINISHED"
    assert run.data.tags["checkpoint.identity"] == manifest["identity"]
    assert run.data.tags["checkpoint.weights"] == manifest["weights"]["digest"]
    # A later evaluation finds it by that tag: here one that fails the gate, and says so.
    assert cli("promote", "latest", "--force", "--why", "first").code == 0
    done = cli("eval", "alone", *EVAL, "-s", "gate.min_examples=100", "--no-report")
    assert done.code == 3, done
    run = only_run(client, "alone")
    assert run.data.tags["eval.gate"] == "undecided"
    assert run.data.tags["eval.gate.reasons"]
    names = {item.path for item in client.list_artifacts(run.info.run_id, _folder())}
    assert names == {f"{_folder()}/evaluation.json", f"{_folder()}/gate.json"}
    # A server that does not know the run of the manifest gets a new one.
    found = read_evaluation(newest()).header
    found["checkpoint"]["trackers"] = {"mlflow": {"run": "0" * 32, "experiment": "ftreg"}}
    (newest() / "evaluation.json").write_text(json.dumps(found))
    client.delete_run(run.info.run_id)
    done = cli("track", newest())
    assert done.code == 0, done
    assert "a new one" in done.out
    assert only_run(client, "alone").info.run_id != run.info.run_id


def _folder() -> str:
    return f"evaluations/{newest().name}"


@pytest.mark.slow
def test_replicas_share_a_run_of_their_group(cli: Cli, config: Path, client: MlflowClient) -> None:
    assert cli("train", config, "-s", "train.seeds=[1, 2]", *TRAIN, "-o", "checkpoints/g").code == 0
    done = cli("eval", "g", "--no-gate", *EVAL)
    assert done.code == 0, done
    run = only_run(client, "g")
    members = [manifest_of(f"checkpoints/g/seed-{seed}") for seed in (1, 2)]
    expected = ", ".join(member["identity"] for member in members)
    assert run.data.tags["checkpoint.replicas"] == expected
    evaluation = read_evaluation(newest())
    mean = evaluation.header["summary"]["equals"]["mean"]
    assert run.data.metrics["eval/colours-1/equals/mean"] == pytest.approx(mean)


def test_a_server_that_does_not_answer_ends_with_2_before_anything_is_generated(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    use_mlflow(NOBODY.replace("//", "//me:secret@"), monkeypatch)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = cli("eval", "a", *EVAL)
    assert done.code == 2, done
    assert "eval.report_to: mlflow cannot log the evaluation: " in done.err
    assert "MLFLOW_TRACKING_URI" in done.err
    assert "secret" not in done.err
    assert not Path("evaluations").exists()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    done = cli("eval", "a", *EVAL)
    assert done.code == 2, done
    assert "mlflow is not installed: pip install mlflow-skinny" in done.err


def test_a_server_that_goes_away_costs_neither_evaluation_nor_verdict(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch, client: MlflowClient
) -> None:
    assert cli("train", config, "-s", "train.seed=5", "-o", "checkpoints/unheard").code == 0
    assert cli("eval", "unheard", "--no-gate").code == 0
    assert cli("promote", "latest", "--force", "--why", "first").code == 0
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def gone(asked_by: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)

    monkeypatch.setattr("ftreg.jobs.evaluate_and_gate.check_mlflow", gone)
    done = cli("eval", "unheard", *EVAL, "--json")
    assert done.code == 3, done
    assert done.json["outcome"] == "undecided"
    assert done.err.count("mlflow cannot log the evaluation") == 1
    assert f"`ftreg track {newest().name}` logs it" in done.err
    done = cli("track", "latest")
    assert done.code == 2, done
    assert "ftreg track: mlflow cannot log" in done.err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    assert cli("track", "latest").code == 0
    assert only_run(client, "unheard").data.tags["eval.gate"] == "undecided"


@pytest.mark.slow
def test_names_of_metrics_are_allowed_and_stay_apart(
    cli: Cli, config: Path, client: MlflowClient
) -> None:
    odd = ["a/b", "a:b", "a b", "..", "é", "x" * 300, "ü", "a=b"]
    rows = [{**row, "tags": {"parity": value}} for row, value in zip(rows_of(8), odd, strict=True)]
    write_dataset(Path("datasets"), version=2, evaluation=rows)
    assert cli("train", config, "-s", "train.seed=6", "-o", "checkpoints/names").code == 0
    done = cli("eval", "names", "--dataset", "colours@2", "--no-gate", *EVAL)
    assert done.code == 0 and "note: eval.report_to" not in done.err, done
    evaluation = read_evaluation(newest())
    expected = metrics_of(evaluation, None)
    cohorts = [key for key in expected if "/equals/parity/" in key and key.endswith("/n")]
    assert len(cohorts) == len(odd)
    assert all(expected[key] == 1 for key in cohorts)
    assert only_run(client, "names").data.metrics == expected
