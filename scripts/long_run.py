"""Look for leaks in long runs of ftreg: memory, threads, open files, disk.

A tiny random model is trained for many steps in one process, with states saved throughout; then
evaluated, gated, scored and reported on many times in that process; then gated by one process
after another. Counts after a warm-up are fitted (Theil-Sen), and the growth is compared with the
bound in the table. Exits with 1 if a bound is exceeded. 12,500 steps are what the packaged 135M
model takes in ten hours on two cores.
"""

import argparse
import ctypes
import gc
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import psutil
from scipy.stats import theilslopes
from typer.main import get_command

import ftreg
from ftreg.files.cache.entries import cache_entries, measure
from ftreg.files.cache.folder import cache_folder
from ftreg.training.events import Silent, StepRecord
from ftreg.training.run import train as run_training
from tests.conftest import make_model, rows_of, write_dataset

ROOT = Path(__file__).parent.parent
WARM_UP = 0.25
"""Share of the samples that the fits leave out."""
NOISE = 8 * 2**20
"""Bytes by which a short run's memory may grow in total: allocators keep freed memory."""
KEEP = 3
LIMITS = {"outputs": 400_000, "vectors": 2_000_000}
_CONFIG = """\
base: {{model: {model}}}
dataset: {{version: colours@1, root: datasets}}
optimizer: {{name: adamw, lr: 1e-4}}
train: {{batch_size: 4, precision: fp32, threads: 1, max_steps: {steps}, epochs: 1000000,
  save_steps: {save_steps}, save_total_limit: {keep}}}
eval: {{max_new_tokens: 4, scorers: [{scorers}]}}
gate: {{margin: 0.03, min_examples: 4}}
"""

OBJECTS = 8_000
"""Python memory blocks by which a short run may grow in total: libraries fill their caches."""
_LIBC = ctypes.CDLL("libc.so.6") if platform.libc_ver()[0] == "glibc" else None


@dataclass
class Samples:
    """Counts taken every few steps or rounds: memory in bytes, objects, files, threads."""

    at: list[int] = field(default_factory=list)
    counted: dict[str, list[float]] = field(default_factory=dict)

    def take(self, at: int, **more: float) -> None:
        """Count this process's resources, and add the caller's own counts (`more`)."""
        # Python collects cycles only after 25 % more objects than the last time, and glibc keeps
        # freed pages: for hundreds of rounds both look like growth.
        gc.collect()
        if _LIBC is not None:
            _LIBC.malloc_trim(0)
        process = psutil.Process()
        self.at.append(at)
        found = {
            # Without shared pages: reading a mapped file is not growth.
            "memory": process.memory_full_info().uss,
            "objects": sys.getallocatedblocks(),
            "files": process.num_fds() if hasattr(process, "num_fds") else 0,
            "threads": process.num_threads(),
        }
        for name, value in {**found, **more}.items():
            self.counted.setdefault(name, []).append(value)

    def behind_warm_up(self, name: str) -> tuple[list[int], list[float]]:
        """Return the positions and values of the samples after the warm-up."""
        first = int(len(self.at) * WARM_UP)
        return self.at[first:], self.counted[name][first:]

    def slope(self, name: str) -> float:
        """Return the median growth per step or round (Theil 1950, Sen 1968)."""
        at, values = self.behind_warm_up(name)
        return float(theilslopes(values, at)[0])

    def most(self, name: str) -> float:
        """Return the maximum after the warm-up."""
        return max(self.behind_warm_up(name)[1])


