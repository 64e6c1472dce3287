"""The main job: fine-tune twice, evaluate both, and gate the second against the first.

It only calls `ftreg`, and prints each command before it runs, so that whoever watches can type
the same. Everything lands in a new folder below `runs/`; nothing of an earlier run is touched.
A regression that the gate finds is part of the story and not a failure of this script.
"""

import argparse
import os
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

GATE_CODES = {0: "pass", 1: "regression", 3: "undecided"}
console = Console(highlight=False)


def new_folder(root: Path) -> Path:
    """Make the next free `runs/NNN`."""
    taken = [int(path.name) for path in root.glob("[0-9]*") if path.name.isdigit()]
    number = max(taken, default=0) + 1
    while True:
        folder = root / f"{number:03d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # another run has just taken it
            number += 1
        else:
            return folder


def ftreg(workspace: Path, *arguments: str, accept: frozenset[int] = frozenset({0})) -> int:
    """Run one command of ftreg in the workspace; end the script if it ends otherwise."""
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


def main() -> None:
    """Run the job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs")
    parser.add_argument("--first", default="configs/adamw.yaml", help="config of the baseline")
    parser.add_argument("--second", default="configs/lion.yaml", help="config of the candidate")
    parser.add_argument("-s", "--set", action="append", default=[], help="override for both")
    options = parser.parse_args()

    workspace = new_folder(options.runs)
    began = time.monotonic()
    overrides = [part for item in options.set for part in ("-s", item)]
    console.print(
        f"Two fine-tunings of the same base model on the same data; may the second replace the "
        f"first?\nResults: {workspace}"
    )
    names = []
    for config in (options.first, options.second):
        name = Path(config).stem
        names.append(f"{name}-2" if name in names else name)
        checkpoint = workspace / "checkpoints" / names[-1]
        console.print(Rule(f"{names[-1]}: train", align="left"))
        ftreg(workspace, "train", config, *overrides, "--output", str(checkpoint))
        console.print(Rule(f"{names[-1]}: evaluate", align="left"))
        if len(names) == 1:
            ftreg(workspace, "eval", names[0], "--no-gate")
            ftreg(workspace, "promote", "latest")
    code = ftreg(workspace, "eval", names[1], "--against", "baseline", accept=frozenset(GATE_CODES))

    console.print(Rule(align="left"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    console.print(
        f"Verdict: {GATE_CODES[code]} (exit code {code}). "
        f"Took {time.monotonic() - began:.0f} s, at most {peak:.1f} GiB.\n"
        f"The gate again, for its exit code: FTREG_WORKSPACE={workspace} "
        "ftreg gate baseline latest",
        soft_wrap=True,
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        console.print("interrupted; what is written stays")
        sys.exit(130)
