"""Interrupted training: saved states, `--resume`, and what it refuses."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from ftreg.config import optimizer as registered
from ftreg.config.load import load_config
from ftreg.errors import InterruptedRunError, UsageError
from ftreg.files.store import write_record
from ftreg.training.events import Silent, StepRecord
from ftreg.training.health import LossSpikes
from ftreg.training.run import train
from tests.conftest import Cli, make_model

STATE = Path("a.state")
OPTIMIZERS = {
    "adafactor": "{name: adafactor, lr: 1e-2, weight_decay: 0.1}",
    "adagrad": "{name: adagrad, lr: 1e-2}",
    "adam": "{name: adam, lr: 1e-3, weight_decay: 0.1, amsgrad: true}",
    "adamw": "{name: adamw, lr: 1e-3}",
    "lion": "{name: lion, lr: 1e-4, weight_decay: 0.1}",
    "muon": "{name: muon, lr: 1e-2, adamw_lr: 1e-3}",
    "sgd": "{name: sgd, lr: 1e-1, momentum: 0.9}",
    "rmsprop": "{name: rmsprop, lr: 1e-3, momentum: 0.9, centered: true}",
    "custom": "{name: custom, path: 'torch.optim:NAdam', lr: 1e-3}",
    # Their mode and the weights of their average are in the groups, their weights of two kinds.
    "schedule_free_adamw": "{name: schedule_free_adamw, lr: 1e-2, weight_decay: 0.1}",
    "modes": "{name: custom, path: 'tests.fakes:Averaging', lr: 1e-1}",
    # It keeps its counters and its estimate of the step in the parameter groups.
    "prodigy": "{name: custom, path: 'pytorch_optimizer:Prodigy', lr: 1.0}",
}

QUICK = ("adamw", "lion", "muon", "schedule_free_adamw")


def test_every_optimizer_is_tested_here() -> None:
    assert set(registered.OPTIMIZERS) - set(OPTIMIZERS) == set()


class Interrupting(Silent):
    """Sends this process a signal after a step, as a scheduler would."""

    def __init__(self, after: int, number: int = signal.SIGTERM) -> None:
        self.after, self.number = after, number
        self.notices: list[str] = []

    def step(self, record: StepRecord) -> None:
        if record.step == self.after:
            os.kill(os.getpid(), self.number)

    def notice(self, text: str) -> None:
        self.notices.append(text)


def interrupt(config: Path, *overrides: str, after: int = 2) -> Interrupting:
    """Train into `a` until the signal ends it."""
    events = Interrupting(after)
    with pytest.raises(InterruptedRunError):
        train(load_config(config, overrides=overrides), output=Path("a"), events=events)
    return events


def manifest(folder: str) -> Any:
    return json.loads(Path(folder, "ftreg.json").read_text())


@pytest.mark.parametrize(
    ("optimizer", "lora"),
    [
        *((name, False) for name in QUICK),
        *(
            pytest.param(name, False, marks=pytest.mark.slow)
            for name in OPTIMIZERS
            if name not in QUICK
        ),
        pytest.param("adamw", True, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_with_the_same_bits(
    optimizer: str, lora: bool, cli: Cli, config: Path, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "dropping", attention_dropout=0.2)
    overrides = [f"base.model={model}", f"optimizer={OPTIMIZERS[optimizer]}", "train.epochs=2"]
    if lora:
        overrides.append("lora={r: 2, dropout: 0.3}")
    if "schedule_free" in optimizer:
        overrides.append("schedule.name=constant")
    given = [part for item in overrides for part in ("-s", item)]
    assert cli("train", config, *given, "-o", "whole").code == 0
    for stop in (2, 4):  # twice, since the state of a resumed run must be whole too
        events = Interrupting(stop)
        with pytest.raises(InterruptedRunError):
            train(
                load_config(config, overrides=overrides),
                output=Path("a"), resume=stop > 2, events=events,
            )  # fmt: skip
    done = cli("train", config, *given, "-o", "a", "--resume")
    assert done.code == 0, done
    assert "resuming after step 4 of 6" in done.err
    whole, resumed = manifest("whole"), manifest("a")
    assert resumed["weights"]["digest"] == whole["weights"]["digest"]
    assert resumed["identity"] == whole["identity"]
    assert [item["after_step"] for item in resumed["training"]["resumed"]] == [2, 4]
    lines = [
        [{**json.loads(line), "tokens_per_second": 0}
         for line in Path(name, "history.jsonl").read_text().splitlines()]
        for name in ("whole", "a")
    ]  # fmt: skip
    assert lines[0] == lines[1]
    assert not STATE.exists()


def test_dropout_is_on_in_that_comparison(cli: Cli, config: Path, tmp_path: Path) -> None:
    digests = set()
    for dropout in (0.0, 0.2):
        model = make_model(tmp_path / f"m{dropout}", attention_dropout=dropout)
        assert cli("train", config, "-s", f"base.model={model}", "-o", f"c{dropout}").code == 0
        digests.add(manifest(f"c{dropout}")["weights"]["digest"])
    assert len(digests) == 2


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_signal_saves_the_state_and_ends_with_130(
    number: int, config: Path, workspace: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ftreg", "train", str(config), "-o", "a",
         "-s", "train.epochs=10000", "-s", "train.save_steps=null"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    live = STATE / "history.jsonl"
    while not (live.exists() and live.read_text().count("\n") > 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "its state is in a.state/step-" in err
    assert "--resume" in err
    assert "Traceback" not in err
    (state,) = STATE.glob("step-*")
    steps = len((state / "history.jsonl").read_text().splitlines())
    assert json.loads((state / "state.json").read_text())["step"] == steps
    assert not Path("a").exists()


def test_states_are_saved_at_intervals_and_the_old_ones_go(config: Path) -> None:
    interrupt(config, "train.epochs=5", "train.save_steps=3", after=13)
    names = [path.name for path in sorted(STATE.glob("step-*"))]
    assert names == ["step-00000012", "step-00000013"]


def test_a_changed_recipe_is_refused_with_the_difference(cli: Cli, config: Path) -> None:
    interrupt(config)
    changed = ["-s", "optimizer.lr=5e-4", "-s", "schedule.name=linear"]
    done = cli("train", config, *changed, "-o", "a", "--resume")
    assert done.code == 2
    assert "optimizer.lr: 0.001 -> 0.0005" in done.err
    assert "schedule.name: 'cosine' -> 'linear'" in done.err
    assert "--allow-change optimizer.lr --allow-change schedule.name" in done.err
    done = cli("train", config, *changed, "-o", "a", "--resume", "--allow-change", "schedule.name")
    assert done.code == 2
    assert "schedule.name:" not in done.err
    assert [path.name for path in STATE.glob("step-*")] == ["step-00000002"]


def test_a_state_of_before_the_kernels_could_be_switched_off_had_them_on(
    cli: Cli, config: Path
) -> None:
    interrupt(config)
    path = STATE / "step-00000002" / "state.json"
    state = json.loads(path.read_text())
    del state["digest"], state["facts"]["recipe"]["train"]["kernels"]
    write_record(path, state)
    done = cli("train", config, "-s", "train.kernels=off", "-o", "a", "--resume")
    assert done.code == 2
    assert "train.kernels: 'auto' -> 'off'" in done.err
    assert cli("train", config, "-o", "a", "--resume").code == 0
    assert cli("train", config, "-o", "whole").code == 0
    assert manifest("a")["weights"]["digest"] == manifest("whole")["weights"]["digest"]
    assert manifest("a")["identity"] == manifest("whole")["identity"]


def test_an_allowed_change_takes_effect_and_is_noted(cli: Cli, config: Path) -> None:
    constant = ["-s", "schedule={name: constant, warmup: 0}", "-s", "train.epochs=2"]
    plain = [item for item in constant if item != "-s"]
    assert cli("train", config, *constant, "-o", "whole").code == 0
    interrupt(config, *plain)
    done = cli(
        "train", config, *constant, "-o", "a", "--resume",
        "-s", "optimizer.lr=5e-4", "-s", "optimizer.weight_decay=0.3",
        "--allow-change", "optimizer",
    )  # fmt: skip
    assert done.code == 0, done
    rates = [json.loads(line)["lr"] for line in Path("a/history.jsonl").read_text().splitlines()]
    assert rates == [1e-3, 1e-3, 5e-4, 5e-4, 5e-4, 5e-4]
    record = manifest("a")
    assert record["optimizer"]["arguments"]["lr"] == 5e-4
    assert record["optimizer"]["groups"][0]["weight_decay"] == 0.3
    (resumption,) = record["training"]["resumed"]
    assert {item["key"]: (item["old"], item["new"]) for item in resumption["changed"]} == {
        "optimizer.lr": (1e-3, 5e-4),
        "optimizer.weight_decay": (0.01, 0.3),
    }
    differing = cli("diff", "whole", "a", "--json").json["differences"]
    assert "training.optimizer.lr after step 2" in {item["setting"] for item in differing}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("optimizer={name: adam, lr: 1e-3}", "optimizer.name"),
        ("lora.r=2", "lora"),
        ("optimizer.amsgrad=true", "optimizer.amsgrad"),  # torch would look for its buffer
    ],
)
def test_what_the_state_is_made_of_can_never_change(
    override: str, key: str, cli: Cli, config: Path
) -> None:
    interrupt(config)
    allowed = ["--allow-change", "optimizer", "--allow-change", "lora"]
    done = cli("train", config, "-s", override, "-o", "a", "--resume", *allowed)
    assert done.code == 2, done
    assert "cannot be continued" in done.err
    assert key in done.err


def test_an_allowed_change_that_is_no_setting(cli: Cli, config: Path) -> None:
    interrupt(config)
    done = cli("train", config, "-o", "a", "--resume", "--allow-change", "optimizer.ler")
    assert done.code == 2
    assert "--allow-change optimizer.ler: there is no such setting; did you mean" in done.err
    assert cli("train", config, "-o", "b", "--allow-change", "optimizer.lr").code == 2


def test_another_base_is_no_continuation(cli: Cli, config: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "other")
    interrupt(config, f"base.model={model}")
    make_model(model, num_hidden_layers=3)
    done = cli("train", config, "-s", f"base.model={model}", "-o", "a", "--resume")
    assert done.code == 2, done
    assert "base_digest (the weights of base.model other): " in done.err


def damage_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": damage_bytes,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "without its seal": lambda path: path.write_text(
        json.dumps({**json.loads(path.read_text()), "digest": None, "step": 1})
    ),
}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("model.safetensors", "a flipped bit"),
        ("history.jsonl", "missing"),
        ("state.json", "without its seal"),
        pytest.param("optimizer.safetensors", "cut short", marks=pytest.mark.slow),
        *(
            pytest.param("state.json", how, marks=pytest.mark.slow)
            for how in DAMAGES
            if how != "without its seal"
        ),
    ],
)
def test_a_damaged_state_falls_back_to_the_one_before(
    name: str, how: str, cli: Cli, config: Path
) -> None:
    interrupt(config, "train.epochs=2", "train.save_steps=2", after=3)
    assert [path.name for path in sorted(STATE.glob("step-*"))] == [
        "step-00000002", "step-00000003",
    ]  # fmt: skip
    again = ["train", config, "-s", "train.epochs=2", "-s", "train.save_steps=2", "-o", "a"]
    shutil.copytree(STATE, "backup")
    DAMAGES[how](STATE / "step-00000003" / name)
    done = cli(*again, "--resume")
    assert done.code == 0, done
    if (name, how) != ("state.json", "missing"):  # that one was never a state
        assert "falling back to the state before" in done.err
        assert f"step-00000003/{name}" in done.err
    assert "resuming after step 2 of 6" in done.err
    assert cli(*again[:-1], "whole").code == 0
    assert manifest("a")["weights"]["digest"] == manifest("whole")["weights"]["digest"]


def test_a_damaged_state_does_not_stand_in_the_way_of_a_new_one(cli: Cli, config: Path) -> None:
    given = ["train.epochs=2", "train.save_steps=1", "train.save_total_limit=2"]
    interrupt(config, *given, after=4)
    damage_bytes(STATE / "step-00000004/model.safetensors")
    with pytest.raises(InterruptedRunError, match="step-00000004"):
        train(
            load_config(config, overrides=given), output=Path("a"), resume=True,
            events=Interrupting(4),
        )  # fmt: skip
    options = [part for item in given for part in ("-s", item)]
    done = cli("train", config, *options, "-o", "a", "--resume")
    assert done.code == 0, done
    assert "falling back" not in done.err
    assert "resuming after step 4 of 6" in done.err


def test_resume_from_another_working_folder(
    cli: Cli, config: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absolute = f"dataset.root={workspace / 'datasets'}"
    interrupt(config, absolute)
    elsewhere = workspace / "some" / "where"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    given = ["train", config, "-s", absolute, "-o", workspace / "a", "--resume"]
    done = cli(*given)
    assert done.code == 0, done
    assert "resuming after step 2" in done.err
    done = cli(*given)
    assert done.code == 0, done
    assert "already complete" in done.err


@pytest.mark.slow
def test_a_reader_of_stderr_that_goes_away_does_not_end_the_run(config: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ftreg", "train", str(config), "-o", "a"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert process.stderr is not None
    process.stderr.close()
    process.communicate()
    assert process.returncode == 0
    assert Path("a/ftreg.json").is_file()


def test_no_whole_state_is_said_and_nothing_begun(cli: Cli, config: Path) -> None:
    interrupt(config)
    damage_bytes(STATE / "step-00000002/optimizer.safetensors")
    done = cli("train", config, "-o", "a", "--resume")
    assert done.code == 2
    assert "no training state in it is intact" in done.err
    assert STATE.exists()


def test_a_state_is_not_trained_over(cli: Cli, config: Path) -> None:
    interrupt(config)
    done = cli("train", config, "-o", "a")
    assert done.code == 2
    assert "a.state holds the state of a run that has not ended" in done.err
    assert (STATE / "step-00000002/state.json").exists()


def test_resuming_what_has_not_begun_or_is_complete(cli: Cli, config: Path) -> None:
    done = cli("train", config, "-o", "a", "--resume")
    assert done.code == 0, done
    assert "no training state yet" in done.err
    before = Path("a/ftreg.json").read_bytes()
    done = cli("train", config, "-o", "a", "--resume", "--json")
    assert done.code == 0, done
    assert "already complete" in done.err
    assert Path("a/ftreg.json").read_bytes() == before
    done = cli("train", config, "-o", "a", "--resume", "-s", "optimizer.lr=1e-4")
    assert done.code == 2
    assert "made by another recipe (optimizer.lr: 0.001, here 0.0001)" in done.err


def test_resume_finds_the_run_that_ftreg_named(cli: Cli, config: Path) -> None:
    done = cli("train", config, "--resume")
    assert done.code == 2
    assert "no interrupted run of run" in done.err
    interrupt(config)
    Path("checkpoints").mkdir()
    STATE.rename("checkpoints/run-20260101T000000-abcd.state")
    done = cli("train", config, "--resume")
    assert done.code == 0, done
    assert Path("checkpoints/run-20260101T000000-abcd/ftreg.json").is_file()


def test_of_two_interrupted_runs_the_one_begun_last_goes_on(cli: Cli, config: Path) -> None:
    interrupt(config)
    older, newer = "checkpoints/run-20260101T000000-f000", "checkpoints/run-20260102T000000-0000"
    Path("checkpoints").mkdir()
    shutil.copytree(STATE, f"{newer}.state")
    STATE.rename(f"{older}.state")
    # The times of folders are those of a copy; a look into the older one has changed its own.
    os.utime(f"{newer}.state", (1, 1))
    done = cli("train", config, "--resume")
    assert done.code == 0, done
    assert f"--resume continues {newer}, the latest" in done.err
    assert f"--output names another: {older}" in done.err
    assert Path(newer, "ftreg.json").is_file()
    done = cli("train", config, "--resume")
    assert done.code == 0, done
    assert f"--resume continues {older}\n" in done.err
    assert Path(older, "ftreg.json").is_file()


def test_one_process_at_a_time(cli: Cli, config: Path) -> None:
    interrupt(config)
    with FileLock(STATE / ".lock"):
        done = cli("train", config, "-o", "a", "--resume")
    assert done.code == 2
    assert "another process is training this run" in done.err
    assert cli("train", config, "-o", "a", "--resume").code == 0


def test_steps_that_are_already_taken(cli: Cli, config: Path) -> None:
    interrupt(config)
    short = ["-s", "train.max_steps=2", "--allow-change", "train.max_steps"]
    done = cli("train", config, "-o", "a", "--resume", *short)
    assert done.code == 2
    assert "has taken 2 steps, and this configuration wants 2 in all" in done.err


class Full:
    """A disk that is full from the n-th write on: fsync, rename and replace fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        for name in ("fsync", "rename", "replace"):
            monkeypatch.setattr(os, name, self._failing(getattr(os, name)))

    def _failing(self, real: Any) -> Any:
        def call(*arguments: Any, **settings: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise OSError(28, "No space left on device")
            return real(*arguments, **settings)

        return call


@pytest.mark.slow
def test_a_full_disk_at_every_write_loses_nothing(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["train", config, "-s", "train.epochs=2", "-s", "train.save_steps=2"]
    assert cli(*given, "-o", "whole").code == 0
    digest = manifest("whole")["weights"]["digest"]
    writes = 0
    while True:
        with monkeypatch.context() as patched:
            Full(patched, writes)
            done = cli(*given, "-o", "a", "--resume")
        if done.code == 0:
            break
        assert done.code == 2, (writes, done)
        assert "No space left on device" in done.err
        assert "Traceback" not in done.err
        if Path("a").exists():  # whole, but its name may not outlast a power cut
            assert "is written, but could not be flushed to disk" in done.err
            assert manifest("a")["weights"]["digest"] == digest
            shutil.rmtree("a")
        for state in STATE.glob("step-*"):
            assert (state / "state.json").exists()
        writes += 1
    assert writes > 15
    assert manifest("a")["weights"]["digest"] == digest


LIMITED = """
import resource, signal, sys
from ftreg.cli.app import app
import ftreg.training.run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
app(sys.argv[2:])
"""


@pytest.mark.slow
def test_a_file_that_cannot_grow_is_the_users_message(config: Path) -> None:
    """Here the libraries in Rust fail, which have errors of their own."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "20000", "train", str(config), "-o", "a"],
        capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "cannot write a:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("a").exists()


POISONED = "model.layers.0.self_attn.v_proj.weight"


def poison(monkeypatch: pytest.MonkeyPatch, *, step: int) -> None:
    """Make one gradient NaN at one step."""
    from ftreg.training.loop import Loop

    real = Loop._accumulate

    def accumulate(self: Loop, rows: Any) -> float:
        loss = real(self, rows)
        if self.done.steps == step - 1:
            dict(self.model.named_parameters())[POISONED].grad[0] = math.nan
        return loss

    monkeypatch.setattr(Loop, "_accumulate", accumulate)


def test_a_nan_gradient_is_named_and_the_last_healthy_state_kept(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["train", config, "-s", "train.epochs=2"]
    assert cli(*given, "-o", "whole").code == 0
    with monkeypatch.context() as patched:
        poison(patched, step=4)
        done = cli(*given, "-o", "a")
    assert done.code == 1, done
    assert "training diverged at step 4" in done.err
    assert "a.state/step-00000003" in done.err
    assert "a lower optimizer.lr (now 0.001)" in done.err
    failure = json.loads(Path("a.failed/failure.json").read_text())
    assert (failure["step"], failure["steps_taken"]) == (4, 3)
    assert failure["parameters"] == [POISONED]
    assert failure["grad_norm"] == "nan"
    assert failure["lr"] > 0
    assert failure["last_healthy_state"] == "step-00000003"
    assert len(failure["examples"]) == 4
    assert all(item["id"].startswith("t") and item["loss"] > 0 for item in failure["examples"])
    lines = [json.loads(line) for line in Path("a.failed/history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["grad_norm"] == "nan"
    # The fault was not in the data: going on from the healthy state is the run without it.
    assert cli(*given, "-o", "a", "--resume").code == 0
    assert manifest("a")["weights"]["digest"] == manifest("whole")["weights"]["digest"]


def test_an_optimizer_state_that_is_not_finite_is_never_saved(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.optim.AdamW.step
    calls = 0

    def step(self: Any, closure: Any = None) -> None:
        nonlocal calls
        real(self, closure)
        calls += 1
        if calls == 2:
            next(iter(self.state.values()))["exp_avg"][0] = math.inf

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    done = cli("train", config, "-s", "train.save_steps=2", "-o", "a")
    assert done.code == 1, done
    assert "the optimizer's exp_avg of model.embed_tokens.weight is not finite" in done.err
    assert not STATE.exists()
    assert Path("a.failed/failure.json").is_file()


def test_out_of_memory_says_what_to_lower(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **settings: Any) -> None:
        torch.empty(2**60)  # torch's own error, whatever this machine has

    monkeypatch.setattr("ftreg.training.loss.Loss.__call__", full)
    done = cli("train", config, "-o", "a")
    assert done.code == 2, done
    assert "out of memory" in done.err
    assert "train.micro_batch_tokens (now 2048" in done.err
    assert not Path("a").exists()
    assert not STATE.exists()


def record(step: int, loss: float) -> StepRecord:
    return StepRecord(
        step=step, loss=loss, lr=1e-3, grad_norm=1.0, step_size=1e-4, examples=step,
        tokens=step, loss_tokens=step, tokens_per_second=1.0,
    )  # fmt: skip


def test_loss_spikes_by_median_and_mad() -> None:
    spikes = LossSpikes()
    losses = [2.0 + 0.1 * math.sin(3 * i) for i in range(60)]
    losses[40] = 4.0
    told = [spikes.notice(record(i + 1, loss)) for i, loss in enumerate(losses)]
    assert spikes.steps == [41]
    assert [text for text in told if text] == [told[40]]
    assert "step 41: the loss spiked to 4.000" in str(told[40])
    # Falling, level, and noisy losses have none.
    for quiet in ([5 - i / 20 for i in range(60)], [1.0] * 60, losses[:40]):
        calm = LossSpikes()
        assert not any(calm.notice(record(i + 1, loss)) for i, loss in enumerate(quiet))


def test_a_spike_is_told_and_in_the_manifest(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftreg.training.loop import Loop

    real = Loop._accumulate

    def accumulate(self: Loop, rows: Any) -> float:
        return real(self, rows) + (50.0 if self.done.steps == 19 else 0.0)

    monkeypatch.setattr(Loop, "_accumulate", accumulate)
    done = cli("train", config, "-s", "train.epochs=8", "-s", "optimizer.lr=1e-6", "-o", "a")
    assert done.code == 0, done
    assert "step 20: the loss spiked to" in done.err
    assert manifest("a")["training"]["loss_spikes"] == [20]


def test_a_library_error_is_no_shortage_of_memory(config: Path, workspace: Path) -> None:
    with pytest.raises(UsageError, match="lora: "):
        train(load_config(config, overrides=["lora={target_modules: [nothing]}"]), output=Path("a"))


def test_a_custom_state_that_cannot_be_saved_is_said(cli: Cli, config: Path) -> None:
    done = cli(
        "train", config, "-o", "a", "-s", "train.save_steps=1",
        "-s", "optimizer={name: custom, path: 'tests.fakes:Secretive', lr: 1e-3}",
    )  # fmt: skip
    assert done.code == 2, done
    assert "the state of this optimizer cannot be saved" in done.err
    assert "save_steps: null" in done.err


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bits(
    config: Path, workspace: Path, tmp_path: Path
) -> None:
    """SIGKILL at random moments and, one by one, in the middle of every write."""
    model = make_model(tmp_path / "dropping", attention_dropout=0.2)
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill_trials", str(config), str(model)],
        capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["random_trials"] >= 20
    assert result["kills"] >= 40
    assert result["kills_in_a_write"] >= 10
    assert result["resumed"] >= 15
    assert result["different"] == 0


def test_states_hold_adapters_only(config: Path) -> None:
    interrupt(config, "lora.r=2")
    tensors = load_file(STATE / "step-00000002/model.safetensors")
    assert tensors
    assert all("lora_" in name for name in tensors)
