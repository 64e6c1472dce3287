"""What this process has, and what it was told: memory limit, processor, a signal, companions.

Python raises KeyboardInterrupt wherever it happens to be, and in the midst of an import or a
callback a library may swallow it. Whoever begins long work asks here whether that has happened.
Nothing is imported that takes a while, so that signals are heeded from the start.
"""

import os
import signal
from types import FrameType

_WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "failed to map segment",
    "can't start new thread",
)
LEAST_ADDRESSES = 1 << 30
"""Bytes of addresses below which the libraries of numbers cannot even be loaded: OpenBLAS then ends
the process with 1, which would say that a gate has found a regression."""


def address_limit() -> int | None:
    """Return the bytes of addresses that this process may have (`ulimit -v`); None for any."""
    try:
        import resource
    except ModuleNotFoundError:  # there are no such limits on Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit in (resource.RLIM_INFINITY, -1) else limit


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, whichever library raised it.

    torch has a class for accelerators only; its CPU allocator raises a plain RuntimeError, the
    loader of shared libraries an ImportError, and an extension that did not look at what it was
    given makes Python raise a SystemError.
    """
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, SystemError) and address_limit() is not None:
        return True
    text = str(error).lower()
    return any(words in text for words in _WORDS)


def cpu_facts(*names: str) -> list[str]:
    """Return the distinct values that `/proc/cpuinfo` has for some names, sorted; [] without it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return []
    pairs = (line.partition(":") for line in text.splitlines())
    return sorted({value.strip() for name, _, value in pairs if name.strip() in names})


def cpu_has_int8() -> bool:
    """Whether the processor says that it sums products of int8 in 32 bits."""
    flags = {flag for line in cpu_facts("flags") for flag in line.split()}
    return bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8"})


def ending_signals() -> list[signal.Signals]:
    """Return the signals that ask this process to end: Ctrl-C, a kill, a terminal that closes.

    The last only where the process was not told to outlive it, as `nohup` does.
    """
    found = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        found.append(hangup)
    return found


_signal_came = False


def heed_signals() -> None:
    """From now on, a signal that asks to end is remembered, and interrupts what goes on."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        remember_signal()
        raise KeyboardInterrupt

    for number in ending_signals():
        signal.signal(number, interrupt)


def forget_signal() -> None:
    """Begin anew: no signal has come."""
    global _signal_came
    _signal_came = False


def remember_signal() -> None:
    """A signal has come."""
    global _signal_came
    _signal_came = True


def signal_came() -> bool:
    """Whether a signal has come since `forget_signal`."""
    return _signal_came


def raise_missed_signal() -> None:
    """Raise KeyboardInterrupt where a signal came that was not heard.

    Raises:
        KeyboardInterrupt: `remember_signal` was called since `forget_signal`.
    """
    if _signal_came:
        raise KeyboardInterrupt


_ended: int | None = None


def command_ended(code: int) -> None:
    """A command has come to its end, with this exit code."""
    global _ended
    _ended = code


def how_command_ended() -> int | None:
    """Return the exit code that a command has come to; None where none has come to its end."""
    return _ended


def process_count() -> int:
    """Return how many processes train together, as their launcher says; 1 for one alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process speaks for those that train together; one alone does."""
    return int(os.environ.get("RANK", "0")) == 0
