"""Run commands as forks of one process with all imports done, with injected faults.

If there is a C compiler, the process runs under `shim.c`, which `Fault.arm` activates.
"""

import contextlib
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITE, OPEN, SYNC, RENAME, MAKE, REMOVE = (1 << bit for bit in range(6))
EVERY = 63
KILL = -1
_SOURCE = Path(__file__).with_name("shim.c")
_PATIENCE = 180


def build_shim(folder: Path) -> Path | None:
    """Compile the shim; None without a C compiler, or on other systems than Linux."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    target = folder / "shim.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-w", "-o", target, _SOURCE, "-ldl"], check=True
    )
    return target


def has_shim() -> bool:
    return "shim.so" in os.environ.get("LD_PRELOAD", "")


def warm() -> None:
    """Import what the commands need, once for all forks."""
    import torch

    torch.set_num_threads(1)  # a fork must not inherit a pool of threads
    for module in (
        "ftreg.cli.app", "ftreg.jobs.compare", "ftreg.jobs.evaluate_and_gate",
        "ftreg.generation.in_process",
        "ftreg.generation.served", "ftreg.jobs.gate", "ftreg.jobs.report", "ftreg.jobs.train",
        "ftreg.report.ci", "ftreg.report.terminal", "ftreg.config.load", "ftreg.data.freezing",
        "ftreg.data.leakage", "ftreg.scoring.rubric", "ftreg.training.optim.advice",
        "ftreg.training.replicate", "ftreg.training.run",
        "ftreg.report.html", "ftreg.report.history_plot",
        "ftreg.training.trackers", "peft", "scipy.stats", "tests.fakes",
        "ftreg.gate.stats", "ftreg.gate.bootstrap",
    ):  # fmt: skip
        with contextlib.suppress(ModuleNotFoundError):
            __import__(module)
    # Load a template now: a fork without privileges may not read Python's library.
    from ftreg.report import html, rendering

    rendering.asset("report.css")
    html.page_environment().get_template("report.html")


@dataclass(frozen=True, slots=True)
class Fault:
    """Let the `nth` operation of `kinds` below a folder fail with `error`, or kill the process."""

    nth: int = 0
    error: int = 0
    always: bool = False
    kinds: int = EVERY
    log: Path | None = None

    def arm(self, below: Path) -> None:
        library = ctypes.CDLL(None)
        library.torture_arm.argtypes = [
            ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int,
        ]  # fmt: skip
        log = -1 if self.log is None else os.open(self.log, os.O_WRONLY | os.O_CREAT, 0o600)
        library.torture_arm(
            os.fsencode(os.path.realpath(below)),
            self.nth, self.error, self.always, self.kinds, log,
        )  # fmt: skip


def set_clock(seconds: int) -> None:
    library = ctypes.CDLL(None)
    library.torture_clock.argtypes = [ctypes.c_long]
    library.torture_clock(seconds)


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended; `code` is negative if a signal ended it."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether there is no traceback, and no exit code 70 (a bug) or 1."""
        return "Traceback (most recent call last)" not in self.err and self.code not in (70, 1)

    def brief(self) -> str:
        text = " | ".join(line for line in self.err.splitlines() if line.strip())
        return f"exit {self.code}: {text[-400:]}"


