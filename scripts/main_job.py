"""The main job: one release that passes the gate, and one that the gate stops.

A baseline is fine-tuned with AdamW, then two candidates: one with Adam, and one with a common
mistake, Lion at AdamW's learning rate. The script only calls `ftreg`, and prints each command
before it runs, so that a reader can repeat it. Everything is written to a new folder below `runs/`;
earlier runs are not touched. A gate that stops a candidate is no failure of this script.
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

GATE_CODES = {0: "pass", 1: "regression", 3: "undecided"}
SMALL = (
    "train.epochs=1",
    "dataset.max_eval_examples=120",
    "gate.margin=0.1",
    "gate.max_missing=0.02",
)
"""Changes for a demonstration of minutes: one epoch, and 120 questions about 40 notices, a few more
than a margin of 10 points needs. After one epoch an output or two may state nothing, depending on
the machine; they have no faithfulness, and the gate counts them at their worst."""
console = Console(highlight=False)


@dataclass(frozen=True)
class Side:
    """A fine-tuning run: its name, its configuration, overrides, and gate options."""

    name: str
    config: str
    changes: tuple[str, ...] = ()
    gating: tuple[str, ...] = ()


BASELINE = Side("adamw", "configs/adamw.yaml")
CANDIDATES = (
    Side("adam", "configs/adam.yaml"),
    # A much worse candidate is stopped before all of its answers are generated.
    Side("lion", "configs/lion.yaml", ("optimizer.lr=1e-4",), ("--until-decided",)),
)


def new_folder(root: Path) -> Path:
    """Create the next free `runs/NNN`."""
    taken = [int(path.name) for path in root.glob("[0-9]*") if path.name.isdigit()]
    number = max(taken, default=0) + 1
    while True:
        folder = root / f"{number:03d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # another run has just created it
            number += 1
        else:
            return folder


def ftreg(workspace: Path, *arguments: str, accept: frozenset[int] = frozenset({0})) -> int:
    """Run one command of ftreg in the workspace; exits if its exit code is not in `accept`."""
    console.print(f"\n[bold]$ ftreg {shlex.join(arguments)}[/]", soft_wrap=True)
    done = subprocess.run(
        [sys.executable, "-m", "ftreg", *arguments],
        env={**os.environ, "FTREG_WORKSPACE": str(workspace)},
        check=False,
    )
    if done.returncode not in accept:
        console.print(f"this command ended with {done.returncode}; the run stops here")
        sys.exit(done.returncode)
    return done.returncode


def train(workspace: Path, side: Side, changes: list[str]) -> None:
    """Fine-tune one side."""
    console.print(Rule(f"{side.name}: train", align="left"))
    overrides = [part for change in (*changes, *side.changes) for part in ("-s", change)]
    output = str(workspace / "checkpoints" / side.name)
    ftreg(workspace, "train", side.config, *overrides, "--output", output)


def last_loss(workspace: Path, side: Side) -> float:
    """Return the loss per token at the last step of a fine-tuning."""
    manifest = json.loads((workspace / "checkpoints" / side.name / "ftreg.json").read_text("utf-8"))
    return float(manifest["training"]["last_loss"])


def lesson(workspace: Path, codes: dict[str, int]) -> str:
    """Return a summary of the run in a few sentences."""
    losses = ", ".join(
        f"{side.name} {last_loss(workspace, side):.2f}" for side in (BASELINE, *CANDIDATES)
    )
    seen = (
        f"adam in place of adamw: {GATE_CODES[codes['adam']]} (exit code {codes['adam']}). lion "
        f"with adamw's learning rate: {GATE_CODES[codes['lion']]} (exit code {codes['lion']})."
    )
    if (codes["adam"], codes["lion"]) != (0, 1):
        return f"{seen} On the machine of the documentation they ended with pass and regression."
    (record,) = workspace.glob("evaluations/lion-*/gate.json")
    worse = {drop["id"] for drop in json.loads(record.read_text("utf-8"))["verdict"]["critical"]}
    reason = (
        f"Of the questions marked as critical, where a wrong answer costs a passenger money, the "
        f"crossing or safety, {len(worse)} got a worse answer than before, whatever the means say"
        if worse
        else "The reasons are below the verdict"
    )
    return (
        f"{seen}\nBoth trained without an error, and their losses look alike (at the last "
        f"step: {losses}). But Lion steps by the sign of the gradient, and needs a third to a "
        f"tenth of AdamW's learning rate. {reason}. In a CI the exit code stops the second."
    )


def main() -> None:
    """Run the job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs")
    parser.add_argument("-s", "--set", action="append", default=[], help="override for all")
    options = parser.parse_args()

    workspace = new_folder(options.runs)
    began = time.monotonic()
    changes = [*SMALL, *options.set]
    console.print(
        f"Two candidates for the place of a fine-tuned model: may they replace it?\n"
        f"Results: {workspace}"
    )
    train(workspace, BASELINE, changes)
    console.print(Rule(f"{BASELINE.name}: evaluate, and make it the baseline", align="left"))
    ftreg(workspace, "eval", BASELINE.name, "--no-gate")
    ftreg(workspace, "promote", "latest")
    codes = {}
    for side in CANDIDATES:
        train(workspace, side, changes)
        console.print(Rule(f"{side.name}: evaluate, and gate", align="left"))
        arguments = ("eval", side.name, "--against", "baseline", *side.gating)
        codes[side.name] = ftreg(workspace, *arguments, accept=frozenset(GATE_CODES))

    console.print(Rule("What you have just seen", align="left"))
    console.print(lesson(workspace, codes))
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    console.print(
        f"\nTook {time.monotonic() - began:.0f} s ({usage.ru_utime + usage.ru_stime:.0f} s of "
        f"processor time), at most {usage.ru_maxrss / 2**20:.1f} GiB.\n"
        f"The last gate again, for its exit code: FTREG_WORKSPACE={workspace} "
        "ftreg gate baseline latest",
        soft_wrap=True,
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        console.print("interrupted; what is written stays")
        sys.exit(130)
