"""Experiment trackers: a real MLflow server, TensorBoard's files, and their failures."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from mlflow import MlflowClient
from mlflow.entities import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ftreg.config.load import load_config
from ftreg.training.events import StepRecord
from ftreg.training.trackers import start_trackers, tracker_settings
from tests.conftest import Cli
from tests.mlflow_server import NOBODY, only_run, use_mlflow

METRICS = ("loss", "lr", "grad_norm", "step_size", "tokens", "tokens_per_second")
MLFLOW = ("-s", "train.report_to=[mlflow]")
TENSORBOARD = ("-s", "train.report_to=[tensorboard]")


@pytest.fixture
def server(mlflow_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    return use_mlflow(mlflow_address, monkeypatch)


def history(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "history.jsonl").read_text().splitlines()]


def curve(client: MlflowClient, run: Run, key: str) -> dict[int, float]:
    points = client.get_metric_history(run.info.run_id, key)
    assert len({point.step for point in points}) == len(points)
    return {point.step: point.value for point in points}


@pytest.mark.slow
def test_mlflow_has_the_whole_run(cli: Cli, config: Path, server: str, workspace: Path) -> None:
    done = cli("train", config, *MLFLOW, "-o", "checkpoints/good", "--json")
    assert done.code == 0, done
    manifest = done.json  # what mlflow prints has not come between
    client = MlflowClient(server)
    run = only_run(client, "good")
    assert run.info.status == "FINISHED"
    rows = history("checkpoints/good")
    assert len(rows) == 3
    for key in METRICS:
        expected = {row["step"]: row[key] for row in rows}
        assert curve(client, run, key) == pytest.approx(expected)
    params = run.data.params
    assert params["optimizer.lr"] == "0.001"
    assert params["train.batch_size"] == "4"
    assert not any(str(workspace) in value for value in params.values())
    assert run.data.tags["dataset"] == "colours@1"
    assert run.data.tags["dataset.digest"] == manifest["dataset"]["digest"]
    assert run.data.tags["optimizer"] == "adamw"
    assert run.data.tags["checkpoint.identity"] == manifest["identity"]
    assert run.data.tags["checkpoint.weights"] == manifest["weights"]["digest"]

    broken = ["-s", "optimizer={name: sgd, lr: 1e38}", "-s", "train.max_grad_norm=null"]
    done = cli("train", config, *MLFLOW, *broken, "-s", "train.epochs=5", "-o", "checkpoints/bad")
    assert done.code == 1, done
    run = only_run(client, "bad")
    assert run.info.status == "FAILED"
    assert "training diverged at step" in run.data.tags["failure"]
    assert "checkpoint.identity" not in run.data.tags


def test_a_resumed_run_goes_on_in_its_mlflow_run(
    cli: Cli, config: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: object, record: StepRecord) -> None:
        if record.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    arguments = ["train", config, *MLFLOW, "-s", "train.epochs=2", "-o", "checkpoints/a"]
    with monkeypatch.context() as patch:
        patch.setattr("ftreg.cli.shared.progress.Bars.step", interrupt)
        assert cli(*arguments).code == 130
    client = MlflowClient(server)
    first = only_run(client, "a")
    assert first.info.status == "FAILED"
    assert "SIGTERM" in first.data.tags["failure"]

    assert cli(*arguments, "--resume").code == 0
    run = only_run(client, "a")
    assert run.info.run_id == first.info.run_id
    assert run.info.status == "FINISHED"
    assert list(curve(client, run, "loss")) == [1, 2, 3, 4, 5, 6]


def record_of(step: int) -> StepRecord:
    return StepRecord(
        step=step, loss=1.0, lr=1e-3, grad_norm=1.0, step_size=1e-4,
        examples=step, tokens=step, loss_tokens=step, tokens_per_second=1.0,
    )  # fmt: skip


def test_a_server_that_goes_away_is_dropped_with_one_notice(
    config: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_config(config, overrides=["train.report_to=[mlflow, tensorboard]"])
    accelerator = Accelerator(cpu=True, **tracker_settings(settings))
    notices: list[str] = []
    trackers = start_trackers(accelerator, settings, Path("lost"), {}, notice=notices.append)
    trackers.step(record_of(1))
    assert not notices
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    trackers.step(record_of(2))
    trackers.step(record_of(3))
    trackers.fail("over")
    (notice,) = notices
    assert notice.startswith("train.report_to: mlflow failed at step 2 and is not updated")
    assert [event.step for event in scalars(Path("trackers/tensorboard/lost"))] == [1, 2, 3]
    client = MlflowClient(server)
    assert list(curve(client, only_run(client, "lost"), "loss")) == [1]


def test_an_mlflow_server_that_does_not_answer_ends_with_2_before_training(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY.replace("//", "//me:secret@"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = cli("train", config, *MLFLOW, "-o", "checkpoints/a")
    assert done.code == 2, done
    assert "train.report_to: mlflow cannot be started: " in done.err
    assert "MLFLOW_TRACKING_URI" in done.err
    assert "secret" not in done.err
    assert "loss" not in done.err
    assert not list(Path("checkpoints").glob("*"))


def scalars(folder: Path, key: str = "loss") -> list[Any]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events.Scalars(key)


def test_tensorboard_has_every_step_and_the_checkpoint(cli: Cli, config: Path) -> None:
    done = cli("train", config, *TENSORBOARD, "-o", "checkpoints/a", "--json")
    assert done.code == 0, done
    folder = Path("trackers/tensorboard/a")
    for key in METRICS:
        seen = {event.step: event.value for event in scalars(folder, key)}
        expected = {row["step"]: row[key] for row in history("checkpoints/a")}
        assert seen == pytest.approx(expected, rel=1e-6)
    events = EventAccumulator(str(folder))
    events.Reload()
    (text,) = events.Tensors("run/checkpoint.identity/text_summary")
    assert text.tensor_proto.string_val == [done.json["identity"].encode()]
    assert not [path for path in Path("checkpoints/a").iterdir() if "events" in path.name]


def test_local_files_go_to_the_workspace(
    cli: Cli, config: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTREG_WORKSPACE", str(workspace / "elsewhere"))
    assert cli("train", config, *TENSORBOARD, "-o", "a").code == 0
    assert len(scalars(workspace / "elsewhere/trackers/tensorboard/a")) == 3
    assert not Path("trackers").exists()


def test_a_tracker_that_fails_during_the_run_does_not_end_it(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.tracking import TensorBoardTracker

    log: Callable[..., None] = TensorBoardTracker.log

    def full(self: Any, values: dict[str, Any], step: int | None = None) -> None:
        if step == 2:
            raise OSError(28, "No space left on device")
        log(self, values, step=step)

    monkeypatch.setattr(TensorBoardTracker, "log", full)
    done = cli("train", config, *TENSORBOARD, "-o", "checkpoints/a")
    assert done.code == 0, done
    assert done.err.count("train.report_to: tensorboard failed at step 2") == 1
    assert "No space left on device" in done.err
    assert Path("checkpoints/a/ftreg.json").is_file()


@pytest.mark.parametrize("name", ["mlflow", "tensorboard", "trackio", "wandb"])
def test_a_missing_package_ends_with_2_before_training(
    name: str, cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (name, "tensorboardX"):
        monkeypatch.setitem(sys.modules, module, None)
    done = cli("train", config, "-s", f"train.report_to=[{name}]", "-o", "checkpoints/a")
    assert done.code == 2, done
    package = "mlflow-skinny" if name == "mlflow" else name
    expected = f"train.report_to: {name} is not installed: pip install {package}"
    assert expected in done.err
    assert "loading the base model" not in done.err
    assert not list(Path("checkpoints").glob("*"))
