"""Test the tests: mutate the code, and print the mutants that no test detects.

    python scripts/mutants.py gate --draw 300 --seed 1

mutmut makes the mutants of the packages ("rooms") `gate/`, `records/` and `files/`, finds out which
of their tests reach each function, and runs those (`[tool.mutmut]` in pyproject.toml). This script
draws mutants uniformly, with a seed, and prints the diff of each survivor: either a test is
missing, or the mutant is equivalent. "no tests" means that only tests of other packages reach the
function.

Needs the extra `mutants`. Works in the folder `mutants/` and changes no file of the checkout. It
first runs all tests of the packages, which takes minutes; then a mutant takes two to four CPU
seconds, and `gate/` has 6,500.
"""

import argparse
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
SURVIVED = ("survived", "no tests")


def mutmut(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run mutmut in the checkout; does not raise on failure."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def statuses() -> dict[str, str]:
    """Return the status of every mutant by name."""
    lines = mutmut("results", "--all", "true").stdout.splitlines()
    return dict(line.strip().rsplit(": ", 1) for line in lines if ": " in line)  # type: ignore[misc]


def main() -> None:
    """Draw mutants, run them and print the survivors; exits with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rooms", nargs="*", default=["gate", "records", "files"])
    parser.add_argument("--draw", type=int, help="how many; all if not given")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    made = mutmut("run", "none")  # no mutant has this name: only makes them and times the tests
    names = sorted(name for name in statuses() if name.split(".")[1] in chosen.rooms)
    if not names:
        sys.exit(made.stdout[-2000:] + made.stderr[-2000:])
    drawn = sorted(
        random.Random(chosen.seed).sample(names, min(chosen.draw or len(names), len(names)))
    )
    ran = mutmut("run", *drawn)
    found = {name: status for name, status in statuses().items() if name in set(drawn)}
    for name, status in found.items():
        if status in SURVIVED:
            print(mutmut("show", name).stdout)
    print(f"{len(drawn)} of {len(names)} mutants:", dict(Counter(found.values())))
    if "not checked" in found.values():
        sys.exit(ran.stdout[-2000:] + ran.stderr[-2000:])
    sys.exit(any(status in SURVIVED for status in found.values()))


if __name__ == "__main__":
    main()
