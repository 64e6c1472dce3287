"""Measure the cost of a large dataset: seconds and memory of import, verify, show and load.

    python scripts/bench_data.py                    # 1,000,000 rows
    python scripts/bench_data.py --rows 100000

Rows are generated (about 60 words of input, a reference of 8, two tags). Each command runs in a
separate process with an empty cache; its peak memory is the kernel's figure (`ru_maxrss`), which
includes pages of mapped files.
"""

import argparse
import csv
import json
import multiprocessing
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
HELD_OUT = 1000
_FTREG = [sys.executable, "-m", "ftreg", "data"]
_LOAD = """
from ftreg.data import load_dataset
split = load_dataset("bench@1").split("train")
characters = sum(len(example.input) for example in split)
assert split[-1].id and characters > 0
"""
_COLUMNS = ("question", "answer", "topic", "level")


def generate(path: Path, rows: int, *, seed: int) -> None:
    """Write generated rows as JSONL, CSV or Parquet, by the suffix, in a stream."""
    rng = random.Random(seed)
    words = [f"{chr(97 + i % 26)}word{i}" for i in range(5000)]

    def row(number: int) -> dict[str, str]:
        return {
            "question": f"{number} " + " ".join(rng.choices(words, k=60)),
            "answer": " ".join(rng.choices(words, k=8)),
            "topic": f"topic{rng.randrange(12)}",
            "level": rng.choice(["easy", "hard"]),
        }

    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([(name, pa.string()) for name in _COLUMNS])
        with pq.ParquetWriter(path, schema) as writer:
            for start in range(0, rows, 10_000):
                block = [row(number) for number in range(start, min(rows, start + 10_000))]
                writer.write_table(pa.Table.from_pylist(block, schema=schema))
        return
    with path.open("w", encoding="utf-8", newline="") as stream:
        if path.suffix == ".csv":
            writer = csv.DictWriter(stream, _COLUMNS)
            writer.writeheader()
            for number in range(rows):
                writer.writerow(row(number))
        else:
            for number in range(rows):
                stream.write(json.dumps(row(number)) + "\n")


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command in `folder` and return its seconds and its peak memory in MiB.

    Raises:
        SystemExit: it failed; its output is shown.
    """
    environment = os.environ | {
        "FTREG_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(REPOSITORY),
    }
    log = folder / "log.txt"
    began = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}:\n{log.read_text()}")
    scale = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return seconds, usage.ru_maxrss * scale / 2**20


def bench(rows: int, ending: str) -> list[dict[str, object]]:
    """Measure every command on generated rows of one kind."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train, held_out = folder / f"train{ending}", folder / f"eval{ending}"
        for path, count, seed in ((train, rows, 0), (held_out, HELD_OUT, 1)):
            # In a separate process: a child inherits its parent's peak memory.
            maker = multiprocessing.get_context("spawn").Process(
                target=generate, args=(path, count), kwargs={"seed": seed}
            )
            maker.start()
            maker.join()
        commands = {
            "import": [
                *_FTREG, "import", "bench", "--train", str(train), "--eval", str(held_out),
                "--map", "input=question", "--map", "reference=answer", "--map", "tags.topic=topic",
                "--map", "tags.level=level", "--cohort", "topic", "--cohort", "level",
                "--license", "CC0-1.0",
            ],
            "verify": [*_FTREG, "verify", "bench@1"],
            "show": [*_FTREG, "show", "bench@1"],
            "load, every row read": [sys.executable, "-c", _LOAD],
            "diff with itself": [*_FTREG, "diff", "bench@1", "bench@1"],
            "leaks": [*_FTREG, "leaks", "bench@1"],
        }  # fmt: skip
        found: list[dict[str, object]] = []
        for name, command in commands.items():
            seconds, memory = measure(command, folder)
            found.append({"command": name, "seconds": round(seconds, 1), "MiB": round(memory)})
            print(f"{rows:>9,} {ending:8} {name:22} {seconds:7.1f} s {memory:6.0f} MiB", flush=True)
        return found


def main() -> None:
    """Measure and print, and write the figures if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kinds", nargs="+", default=[".jsonl"], help=".jsonl .csv .parquet")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    found = {ending: bench(arguments.rows, ending) for ending in arguments.kinds}
    if arguments.output:
        record = {"rows": arguments.rows, "machine": platform.processor(), "commands": found}
        arguments.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
