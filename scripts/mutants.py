"""Change the code a little, here and there, and say which of the changes no test notices.

    python scripts/mutants.py gate --draw 300 --seed 1

mutmut makes the mutants of `gate/`, `records/` and `files/`, finds out which tests reach each
function, and runs those (`[tool.mutmut]` in pyproject.toml). This draws some of a room, evenly and
by a seed, and prints a diff of each survivor. A survivor is either a test that is missing or an
equivalent mutant: docs/mutants.md lists what is known of them.

Needs the extra `mutants`; works in `mutants/` and leaves the checkout alone. A mutant takes one to
three seconds of a processor, so all of `gate/` takes some hours.
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
    """Run mutmut in the checkout."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def statuses() -> dict[str, str]:
    """The status of every mutant by its name."""
    lines = mutmut("results", "--all", "true").stdout.splitlines()
    return dict(line.strip().rsplit(": ", 1) for line in lines if ": " in line)  # type: ignore[misc]


def main() -> None:
    """Draw, run and tell; ends with 1 if a mutant survived."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rooms", nargs="*", default=["gate", "records", "files"])
    parser.add_argument("--draw", type=int, help="how many; all if not given")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    made = mutmut("run", "none")  # makes them, and times the tests; there is none of this name
    names = sorted(name for name in statuses() if name.split(".")[1] in chosen.rooms)
    if not names:
        sys.exit(made.stdout[-2000:] + made.stderr[-2000:])
    drawn = sorted(random.Random(chosen.seed).sample(names, chosen.draw or len(names)))
    mutmut("run", *drawn)
    found = {name: status for name, status in statuses().items() if name in set(drawn)}
    for name, status in found.items():
        if status in SURVIVED:
            print(mutmut("show", name).stdout)
    print(f"{len(drawn)} of {len(names)} mutants:", dict(Counter(found.values())))
    sys.exit(any(status in SURVIVED for status in found.values()))


if __name__ == "__main__":
    main()
