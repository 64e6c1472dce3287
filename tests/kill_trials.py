"""Repeatedly kill training with SIGKILL, resume it, and compare the final weights bit by bit.

Run by a test: `python -m tests.kill_trials CONFIG MODEL`. Everything is imported once, and each run
is a fork of this process, so that a trial takes one second instead of ten. The last line is JSON.
"""

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from ftreg.config.load import load_config
from ftreg.training.run import train

torch.set_num_threads(1)  # a fork must not inherit a pool of threads
RANDOM_TRIALS = 24
OPTIMIZERS = [
    "{name: adagrad, lr: 1e-2}",
    "{name: adam, lr: 1e-3, weight_decay: 0.1}",
    "{name: adamw, lr: 1e-3}",
    "{name: muon, lr: 1e-2, adamw_lr: 1e-3}",
    "{name: lion, lr: 1e-4}",
    "{name: sgd, lr: 1e-1, momentum: 0.9}",
    "{name: rmsprop, lr: 1e-3}",
]
counts = {"random_trials": 0, "kills": 0, "kills_in_a_write": 0, "resumed": 0, "different": 0}


def start(
    config: Any, output: Path, *, delay: float | None = None, write: int | None = None
) -> int:
    """Train in a fork, killed after `delay` seconds or in its `write`-th write; returns the status.

    Raises:
        SystemExit: training failed.
    """
    child = os.fork()
    if child == 0:
        if write is not None:
            die_in_write(write)
        if delay is not None:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        try:
            train(config, output=output, resume=True)
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"training ended with {status}")
    return status


def die_in_write(number: int) -> None:
    """Kill this process just before its n-th fsync, rename or replace."""
    left = number

    def dying(real: Any) -> Any:
        def call(*arguments: Any, **settings: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **settings)

        return call

    for name in ("fsync", "rename", "replace"):
        setattr(os, name, dying(getattr(os, name)))


def digest(folder: Path) -> str:
    return str(json.loads((folder / "ftreg.json").read_text())["weights"]["digest"])


def main() -> None:
    path, model = Path(sys.argv[1]), sys.argv[2]
    generator = random.Random(0)
    for index, optimizer in enumerate(OPTIMIZERS):
        config = load_config(
            path,
            overrides=[
                f"base.model={model}", f"optimizer={optimizer}",
                "train.epochs=6", "train.save_steps=3",
            ],
        )  # fmt: skip
        whole = Path(f"whole{index}")
        began = time.monotonic()
        assert start(config, whole) == 0
        seconds = time.monotonic() - began
        for trial in range(RANDOM_TRIALS // len(OPTIMIZERS)):
            output = Path(f"random{index}-{trial}")
            counts["random_trials"] += 1
            kills = 0
            # Two kills per trial at random moments; then let it finish.
            while kills < 2 and start(config, output, delay=generator.uniform(0, seconds)) != 0:
                kills += 1
                counts["kills"] += 1
                counts["resumed"] += any(output.with_name(f"{output}.state").glob("step-*"))
            compare(config, output, whole)
        if index == 0:
            write = 1
            while True:
                output = Path(f"write-{write}")
                if start(config, output, write=write) == 0:
                    break
                counts["kills"] += 1
                counts["kills_in_a_write"] += 1
                counts["resumed"] += any(output.with_name(f"{output}.state").glob("step-*"))
                compare(config, output, whole)
                write += 3
    print(json.dumps(counts))


def compare(config: Any, output: Path, whole: Path) -> None:
    """Finish a run, compare its weights with those of the uninterrupted run, and clean up."""
    assert start(config, output) == 0
    counts["different"] += digest(output) != digest(whole)
    left = [path.name for path in Path().iterdir() if output.name in path.name and path != output]
    assert not left, left
    shutil.rmtree(output)


main()
