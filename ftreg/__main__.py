"""`python -m ftreg`, which is what `accelerate launch -m ftreg` starts."""

import contextlib
import io
import os
import sys

# A thread that waits by spinning finds its next work at once, and keeps a neighbour on a shared
# machine from its core. Measured by training on two cores, in tokens/s on an idle machine and
# beside one busy process: 593 and 445 without spinning, 760 and 309 with so short a spin, 742 and
# 213 with GNU OpenMP's own (300,000 rounds). LLVM's and Intel's count time, by default 200 ms, of
# which the least above none is a whole one. OpenMP reads this when torch is loaded; who sets
# anything of it keeps their own choice. (`OMP_WAIT_POLICY=PASSIVE` would also end the hundred
# rounds that GNU's spins with more threads than cores, as in a backward pass.)
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
    os.environ |= {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}

_UNFORESEEN = 70
_MISTAKE = 2
_INTERRUPTED = 130
_NOBODY_READS = 141


def main() -> None:
    """Run the command line, and end with the code of a command that has come to its end.

    Whatever else ends the process (an import that fails, code that calls `sys.exit`, a library's
    panic) ends it with 70 or 2: 0 and 1 say something of a checkpoint.
    """
    try:
        _open_streams()
        code = _run()
    except BaseException as error:
        code = _code_of(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _told(f"ftreg: standard output: {error}", code or _MISTAKE)
        # Python would flush again as it ends, fail again, and end with 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _open_streams() -> None:
    """Give /dev/null to standard streams that are closed: a record would be opened in their place.

    Raises:
        OSError: no more files may be opened.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _run() -> int:
    from ftreg.process import address_limit, heed_signals, how_command_ended, signal_came

    heed_signals()
    # OpenBLAS reserves memory for a thread per core as it is loaded, and ends the process with 1
    # where it gets none. Nothing here leans on its threads.
    if address_limit() is not None:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from ftreg.cli.app import app
    from ftreg.cli.shared.runner import guard_streams

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that a stream cannot hold is no fault
            stream.reconfigure(errors="backslashreplace")
    guard_streams()
    try:
        app(prog_name="ftreg")
    except SystemExit as end:  # how the parser ends, with a command's code or its own
        code = int(end.code or 0)
        if signal_came() and how_command_ended() is None:  # while arguments were read
            raise KeyboardInterrupt from None
        return _NOBODY_READS if code == 1 and how_command_ended() != 1 else code
    return 0


def _code_of(error: BaseException) -> int:
    """Tell of what ended the process, and return its exit code; import nothing that may fail."""
    process = sys.modules.get("ftreg.process")
    # In the midst of an import, an interruption becomes whatever Python makes of it.
    if isinstance(error, KeyboardInterrupt) or (process and process.signal_came()):
        return _told("ftreg: interrupted", _INTERRUPTED)
    if isinstance(error, OSError):
        return _told(f"ftreg: {error}", _MISTAKE)
    with contextlib.suppress(Exception):
        import traceback

        return _told("".join(traceback.format_exception(error)), _UNFORESEEN)
    return _told(f"ftreg: {error!r}", _UNFORESEEN)


def _told(text: str, code: int) -> int:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text.rstrip()}\n")
    return code


if __name__ == "__main__":
    main()
