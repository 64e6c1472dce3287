"""llama.cpp's server: start it on loopback for a GGUF file, and query it."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import urllib3

from ftreg.errors import UsageError, cut, first_line
from ftreg.services.chat.bounded import TooLongError, bound, text_of
from ftreg.services.chat.wire import error_message

Told = TypeVar("Told")
_SECONDS = 600
"""Timeout of a request."""
_LOG = 2000
"""Characters of the server's log shown in a message."""
_NOT_INSTALLED = "serving a GGUF file needs llama.cpp: pip install 'ftreg[deploy]'"


class LlamaCpp:
    """A client of a llama.cpp server.

    Args:
        address: such as http://127.0.0.1:8080.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        retries = urllib3.Retry(total=0)
        self._pool = bound(urllib3.PoolManager(retries=retries, timeout=_SECONDS))

    def is_there(self) -> bool:
        """Whether the server is llama.cpp's.

        Raises:
            UsageError: there is no answer.
        """
        status, text = self._send("/props", None)
        return status == 200 and "default_generation_settings" in text

    def context(self) -> int | None:
        """Return the maximum number of tokens of a prompt and its answer."""
        return self._ask(
            "/props", pick=lambda found: int(found["default_generation_settings"]["n_ctx"])
        )

    def precision(self) -> str:
        """Return the server's name of the weights' type, in lower case."""
        named = self._ask("/props", pick=lambda found: str(found["model_ftype"]).lower())
        return named.removeprefix("all ").removeprefix("mostly ")

    def render(self, request: Mapping[str, Any]) -> str:
        """Return a chat as text, as rendered by the server's template for an answer.

        Args:
            request: `messages`, and `tools` if there are any, in the form of OpenAI's API.

        Raises:
            UsageError: the template does not accept the chat.
        """
        return self._ask("/apply-template", request, pick=lambda found: str(found["prompt"]))

    def tokens(self, request: Mapping[str, Any]) -> list[int] | None:
        """Return the token ids of a chat.

        Raises:
            UsageError: the template does not accept the chat.
        """
        return self.encode(self.render(request))

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a chat's text."""
        asked = {"content": text, "add_special": True, "parse_special": True}
        return self._ask("/tokenize", asked, pick=lambda found: list(map(int, found["tokens"])))

    def ends_at(self, token: int, *, after: Sequence[int]) -> bool | None:
        """Whether an output ends when the model is forced to write a token."""
        return self._complete(
            after, token, most=0, pick=lambda found: bool(found["stop_type"] == "eos")
        )

    def likeliest(
        self, prompt: Sequence[int], *, most: int, letter: int
    ) -> dict[int, float] | None:
        """Return the likeliest next tokens after a prompt.

        Args:
            prompt: token ids.
            most: how many tokens.
            letter: a token that is a complete character. The model is forced to write it, since the
                server returns no probabilities if an output ends or splits a character; the
                probabilities are still the model's own.

        Returns:
            Token id to log-probability in nats.
        """

        def told(found: Any) -> dict[int, float]:
            (place,) = found["completion_probabilities"]
            return {int(item["id"]): float(item["logprob"]) for item in place["top_logprobs"]}

        return self._complete(prompt, letter, most=most, pick=told)

    def _complete(
        self, prompt: Sequence[int], token: int, *, most: int, pick: Callable[[Any], Told]
    ) -> Told:
        return self._ask(
            "/completion",
            {
                "prompt": list(prompt),
                "n_predict": 1 if most else 2,
                "temperature": 0,
                "n_probs": most,
                "logit_bias": [[token, 1e4]],
                "cache_prompt": False,
            },
            pick=pick,
        )

    def prompt_tokens(self, request: Mapping[str, Any]) -> int:
        """Return how many tokens the server counts in a chat, by requesting a one-token answer."""
        asked = {**request, "max_tokens": 1, "temperature": 0}
        return self._ask(
            "/v1/chat/completions", asked, pick=lambda found: int(found["usage"]["prompt_tokens"])
        )

    def _ask(
        self, path: str, body: Mapping[str, Any] | None = None, *, pick: Callable[[Any], Told]
    ) -> Told:
        """Send a request, and return what `pick` extracts from the answer.

        Raises:
            UsageError: there is no answer, or the server is not llama.cpp's.
        """
        place = f"{self.address}{path}"
        status, text = self._send(path, body)
        if status != 200:
            raise UsageError(f"{place}: the server answered {status}: {error_message(text)}")
        try:
            return pick(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{place}: this is not a llama.cpp server, or an older one: {first_line(error)}"
            ) from error

    def _send(self, path: str, body: Mapping[str, Any] | None) -> tuple[int, str]:
        place = f"{self.address}{path}"
        try:
            response = self._pool.request(
                "GET" if body is None else "POST",
                place,
                body=None if body is None else json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
                decode_content=False,
            )
            return response.status, text_of(response)
        except (urllib3.exceptions.HTTPError, TooLongError, OSError) as error:
            raise UsageError(f"{place}: no answer from a server: {error}") from error


@contextlib.contextmanager
def serving(
    file: Path, *, context: int = 0, threads: int = 1, parallel: int = 1
) -> Iterator[LlamaCpp]:
    """Serve a GGUF file on loopback until the block ends.

    Args:
        file: the model.
        context: maximum tokens of a prompt and its answer; 0 uses the model's own.
        threads: CPU threads.
        parallel: number of concurrent requests.

    Raises:
        UsageError: llama.cpp is not installed, or cannot load the file; includes its message.
    """
    asked = {
        "file": str(file.resolve()),
        "context": context * parallel,
        "threads": threads,
        "parallel": parallel,
    }
    command = [sys.executable, "-m", "ftreg.services.llama_server", json.dumps(asked)]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            yield LlamaCpp(_address(process, file, log))
        finally:
            _end(process)


def _address(process: "subprocess.Popen[str]", file: Path, log: IO[str]) -> str:
    """Wait for the server's address, which it prints when the model is loaded."""
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(ValueError):
            return str(json.loads(line)["address"])
    process.wait()
    log.seek(0)
    said = log.read()
    if "No module named 'xllamacpp'" in said:
        raise UsageError(_NOT_INSTALLED)
    complaints = [line for line in said.splitlines() if "error" in line.lower()]
    shown = complaints[-1] if complaints else said[-_LOG:]
    raise UsageError(f"{file}: llama.cpp cannot serve this file: {cut(shown.strip(), _LOG)}")


def _end(process: "subprocess.Popen[str]") -> None:
    """Stop the server; it has no state to lose."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
