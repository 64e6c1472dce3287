"""Progress of training and evaluation: bars on a terminal, plain lines elsewhere. To stderr."""

import os
import sys
import time
from typing import TYPE_CHECKING, Self

import psutil
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from ftreg.report.console import InertConsole

if TYPE_CHECKING:
    from ftreg.training.events import StepRecord

_SECONDS_BETWEEN_LINES = 5.0


class _Console(InertConsole):
    """Unread progress must not end the process; rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        """Stop printing."""
        self.quiet = True
        # Buffered output would fail again when Python closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


class Bars:
    """One line of progress at a time; use it as a context manager.

    It listens to training (`phase`, `preparing`, `start`, `step`) and to evaluation (`phase`,
    `progress`).

    Args:
        quiet: no progress; notices are still printed.
        silent: no output, for processes of a group that another one speaks for.
    """

    def __init__(self, *, quiet: bool = False, silent: bool = False) -> None:
        self._console = _Console(stderr=True, highlight=False, quiet=silent)
        self._quiet = quiet or silent
        self._live = self._console.is_terminal and not self._quiet
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=14),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            disable=not self._live,
        )
        self._task: TaskID | None = None
        self._what = ""
        self._total = 0
        self._last_line = 0.0
        self._began = 0.0
        self._done_before = 0
        self._validation = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Remove the bars, to free the terminal for a result."""
        self._progress.stop()

    def phase(self, text: str) -> None:
        """Show what is being prepared."""
        self._begin(text, None)

    def notice(self, text: str) -> None:
        """Print a permanent line."""
        self._console.print(f"note: {text}", soft_wrap=True, markup=False)

    def preparing(self, done: int, total: int) -> None:
        """This many examples are tokenised."""
        self.progress("tokenising", done, total)

    def start(self, total_steps: int, done: int) -> None:
        """The training steps begin."""
        self._validation = ""
        self._begin("training", total_steps, done=done)

    def step(self, record: "StepRecord") -> None:
        """One optimizer step is done."""
        held = psutil.Process().memory_info().rss / 2**30
        there = f" + {record.device_gib:.1f} GiB" if record.device_gib is not None else ""
        if record.validation_loss is not None:
            self._validation = f"  validation {record.validation_loss:.3f}"
        detail = (
            f"loss {record.loss:.3f}{self._validation}  {record.tokens_per_second:.0f} tokens/s  "
            f"{held:.1f} GiB{there}"
        )
        self._advance(record.step, detail, extra=f"lr {record.lr:.2e}")

    def progress(self, what: str, done: int, total: int) -> None:
        """This many items of a stage are done."""
        if what != self._what:
            self._begin(what, total)
        self._total = total
        self._advance(done, "")

    def _begin(self, what: str, total: int | None, *, done: int = 0) -> None:
        self._what, self._total, self._began = what, total or 0, time.monotonic()
        self._done_before = done
        self._last_line = self._began
        if self._live:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(
                what, total=total, completed=done, count="", detail=""
            )
        elif not self._quiet:
            self._line(what)

    def _advance(self, done: int, detail: str, *, extra: str = "") -> None:
        if self._task is not None:
            count = f"{done}/{self._total}"
            self._progress.update(
                self._task, completed=done, total=self._total or None, count=count, detail=detail
            )
        now = time.monotonic()
        if self._live or self._quiet or done == 0:
            return
        if done == self._total or now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            each = (now - self._began) / max(1, done - self._done_before)
            left = each * (self._total - done)
            parts = [f"{self._what} {done}/{self._total}", detail, extra, f"{left:.0f} s left"]
            self._line("  ".join(part for part in parts if part))

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)
        sys.stderr.flush()
