"""Facts about this process: memory limit, processor, signals received, other processes.

Python raises KeyboardInterrupt wherever it happens to be, and a library may swallow it during an
import or a callback. Code that starts long work asks here whether that has happened. This module
imports nothing slow, so that signals are handled from the start.
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
"""Bytes of address space below which the numerical libraries cannot even be loaded: OpenBLAS then
exits with 1, which would mean that a gate has found a regression."""


def address_limit() -> int | None:
    """Return this process's address-space limit in bytes (`ulimit -v`); None if unlimited."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limits
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit in (resource.RLIM_INFINITY, -1) else limit


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory has run out, whichever library raised it.

    torch has an exception class for accelerators only; its CPU allocator raises a plain
    RuntimeError, the loader of shared libraries an ImportError, and an extension that does not
    check its allocations makes Python raise a SystemError.
    """
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, SystemError) and address_limit() is not None:
        return True
    text = str(error).lower()
    return any(words in text for words in _WORDS)


def cpu_facts(*names: str) -> list[str]:
    """Return the distinct values of these names in `/proc/cpuinfo`, sorted; [] without the file."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return []
    pairs = (line.partition(":") for line in text.splitlines())
    return sorted({value.strip() for name, _, value in pairs if name.strip() in names})


def cpu_has_int8() -> bool:
    """Whether the processor reports int8 products with 32-bit accumulation."""
    flags = {flag for line in cpu_facts("flags") for flag in line.split()}
    return bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8"})


def ending_signals() -> list[signal.Signals]:
    """Return the signals that ask this process to stop: Ctrl-C, a kill, a closed terminal.

    The last is included unless the process is meant to outlive its terminal, as under `nohup`.
    """
    found = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        found.append(hangup)
    return found


_signal_came = False


def heed_signals() -> None:
    """From now on, record a signal that asks to stop, and raise KeyboardInterrupt."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        remember_signal()
        raise KeyboardInterrupt

    for number in ending_signals():
        signal.signal(number, interrupt)


def forget_signal() -> None:
    """Forget any signal received so far."""
    global _signal_came
    _signal_came = False


def remember_signal() -> None:
    """Record that a signal has arrived."""
    global _signal_came
    _signal_came = True


def signal_came() -> bool:
    """Whether a signal has arrived since `forget_signal`."""
    return _signal_came


def raise_missed_signal() -> None:
    """Raise KeyboardInterrupt if a signal has arrived, even if a library swallowed it.

    Raises:
        KeyboardInterrupt: `remember_signal` was called since `forget_signal`.
    """
    if _signal_came:
        raise KeyboardInterrupt


_ended: int | None = None


def command_ended(code: int) -> None:
    """Record that a command has finished, with this exit code."""
    global _ended
    _ended = code


def how_command_ended() -> int | None:
    """Return the exit code of the command that has finished; None if none has."""
    return _ended


def process_count() -> int:
    """Return how many processes train together, according to the launcher; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this is the main process of those that train together; a single one is."""
    return int(os.environ.get("RANK", "0")) == 0
