"""Measure how commands scale with the number of evaluations, compared with a hundredth of it.

Each workspace has evaluations of 60 examples, all gated and each in the ledger of looks. A command
runs in a separate process: once with an empty cache, then several times, of which the fastest
counts. Prints CPU seconds, which other work on the machine affects little, and ratios; asserts
none. With `--outputs N` it measures a different load: N outputs generated elsewhere, evaluated
twice, gated and reported, with the peak memory of each command.
"""

import argparse
import contextlib
import datetime
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from ftreg.files.store import digest
from ftreg.notebook import gate, promote
from ftreg.records.looks import look_at, looks_folder
from tests.conftest import rows_of, write_dataset
from tests.report_fakes import make_dataset, make_evaluation

FIRST = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
COMMANDS = {
    "list": ("evaluations", "list"),
    "latest": ("evaluations", "export", "latest", "-o", "latest.csv"),
    "gate": ("gate", "baseline", "latest", "--json"),
    "history": ("history", "colours", "-o", "history.html"),
}


def write_sealed(path: Path, record: dict[str, object]) -> None:
    """Write a record with its digest, without the slow crash safety."""
    record.pop("digest", None)
    path.write_text(json.dumps({**record, "digest": digest(record)}), encoding="utf-8")


def fill(count: int) -> None:
    """Make the workspace in the working folder."""
    make_dataset(60)
    first = make_evaluation("first")
    promote(first, anchor=True)
    model = make_evaluation("second", scores={name: [0.79] * 60 for name in first.scores})
    gate(model)
    header = json.loads((model.folder / "evaluation.json").read_text("utf-8"))
    verdict = json.loads((model.folder / "gate.json").read_text("utf-8"))
    look = dict(look_at(model, baseline="first"))
    ledger = looks_folder(Path("baselines/colours.json"))
    for number in range(count):
        name = f"e{number:05d}"
        folder = Path("evaluations") / name
        folder.mkdir()
        for file in ("outputs.jsonl", "scores.jsonl"):
            os.link(model.folder / file, folder / file)
        created = (FIRST + datetime.timedelta(minutes=number)).isoformat(timespec="milliseconds")
        write_sealed(folder / "evaluation.json", {**header, "id": name, "created": created})
        write_sealed(folder / "gate.json", {**verdict, "candidate": name})
        seen = look | {"candidate": name, "created": created, "scores": digest(number)}
        write_sealed(ledger / f"{digest(seen)[:20]}.json", seen)


def used() -> float:
    """CPU seconds of the commands so far."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def seconds(arguments: tuple[str, ...]) -> float:
    """CPU seconds of a command, including its start."""
    before = used()
    done = subprocess.run(
        [sys.executable, "-m", "ftreg", *arguments], stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode not in (0, 1, 3):
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}")
    return used() - before


def measured(count: int, *, repeats: int) -> dict[str, tuple[float, float]]:
    """Command to seconds with an empty cache, and the best with a full one."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["FTREG_CACHE"] = f"{folder}/cache"
        fill(count)
        time.sleep(3)  # files younger than two seconds are not cached
        return {
            name: (seconds(command), min(seconds(command) for _ in range(repeats)))
            for name, command in COMMANDS.items()
        }


def measure_outputs(count: int) -> None:
    """Print CPU seconds and peak MiB of each command over `count` outputs."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["FTREG_CACHE"] = f"{folder}/cache"
        write_dataset(Path("datasets"), evaluation=rows_of(count))
        draw = random.Random(0)
        for name in ("first", "second"):
            with open(f"{name}.jsonl", "w", encoding="utf-8") as file:
                for row in rows_of(count):
                    answer = row["reference"][0] if draw.random() < 0.8 else "a colour"
                    file.write(json.dumps({"id": row["id"], "output": answer}) + "\n")
        data = ("--dataset", "colours@1", "-s", "dataset.root=datasets", "--no-gate", "--quiet")
        print("| command | s | MiB |\n| --- | ---: | ---: |")
        for command in (
            ("eval", "--outputs", "first.jsonl", "--name", "first", "--scorer", "equals", *data),
            ("promote", "latest"),
            ("eval", "--outputs", "second.jsonl", "--name", "second", "--scorer", "equals", *data),
            ("gate", "baseline", "latest", "--json"),
            ("report", "latest", "-o", "report.html"),
        ):
            before = used()
            child = subprocess.Popen(
                [sys.executable, "-m", "ftreg", *command], stdout=subprocess.DEVNULL
            )
            _, status, spent = os.wait4(child.pid, 0)
            code = child.returncode = os.waitstatus_to_exitcode(status)
            if code not in (0, 1, 3):
                raise SystemExit(f"{' '.join(command)} ended with {code}")
            print(f"| {command[0]} | {used() - before:.0f} | {spent.ru_maxrss >> 10:,} |")
        size = Path("report.html").stat().st_size / 2**20
        print(f"report.html: {size:.1f} MiB")


def main() -> None:
    """Measure both, and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--outputs", type=int, help="measure this number of outputs generated elsewhere"
    )
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    if asked.outputs:
        measure_outputs(asked.outputs)
        return
    few, many = (
        measured(count, repeats=asked.repeats)
        for count in (asked.evaluations // 100, asked.evaluations)
    )
    print(
        f"| command | {asked.evaluations // 100:,} | {asked.evaluations:,} | ratio | first time |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name, (first, best) in many.items():
        before = few[name][1]
        print(f"| {name} | {before:.2f} s | {best:.2f} s | {best / before:.1f} | {first:.1f} s |")


if __name__ == "__main__":
    main()
