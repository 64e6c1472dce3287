"""Kill `ftreg eval` with SIGKILL, run it again, and compare with an undisturbed run.

Run by a test, in a workspace with `checkpoints/a`: `python eval_kill_trials.py TRIALS OPTION ...`.
Everything is imported once; each command runs in a fork of this process. The last line is JSON.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import ftreg.generation.in_process
import ftreg.jobs.evaluate_and_gate  # noqa: F401
from ftreg.cli.app import app
from ftreg.files.cache.table import Table

torch.set_num_threads(1)  # a fork must not inherit a pool of threads
counts = {"trials": 0, "kills": 0, "kills_in_a_write": 0, "taken": 0, "different": 0}


def start(
    cache: Path,
    options: list[str],
    *,
    delay: float | None = None,
    write: int | None = None,
    once: Path | None = None,
    said: Path | None = None,
) -> int:
    """Start `ftreg eval` in a fork, and return its process id.

    It is killed after `delay` seconds, or while storing its `write`-th output, but then not before
    the file `once` exists. Its stderr goes to the file `said`.
    """
    child = os.fork()
    if child:
        return child
    os.environ["FTREG_CACHE"] = str(cache)
    if said is not None:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT, 0o600), 2)
    if write is not None:
        die_in_write(write, once)
    if delay is not None:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
    try:
        app(["eval", "checkpoints/a", "--no-gate", "--quiet", *options])
    except SystemExit as end:
        os._exit(int(end.code or 0))
    os._exit(1)


def wait(child: int) -> int:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"the evaluation ended with {status}")
    return status


def die_in_write(number: int, once: Path | None) -> None:
    real, left = Table._trim, number

    def dying(table: Table, connection: sqlite3.Connection, fresh: int) -> None:
        nonlocal left
        left -= table.path.stem == "outputs"
        if left == 0:
            if once is not None:
                until(once.exists)
            os.kill(os.getpid(), signal.SIGKILL)
        real(table, connection, fresh)

    Table._trim = dying  # type: ignore[method-assign]


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError("what was waited for did not happen within two minutes")
        time.sleep(0.02)


def rows(cache: Path) -> list[bytes]:
    """Return the keys of the stored outputs, in order of insertion."""
    path = cache / "tables" / "outputs.sqlite"
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
        try:
            found = connection.execute("SELECT key FROM kept ORDER BY rowid").fetchall()
        except sqlite3.OperationalError:  # the table does not exist yet
            return []
    return [key for (key,) in found]


def evaluation() -> tuple[str, dict[str, Any]]:
    """Return the outputs and generation record of the only evaluation, and remove it."""
    (folder,) = (path.parent for path in Path("evaluations").glob("*/evaluation.json"))
    outputs = (folder / "outputs.jsonl").read_text()
    header = json.loads((folder / "evaluation.json").read_text())
    shutil.rmtree("evaluations")
    return outputs, header["generation"]


def check(cache: Path, options: list[str], expected: str, total: int) -> None:
    """Run an evaluation to its end, and compare it with the undisturbed one."""
    before = rows(cache)
    assert wait(start(cache, options)) == 0
    outputs, record = evaluation()
    after = rows(cache)
    assert after[: len(before)] == before  # stored outputs are kept
    assert len(after) == len(set(after)) == total
    assert record["taken"] == len(before)
    counts["trials"] += 1
    counts["taken"] += len(before)
    counts["different"] += outputs != expected
    shutil.rmtree(cache)


def main() -> None:
    trials, options = int(sys.argv[1]), sys.argv[2:]
    generator = random.Random(0)
    began = time.monotonic()
    assert wait(start(Path("cache-whole"), options)) == 0
    seconds = time.monotonic() - began
    expected, _ = evaluation()
    total = len(rows(Path("cache-whole")))
    texts = {json.loads(line)["output"] for line in expected.splitlines()}
    assert len(texts) == total, "outputs that are alike would not show one in another's place"
    for trial in range(trials):
        cache = Path(f"cache-{trial}")
        killed = wait(start(cache, options, delay=generator.uniform(0.2, 0.9) * seconds)) != 0
        counts["kills"] += killed
        shutil.rmtree("evaluations", ignore_errors=True)
        check(cache, options, expected, total)
        # Kill within a write; twice in every other trial.
        for write in (2 + trial, 1)[: 1 + trial % 2]:
            assert wait(start(cache, options, write=write)) == -signal.SIGKILL
            counts["kills"] += 1
            counts["kills_in_a_write"] += 1
        check(cache, options, expected, total)
    if trials > 1:
        two_at_once(options, expected, total)
    print(json.dumps(counts))


def two_at_once(options: list[str], expected: str, total: int) -> None:
    """Run two evaluations of the same outputs; then two, and kill the one that generates."""
    cache = Path("cache-two")
    assert [wait(child) for child in [start(cache, options), start(cache, options)]] == [0, 0]
    both = {path.read_text() for path in Path("evaluations").glob("*/outputs.jsonl")}
    assert len(list(Path("evaluations").glob("*/evaluation.json"))) == 2
    assert both == {expected}
    shutil.rmtree("evaluations")
    assert len(rows(cache)) == len(set(rows(cache))) == total
    shutil.rmtree(cache)
    go, said = Path("go"), Path("said")
    first = start(cache, options, write=3, once=go)
    until(lambda: len(rows(cache)) > 0)  # from here on the first holds the lock
    second = start(cache, options, said=said)
    until(lambda: said.exists() and "waiting for it" in " ".join(said.read_text().split()))
    go.touch()
    assert wait(first) == -signal.SIGKILL
    assert wait(second) == 0
    outputs, _ = evaluation()
    counts["different"] += outputs != expected
    assert len(rows(cache)) == len(set(rows(cache))) == total


main()
