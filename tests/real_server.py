"""Real OpenAI-compatible servers on loopback, each with one model."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PATIENCE = 300
"""Seconds to wait for a server to start."""


@contextmanager
def serve(model_folder: Path) -> Iterator[str]:
    """Serve a model folder with `transformers serve` until the block ends; yields `base_url`.

    The model's name is `str(model_folder)`; no other is accepted. The server accepts a response
    schema but does not enforce it.

    Raises:
        RuntimeError: the server did not start.
    """
    port = _free_port()
    command = [
        str(Path(sys.executable).with_name("transformers")), "serve", str(model_folder),
        "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32",
    ]  # fmt: skip
    with _running(command, port) as url:
        yield url


@contextmanager
def serve_gguf(file: Path) -> Iterator[str]:
    """Serve a GGUF file with llama.cpp until the block ends; yields `base_url`.

    The response schema is enforced. Any model name is accepted.

    Raises:
        RuntimeError: the server did not start.
    """
    port = _free_port()
    script = Path(__file__).with_name("llama_server.py")
    with _running([sys.executable, str(script), str(file), str(port)], port) as url:
        yield url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], port: int) -> Iterator[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: IO[str]) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < end:
        try:
            with direct.open(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    log.seek(0)
    raise RuntimeError(f"the server did not start:\n{log.read()[-3000:]}")
