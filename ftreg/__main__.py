"""`python -m ftreg`, which `accelerate launch -m ftreg` starts."""

import contextlib
import io
import os
import sys

# A spinning thread picks up its next work at once, but keeps other processes on a shared machine
# from using its core. Measured by training on two cores, in tokens/s on an idle machine and beside
# one busy process: 593 and 445 without spinning, 760 and 309 with this short spin, 742 and 213 with
# GNU OpenMP's default (300,000 rounds). LLVM and Intel OpenMP spin for a time in whole
# milliseconds, by default 200. OpenMP reads this when torch is loaded; a setting made by the user
# is kept. (`OMP_WAIT_POLICY=PASSIVE` would also disable the hundred rounds that GNU OpenMP spins
# with more threads than cores, as in a backward pass.)
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
    os.environ |= {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}

_UNFORESEEN = 70
_MISTAKE = 2
_INTERRUPTED = 130
_NOBODY_READS = 141


def main() -> None:
    """Run the command line, and exit with the command's code if it has finished.

    If anything else ends the process (a failed import, code that calls `sys.exit`, a panic in a
    library), it exits with 70 or 2: 0 and 1 are statements about a checkpoint.
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
        # Python would flush again at exit, fail again, and exit with 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _open_streams() -> None:
    """Open /dev/null for closed standard streams; else a record would get their descriptor.

    Raises:
        OSError: no more files can be opened.
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
    # OpenBLAS reserves memory for a thread per core when it is loaded, and exits with 1 if it gets
    # none. Nothing here depends on its threads.
    if address_limit() is not None:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from ftreg.cli.app import app
    from ftreg.cli.shared.runner import guard_streams

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that it cannot encode are no error
            stream.reconfigure(errors="backslashreplace")
    guard_streams()
    try:
        app(prog_name="ftreg")
    except SystemExit as end:  # how the parser exits, with a command's code or its own
        code = int(end.code or 0)
        if signal_came() and how_command_ended() is None:  # during parsing
            raise KeyboardInterrupt from None
        return _NOBODY_READS if code == 1 and how_command_ended() != 1 else code
    return 0


def _code_of(error: BaseException) -> int:
    """Report what ended the process, and return its exit code; import nothing that may fail."""
    process = sys.modules.get("ftreg.process")
    # During an import, an interruption can surface as any exception.
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
