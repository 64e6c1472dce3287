"""Several processes: what launches them, and that they train the same run as one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.conftest import Cli, add_split, rows_of

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "accelerate"
ACCELERATE = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
# accelerate takes FSDP up only where it believes in several GPUs; the processes themselves do not
# need one, and gather and scatter through gloo.
SHARDED = """\
import sys
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
PartialState(cpu=True)
PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
from ftreg.__main__ import main
try:
    sys.exit(main())
finally:
    print("trained as", AcceleratorState().distributed_type, file=sys.stderr)
"""
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}


def launched(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ACCELERATE_", "FSDP_", "MASTER_"))
    }
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env={**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        check=False,
        timeout=300,
    )


def column(folder: str, key: str) -> list[float]:
    lines = Path(folder, "history.jsonl").read_text().splitlines()
    return [json.loads(line)[key] for line in lines]


def same_run(one: str, other: str) -> None:
    for key in ("loss", "grad_norm", "step_size"):
        assert column(one, key) == pytest.approx(column(other, key), rel=1e-5), key
    assert column(one, "tokens") == column(other, "tokens")
    (name,) = (path.name for path in Path(one).glob("*.safetensors"))
    weights, others = load_file(Path(one, name)), load_file(Path(other, name))
    assert weights.keys() == others.keys()
    assert all(abs(weights[key] - others[key]).max() < 1e-5 for key in weights)


def manifest(folder: str) -> Any:
    return json.loads(Path(folder, "ftreg.json").read_text())


@pytest.mark.slow
def test_accelerate_starts_two_processes_on_cpus(cli: Cli, config: Path) -> None:
    arguments = ["train", config, "-s", "train.epochs=2"]
    assert cli(*arguments, "-o", "one").code == 0
    launch = [*ACCELERATE, "--config_file", CONFIGS / "cpu.yaml"]
    done = launched(*launch, "-m", "ftreg", *arguments, "-o", "two")
    assert done.returncode == 0, done.stderr
    assert manifest("two")["training"]["processes"] == 2
    assert done.stdout.count("steps") == 1  # one process speaks
    same_run("one", "two")


@pytest.mark.slow
def test_one_process_is_what_was_asked_for(config: Path) -> None:
    launch = [*ACCELERATE, "--cpu", "--num_processes", "1"]
    done = launched(*launch, "-m", "ftreg", "train", config, "-o", "one")
    assert done.returncode == 0, done.stderr
    assert manifest("one")["training"]["processes"] == 1


@pytest.mark.slow
def test_accelerate_leaves_processes_on_cpus_to_mpi(config: Path) -> None:
    launch = [*ACCELERATE, "--cpu", "--num_processes", "2"]
    done = launched(*launch, "-m", "ftreg", "train", config, "-o", "two")
    assert done.returncode != 0
    assert "accelerate was asked for several processes but started one" in done.stderr
    assert not Path("two").exists()


@pytest.mark.parametrize("command", [["train", "run.yaml"], ["reproduce", "one"]])
def test_missing_processes_end_with_2(
    command: list[str], cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    done = cli(*command, "-o", "two")
    assert done.code == 2, done
    assert "accelerate was asked for several processes but started one" in done.err
    assert "configs/accelerate/cpu.yaml" in done.err
    assert not Path("two").exists()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([], marks=pytest.mark.slow),
        # Processes with unlike numbers of micro-batches, and at times without any example.
        pytest.param(
            ["-s", "train.micro_batch_tokens=64", "-s", "train.batch_size=5"],
            marks=pytest.mark.slow,
        ),
        pytest.param(["-s", "lora.r=2"], marks=pytest.mark.slow),
    ],
    ids=["whole", "micro-batches", "adapters"],
)
def test_sharded_training_is_the_same_run(changes: list[str], cli: Cli, config: Path) -> None:
    arguments = ["train", config, "-s", "train.save_steps=2", *changes]
    assert cli(*arguments, "-o", "one").code == 0
    Path("sharded.py").write_text(SHARDED)
    done = launched(*TORCHRUN, "sharded.py", *arguments, "-o", "two", **FSDP)
    assert done.returncode == 0, done.stderr
    assert "trained as DistributedType.FSDP" in done.stderr
    assert manifest("two")["training"]["processes"] == 2
    same_run("one", "two")
    if not changes:
        architectures = [
            json.loads(Path(name, "config.json").read_text())["architectures"]
            for name in ("one", "two")
        ]
        assert architectures[0] == architectures[1]


@pytest.mark.slow
def test_weights_to_keep_are_found_in_parts(cli: Cli, config: Path) -> None:
    """Schedule-free: each process has its part of both kinds of weights."""
    optimizer = "optimizer={name: schedule_free_adamw, lr: 1e-2}"
    arguments = ["train", config, "-s", optimizer, "-s", "schedule.name=constant"]
    assert cli(*arguments, "-o", "one").code == 0
    Path("sharded.py").write_text(SHARDED)
    done = launched(*TORCHRUN, "sharded.py", *arguments, "-o", "two", **FSDP)
    assert done.returncode == 0, done.stderr
    same_run("one", "two")


@pytest.mark.slow
def test_an_optimizer_that_takes_no_sharded_weights_is_refused(config: Path) -> None:
    """torch's Adafactor cannot multiply the norms of its rows and columns there."""
    Path("sharded.py").write_text(SHARDED)
    optimizer = "optimizer={name: adafactor, lr: 1e-2}"
    command = ["train", config, "-s", optimizer, "-o", "two"]
    done = launched(*TORCHRUN, "sharded.py", *command, **FSDP)
    assert done.returncode != 0
    assert "optimizer.name: torch's Adafactor takes no steps with sharded weights" in done.stderr
    assert "internal error" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_processes_validate_and_keep_the_best_together(
    sharded: bool, cli: Cli, config: Path
) -> None:
    """With three rows at a time, one of two processes has one, and of the last row none."""
    add_split("validation", [{**row, "reference": "red or 7"} for row in rows_of(4, "v")])
    arguments = ["train", config, "-s", "dataset.validation_split=validation",
                 "-s", "train={validate_steps: 2, keep: best, patience: 3, checkpoint_steps: 4}",
                 "-s", "train.batch_size=3", "-s", "train.epochs=8", "-s", "optimizer.lr=2e-2",
                 "-s", "schedule.name=constant"]  # fmt: skip
    assert cli(*arguments, "-o", "one").code == 0
    Path("sharded.py").write_text(SHARDED)
    command = ["sharded.py"] if sharded else ["-m", "ftreg"]
    done = launched(*TORCHRUN, *command, *arguments, "-o", "two", **(FSDP if sharded else {}))
    assert done.returncode == 0, done.stderr
    same_run("one", "two")
    same_run("one.steps/step-00000004", "two.steps/step-00000004")
    one, two = (manifest(name)["training"] for name in ("one", "two"))
    assert one["kept_step"] == two["kept_step"] < one["steps"] == two["steps"] < 32
    assert two["processes"] == 2
    both = [[loss for loss in column(name, "validation_loss") if loss] for name in ("one", "two")]
    assert both[0] == pytest.approx(both[1], rel=1e-4)


@pytest.mark.slow
def test_processes_do_not_keep_by_a_scorer(config: Path) -> None:
    add_split("validation", rows_of(4, "v"))
    train = "train={keep: best, keep_by: equals, checkpoint_steps: 2}"
    done = launched(*TORCHRUN, "-m", "ftreg", "train", config, "-o", "two", "-s", train,
                    "-s", "dataset.validation_split=validation")  # fmt: skip
    assert done.returncode != 0
    assert "train.keep_by: a scorer chooses where one process trains" in done.stderr
    assert "internal error" not in done.stderr
    assert not Path("two.steps").exists()


@pytest.mark.slow
def test_a_refusal_is_one_message_from_all_processes(config: Path) -> None:
    Path("two.state/step-00000001").mkdir(parents=True)
    done = launched(*TORCHRUN, "-m", "ftreg", "train", config, "-o", "two")
    assert done.returncode != 0
    assert "two.state holds the state of a run that has not ended" in done.stderr
    assert "internal error" not in done.stderr
