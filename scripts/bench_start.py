"""Compare the start-up time of `ftreg` with a bare start of its libraries.

    python scripts/bench_start.py --rounds 20

Each round runs every command once, one after the other, in a separate process; use an otherwise
idle machine. Prints the median time from start to end, and its ratio to two bare starts:
`python -c "import typer, rich"`, and a typer command that takes two paths and prints a table with
rich, which is the minimum for any command line built on these two.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_COMMAND = """\
from pathlib import Path
import typer
from rich.console import Console
from rich.table import Table
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
@app.command()
def main(first: Path, second: Path):
    table = Table("first", "second")
    table.add_row(str(first), str(second))
    Console().print(table)
app()
"""


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the measured commands by name; writes two files of scores into the folder."""
    files = []
    for name, change in (("baseline", 0.0), ("candidate", 0.01)):
        rows = [
            {"id": f"e{i}", "scorer": "equals", "score": (i % 10) / 10 + change, "reason": None}
            for i in range(100)
        ]
        path = folder / f"{name}.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        files.append(str(path))
    python, ftreg = sys.executable, [sys.executable, "-m", "ftreg"]
    return {
        "import typer, rich": [python, "-c", "import typer, rich"],
        "a typer command": [python, "-c", _COMMAND, *files],
        "ftreg --help": [*ftreg, "--help"],
        "ftreg gate --help": [*ftreg, "gate", "--help"],
        "ftreg gate A B": [*ftreg, "gate", *files],
    }


def seconds(command: list[str]) -> float:
    """Run a command and return how long it took."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - began


def main() -> None:
    """Print a line per command: its time and its ratios to the bare starts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        measured = commands(Path(folder))
        times: dict[str, list[float]] = {name: [] for name in measured}
        for number in range(rounds + 1):
            for name, command in measured.items():
                spent = seconds(command)
                if number:  # the first round fills the caches of files and bytecode
                    times[name].append(spent)
    medians = {name: statistics.median(values) for name, values in times.items()}
    bare = list(medians)[:2]
    print(f"{'':20} {'ms':>6}" + "".join(f"  {f'/ {name}':>20}" for name in bare))
    for name, middle in medians.items():
        ratios = "".join(f"  {middle / medians[other]:20.2f}" for other in bare)
        print(f"{name:20} {1000 * middle:6.0f}{ratios}")


if __name__ == "__main__":
    main()
