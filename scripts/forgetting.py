"""Train a real model too long and at too high a learning rate, and show the gate's verdict.

The baseline is SmolLM2-135M-Instruct after one epoch on ferry-desk@2 at a low learning rate; the
candidate is trained for many epochs at a higher one. Each is evaluated by `equals`, the task's
score, and by `retention`, on general texts unrelated to the task.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

CONFIG = "configs/adamw.yaml"
COMMON = (
    "eval.scorers=[equals, retention]",
    "gate.margins={equals: 0.1, retention: 0.01}",
    "eval.repeats=1",
)


def ftreg(workspace: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> int:
    """Run a command of ftreg; exits if its exit code is not in `codes`."""
    done = subprocess.run(
        [sys.executable, "-m", "ftreg", *arguments],
        env={**os.environ, "FTREG_WORKSPACE": workspace},
        check=False,
    )
    if done.returncode not in codes:
        sys.exit(done.returncode)
    return done.returncode


def main() -> None:
    """Train both, gate the second against the first, and print the gate's exit code as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lr", default="5e-4", help="learning rate of the candidate")
    parser.add_argument("--epochs", default="10", help="epochs of the candidate")
    parser.add_argument("--rows", default="120", help="rows to evaluate")
    options = parser.parse_args()
    rows = (f"dataset.max_eval_examples={options.rows}", *COMMON)
    overrides = [part for change in rows for part in ("-s", change)]
    with tempfile.TemporaryDirectory() as workspace:
        for name, lr, epochs in (
            ("gentle", "1e-4", "1"),
            ("overtrained", options.lr, options.epochs),
        ):
            recipe = ("-s", f"optimizer.lr={lr}", "-s", f"train.epochs={epochs}")
            output = os.path.join(workspace, "checkpoints", name)
            ftreg(workspace, "train", CONFIG, *recipe, *overrides, "-o", output, "--quiet")
            gate = () if name == "overtrained" else ("--no-gate",)
            code = ftreg(workspace, "eval", name, *gate, "--quiet", codes=(0, 1, 3))
            if gate:
                ftreg(workspace, "promote", "latest")
        print(json.dumps({"lr": options.lr, "epochs": options.epochs, "exit code": code}))


if __name__ == "__main__":
    main()
