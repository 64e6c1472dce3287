"""Stop a run between two steps on a signal."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from ftreg.process import ending_signals, raise_missed_signal


class Stop:
    """Whether a signal has asked to stop; `name` is its name."""

    name: str | None = None


@contextlib.contextmanager
def stop_on_signal(notice: Callable[[str], None]) -> Iterator[Stop]:
    """Yield a Stop that the first of `ending_signals` sets, instead of ending the program.

    The run finishes its step and saves its state before it ends. A second signal raises
    KeyboardInterrupt at once. Outside the main thread, where Python delivers no signals, no handler
    is installed.

    Args:
        notice: receives a sentence when the first signal arrives.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.name is not None:
            raise KeyboardInterrupt
        stop.name = signal.Signals(number).name
        notice(f"{stop.name}: stopping after this step; a second signal stops at once")

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