class Process:
    """A command that runs in a fork; call `wait` for its end."""

    def __init__(
        self,
        arguments: Iterable[object],
        *,
        cwd: Path,
        before: Callable[[], object] | None = None,
        kill_after: float | None = None,
    ) -> None:
        handle, name = tempfile.mkstemp(prefix="torture-", suffix=".err")
        os.close(handle)
        self._err = Path(name)
        self._out = Path(f"{name}.out")
        self._began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._child([str(argument) for argument in arguments], cwd, before, kill_after)
            finally:
                os._exit(1)

    def _child(
        self,
        arguments: list[str],
        cwd: Path,
        before: Callable[[], object] | None,
        kill_after: float | None,
    ) -> None:
        for number, path in ((1, self._out), (2, self._err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
        os.chdir(cwd)
        os.environ["FTREG_CACHE"] = str(cwd / "cache")
        os.environ["TMPDIR"] = str(cwd / "tmp")
        tempfile.tempdir = None
        os.environ["COLUMNS"] = "200"
        code = 1
        try:
            if kill_after is not None:
                threading.Timer(kill_after, os.kill, (os.getpid(), signal.SIGKILL)).start()
            from ftreg.cli.app import app

            if before is not None:
                before()
            app(arguments, prog_name="ftreg")
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    def wait(self, patience: float = _PATIENCE) -> Done:
        timer = threading.Timer(patience, os.kill, (self.pid, signal.SIGABRT))
        timer.start()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        timer.cancel()
        seconds = time.monotonic() - self._began
        out, err = (
            path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            for path in (self._out, self._err)
        )
        for path in (self._out, self._err):
            path.unlink(missing_ok=True)
        return Done(status, out, err, seconds)


def run(
    *arguments: object,
    cwd: Path,
    before: Callable[[], object] | None = None,
    fault: Fault | None = None,
    kill_after: float | None = None,
) -> Done:
    """Run `ftreg ARGUMENTS` in a folder and wait until it ends."""

    def prepare() -> None:
        if before is not None:
            before()
        if fault is not None:
            fault.arm(cwd)

    return Process(arguments, cwd=cwd, before=prepare, kill_after=kill_after).wait()


@dataclass
class Part:
    """Counts and failures of one part of the suite."""

    name: str
    trials: int = 0
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    skipped: str | None = None

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    def fail(self, text: str) -> None:
        self.failures.append(text)


@dataclass(frozen=True, slots=True)
class Trial:
    """Counts of events in one trial, and its failures."""

    counts: dict[str, int]
    failures: list[str]


@dataclass(frozen=True, slots=True)
class Suite:
    """The settings of a run of the suite.

    `scale` is 1.0 for the whole suite and less for the short one; `seed` determines every random
    choice.
    """

    scale: float
    world: Path
    scratch: Path
    processes: int
    deadline: float
    """When the part has to end, by `time.monotonic`."""
    seed: int = 0

    def some(self, number: int, *, least: int = 1) -> int:
        return max(least, round(number * self.scale))

    def choose(self, items: list[Any], number: int) -> list[Any]:
        """Draw at most `number` of them at random, in their order."""
        if len(items) <= number:
            return items
        places = sorted(random.Random(self.seed).sample(range(len(items)), number))
        return [items[place] for place in places]

    @contextlib.contextmanager
    def copy(self, *, of: Path | None = None) -> Any:
        """Yield a temporary copy of the world, or of another folder, for one trial."""
        folder = Path(tempfile.mkdtemp(dir=self.scratch)) / "w"
        shutil.copytree(self.world if of is None else of, folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)

    def each(self, part: Part, work: Callable[[Any], Trial], items: list[Any]) -> None:
        """Run a part's trials in random order, several at a time, until the time is up."""
        import multiprocessing

        items = list(items)
        random.Random(self.seed).shuffle(items)
        done = 0
        with multiprocessing.get_context("fork").Pool(self.processes) as pool:
            # A started trial is completed, so that it unmounts what it has mounted.
            for found in pool.imap_unordered(_guarded(work, self.deadline), items):
                if found is None:
                    continue
                done += 1
                for what, number in found.counts.items():
                    part.count(what, number)
                part.failures += found.failures
        part.trials += done
        if done < len(items):
            part.count("not reached in time", len(items) - done)


class _guarded:
    """Wraps a trial: its own error becomes a failure; None if the time is up."""

    def __init__(self, work: Callable[[Any], Trial], deadline: float) -> None:
        self._work, self._deadline = work, deadline

    def __call__(self, item: Any) -> Trial | None:
        if time.monotonic() > self._deadline:
            return None
        try:
            return self._work(item)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            return Trial({}, [f"{item}: {error!r} ({Path(where.filename).name}:{where.lineno})"])
