"""`ftreg` for a shell, without seconds of imports per command.

A server imports everything once. A program called `ftreg` sends it its arguments, working folder,
environment and open files; the server forks, and the fork runs the command and returns its code.
"""

import contextlib
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Run by `python -SE`, which starts in 10 ms.
_PROGRAM = """\
#!{python} -SE
import json, os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(link, [len(asked).to_bytes(4, "big")], [0, 1, 2])
link.sendall(asked)
answer = link.recv(1)
sys.exit(answer[0] if answer else "ftreg was killed")
"""


@contextmanager
def ftreg_program(folder: Path) -> Iterator[Path]:
    """Start the server; yields a folder for PATH, below `folder`, with the program `ftreg`."""
    programs = folder / "bin"
    programs.mkdir()
    with tempfile.TemporaryDirectory() as short:  # a socket's path has at most 107 bytes
        address = f"{short}/ftreg"
        program = programs / "ftreg"
        program.write_text(_PROGRAM.format(python=sys.executable, address=address))
        program.chmod(0o755)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", address],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield programs
        finally:
            server.terminate()
            server.wait()


def _serve(address: str) -> None:
    # Import what the commands need, for the forks. Nothing here starts a thread.
    import accelerate  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch.distributed.checkpoint  # noqa: F401
    from transformers import (  # noqa: F401
        AutoModel,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    import ftreg.jobs.evaluate_and_gate
    import ftreg.report.history_plot
    import ftreg.report.html
    import ftreg.training.run  # noqa: F401

    # It reads the metadata of every package, so cache it for all commands.
    found = importlib.metadata.packages_distributions()
    importlib.metadata.packages_distributions = lambda: found

    signal.signal(signal.SIGCHLD, _reap)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    listening.settimeout(5)
    parent = os.getppid()
    print("ready", flush=True)
    while os.getppid() == parent:  # ends if the parent was killed
        try:
            link, _ = listening.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(link)
        link.close()


def _reap(*_: object) -> None:
    """Reap every fork that has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _answer(link: socket.socket) -> None:
    """Run the requested command in this process; does not return."""
    size, files, _, _ = socket.recv_fds(link, 4, 3)
    asked = b""
    while len(asked) < int.from_bytes(size, "big"):
        asked += link.recv(1 << 16)
    arguments, folder, environment = json.loads(asked)
    for number, file in enumerate(files):
        os.dup2(file, number)
    # Reopen the streams: the server's remember whether their old files were seekable.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, "")  # as for `python -m`: a scorer may be in the working folder
    sys.argv = ["ftreg", *arguments]
    code = 70
    try:
        from ftreg.__main__ import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    link.send(bytes([code]))
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1])
