"""The end of every command: a message and the corresponding exit code."""

import contextlib
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from ftreg import process
from ftreg.cli.shared.runner import tell_runner
from ftreg.config import custom_code
from ftreg.errors import ExitCode, FtregError
from ftreg.report.annotations import error_annotations, on_github
from ftreg.report.characters import visible

_NO_MEMORY = (
    "out of memory; lower the batch size (eval.batch_size, train.micro_batch_tokens), or give "
    "the process more"
)
_OUR_FAULT = "internal error: this is a bug in ftreg, please report it"
_INTERRUPTED = "interrupted; what was written before is kept"


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Turn what a command raises into a message on stderr and an exit code.

    A user error is one message without a traceback. Any unexpected error is a bug in ftreg and
    exits with 70, so that it never looks like a verdict of the gate.

    With --no-custom-code, a command that has this option rejects custom code; --debug shows causes.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        process.forget_signal()
        process.heed_signals()
        _refuse_few_addresses()
        try:
            refusing = kwargs.get("no_custom_code", False)
            with custom_code.forbid() if refusing else contextlib.nullcontext():
                function(*args, **kwargs)
            process.command_ended(ExitCode.OK)
        except typer.Exit as end:
            process.command_ended(end.exit_code)
            raise
        except FtregError as error:
            if kwargs.get("debug") and error.__cause__ is not None:
                traceback.print_exception(error.__cause__)
            _end(str(error), error.exit_code)
        except KeyboardInterrupt:
            _end(_INTERRUPTED, ExitCode.INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output is gone. Python would complain again when closing stdout, and
            # typer would exit with 1, which means a regression here.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(128 + signal.SIGPIPE) from None
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            _end(f"{place}{error.strerror or error}", ExitCode.USAGE)
        except SystemExit as end:
            # Nothing in ftreg exits this way: the command has not finished.
            traceback.print_exc()
            _end(
                f"loaded code called sys.exit({end.code!r}) before the command was done; a "
                "scorer, optimizer or model must not end the process",
                ExitCode.USAGE,
            )
        except BaseException as error:  # a panic in a Rust library is not an Exception
            if process.is_out_of_memory(error):
                _end(_NO_MEMORY, ExitCode.USAGE)
            # During an import, libraries may turn it into other exceptions.
            if process.signal_came():
                _end(_INTERRUPTED, ExitCode.INTERRUPTED)
            traceback.print_exc()
            _end(_OUR_FAULT, ExitCode.INTERNAL)

    return wrapped


def _refuse_few_addresses() -> None:
    limit = process.address_limit()
    if limit is not None and limit < process.LEAST_ADDRESSES:
        _end(
            f"this process may have {limit >> 20} MiB of addresses (ulimit -v), and needs "
            f"{process.LEAST_ADDRESSES >> 20} at the least",
            ExitCode.USAGE,
        )


def _end(message: str, code: ExitCode) -> NoReturn:
    with contextlib.suppress(OSError):  # the exit code must be right even if nobody reads
        message = visible(message)
        for line in message.split("\n"):
            typer.echo(f"ftreg: {line}" if not line.startswith(" ") else line, err=True)
        if on_github():
            tell_runner(error_annotations(message, title=f"ftreg ended with {int(code)}"))
    process.command_ended(code)
    raise typer.Exit(int(code))
