"""End a run between two steps when the process is told to."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from ftreg.process import ending_signals, raise_missed_signal


class Stop:
    """Whether a signal has asked for the end; `name` is the signal's."""

    name: str | None = None


@contextlib.contextmanager
def stop_on_signal(notice: Callable[[str], None]) -> Iterator[Stop]:
    """Yield a Stop that the first of `ending_signals` sets, instead of ending the program there.

    A step is finished, and its state saved, before the run ends. A second signal ends it at once
    (KeyboardInterrupt). Outside of the main thread, where Python delivers no signals, nothing is
    installed.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.name is not None:
            raise KeyboardInterrupt
        stop.name = signal.Signals(number).name
        notice(f"{stop.name}: ending after this step; once more ends at once")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    raise_missed_signal()
    before = {number: signal.signal(number, ask) for number in ending_signals()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