@dataclass
class Finding:
    """A measured value and its bound."""

    part: str
    what: str
    value: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the value is within its bound."""
        return self.value <= self.bound


def growth(part: str, samples: Samples, unit: str, bounds: dict[str, float]) -> Iterator[Finding]:
    """Yield the growth per `unit` of each bounded count, and the final files and threads."""
    for name, bound in bounds.items():
        yield Finding(part, f"{name}, growth per {unit}", round(samples.slope(name), 3), bound)
    for name in ("files", "threads"):
        first, rest = samples.behind_warm_up(name)[1], samples.counted[name]
        begun = max(first[: max(1, len(first) // 4)])
        yield Finding(part, f"open {name} at the end", rest[-1], begun)


class Watching(Silent):
    """Takes a sample every `every` steps."""

    def __init__(self, samples: Samples, states: Path, *, every: int) -> None:
        self.samples, self.states, self.every = samples, states, every

    def step(self, record: StepRecord) -> None:
        """Take a sample if it is due."""
        if record.step % self.every == 0:
            self.samples.take(
                record.step,
                disk=measure([self.states])[0],
                states=len(list(self.states.glob("*step-*"))),
            )


def train(config: Path, *, steps: int) -> list[Finding]:
    """Train, and return the growth and what is left on disk."""
    samples = Samples()
    output = Path("checkpoints/long")
    watching = Watching(samples, output.with_name("long.state"), every=max(1, steps // 500))
    began = time.monotonic()
    run_training(ftreg.load_config(config), output=output, events=watching)
    print(f"trained {steps} steps in {time.monotonic() - began:.0f} s", file=sys.stderr)
    part = f"training, {steps:,} steps"
    found = list(
        growth(
            part,
            samples,
            "step",
            # A step's record stays in memory until the checkpoint's history is written, and is in
            # the history of each kept state and in that of the run.
            {
                "memory": max(1024.0, NOISE / steps),
                "objects": max(12.0, OBJECTS / steps),
                "disk": 512.0 * (KEEP + 1),
            },
        )
    )
    left = [path for path in Path("checkpoints").iterdir() if path != output]
    return [
        *found,
        Finding(part, "most states on disk", samples.most("states"), KEEP),
        Finding(part, "files and folders left beside the checkpoint", len(left), 0),
        Finding(part, "memory at the end, MiB", round(samples.counted["memory"][-1] / 2**20), 4096),
    ]


def commands() -> Callable[..., None]:
    """Return a function that runs a command of ftreg in this process.

    The commands are built once and write to one stream. typer's `CliRunner` rebuilds everything and
    creates new streams on each call, and typer never frees these
    (`typer._click._compat._make_cached_stream_func`: a weak dictionary whose values hold their
    keys), so the measured growth would be typer's.
    """
    from ftreg.cli.app import app

    command, shown = get_command(app), io.StringIO()

    def run(*arguments: str) -> None:
        shown.seek(0)
        shown.truncate()
        code: object = 0
        with redirect_stdout(shown), redirect_stderr(shown):
            try:
                command.main(list(arguments), prog_name="ftreg")
            except SystemExit as end:
                code = end.code or 0
        if code not in (0, 1, 3):
            raise SystemExit(f"{arguments}: exit {code}\n{shown.getvalue()}")

    return run


def rounds(config: Path, *, count: int) -> list[Finding]:
    """Evaluate, gate, score and report `count` times in this process."""
    run = commands()
    rows = [{**row, "output": row["reference"][0]} for row in rows_of(64)]
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    run("eval", "long", "--no-gate", "-q")
    run("promote", "latest")
    samples = Samples()
    for number in range(count):
        # Every fourth round generates different outputs, so that the caches have to evict.
        tokens = 5 + number // 4 % 60 if number % 4 == 0 else 4
        run("eval", "long", "-q", "-s", f"eval.max_new_tokens={tokens}", "--no-gate")
        run("eval", "long", "-q")
        run("gate", "baseline", "latest")
        run("report", "latest")
        if sys.stderr.isatty():
            print(f"\rround {number + 1} of {count}", end="", file=sys.stderr)
        run("score", "rows.jsonl", "-o", f"scored-{number}.jsonl", "--scorer", "equals")
        samples.take(
            number,
            cache=sum(measure([cache_folder(kind)])[0] for kind in ("tables", "arrow")),
            records=measure([Path("evaluations")])[0],
        )
    # Evaluations are records and are kept, each with outputs, scores and two report files.
    bounds = {
        "memory": max(16 * 1024.0, NOISE / count),
        "objects": max(200.0, OBJECTS / count),
        "records": 1024 * 1024,
    }
    part = f"{count:,} rounds of eval, eval, gate, report and score"
    stray = [path for path in Path().rglob(".tmp-*") if "cache" not in path.parts]
    kept, vectors = (
        sum(item.size for item in cache_entries(kind)) for kind in ("outputs", "vectors")
    )
    return [
        *growth(part, samples, "round", bounds),
        Finding(part, "cache of outputs, bytes", kept, LIMITS["outputs"]),
        Finding(part, "cache of vectors, bytes", vectors, LIMITS["vectors"]),
        Finding(part, "half-written files", len(stray), 0),
    ]


def processes(*, count: int) -> list[Finding]:
    """Gate, promote and score `count` times in separate processes; returns what is left on disk."""

    def there() -> set[Path]:
        return {path for path in Path().rglob("*") if path.is_file()}

    command = [sys.executable, "-m", "ftreg"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before: set[Path] = set()
    size = 0
    for number in range(count + 2):
        for arguments in (
            ["gate", "baseline", "latest"],
            ["promote", "latest", "--force", "--why", "again"],
            ["score", "rows.jsonl", "-o", "scored-0.jsonl", "--scorer", "equals"],
        ):
            Path("scored-0.jsonl").unlink(missing_ok=True)
            done = subprocess.run([*command, *arguments], env=environment, capture_output=True)
            if done.returncode not in (0, 1, 3):
                raise SystemExit(f"{arguments}: {done.stderr.decode()}")
        # Count from the second on: only then is the baseline gated against itself, a new look.
        if number == 1:
            before, size = there(), measure([cache_folder()])[0]
    part = f"{count:,} processes each of gate, promote and score"
    pages = 2 * 4096  # SQLite's tables grow by whole pages, wherever a row happens to go
    return [
        Finding(part, "more files than after the second", len(there() - before), 0),
        Finding(part, "growth of the cache, bytes", measure([cache_folder()])[0] - size, pages),
    ]


def workplace(folder: Path, *, steps: int, save_steps: int) -> Path:
    """Create a workspace with model, dataset and configuration, and change to it."""
    os.chdir(folder)
    models = cache_folder("models")
    os.environ["FTREG_CACHE"] = str(folder / "cache")
    os.environ["FTREG_CACHE_LIMITS"] = ",".join(f"{k}={v}" for k, v in LIMITS.items())
    scorers = ["equals"]
    if any(models.glob("all-minilm*/ftreg-model.json")):
        scorers.append("answer_relevancy")
        (folder / "cache").mkdir()
        (folder / "cache" / "models").symlink_to(models)
    write_dataset(folder / "datasets", train=rows_of(64, "t"), evaluation=rows_of(64))
    config = folder / "run.yaml"
    config.write_text(
        _CONFIG.format(
            model=make_model(folder / "tiny"),
            steps=steps,
            save_steps=save_steps,
            keep=KEEP,
            scorers=", ".join(scorers),
        ),
        encoding="utf-8",
    )
    return config


def main() -> int:
    """Run the parts and print the table; returns 1 if a bound is exceeded, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12_500)
    parser.add_argument("--save-steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--output", type=Path, help="the findings as JSON")
    options = parser.parse_args()
    output = options.output.absolute() if options.output else None
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        config = workplace(Path(name), steps=options.steps, save_steps=options.save_steps)
        parts: list[Callable[[], list[Finding]]] = [
            lambda: train(config, steps=options.steps),
            lambda: rounds(config, count=options.rounds),
            lambda: processes(count=options.processes),
        ]
        found: list[Finding] = []
        for part in parts:
            began = time.monotonic()
            for item in part():
                found.append(item)
                print(
                    f"| {item.part} | {item.what} | {item.value:,g} | {item.bound:,g} | "
                    f"{'yes' if item.holds else '**no**'} |",
                    flush=True,
                )
            print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
        os.chdir(home)
    if output is not None:
        where: dict[str, Any] = {"python": platform.python_version(), "ftreg": ftreg.__version__}
        rows = [{**vars(item), "holds": item.holds} for item in found]
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps({**where, "findings": rows}, indent=2), encoding="utf-8")
    return 0 if all(item.holds for item in found) else 1


if __name__ == "__main__":
    sys.exit(main())
