"""Talks to a chat endpoint as OpenAI's API defined it: one request in, one text out.

The key is kept out of everything that this can return or raise: it goes into a header, and
whatever comes back is searched for it first.
"""

import json
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import urllib3
from pydantic import BaseModel, SecretStr
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from ftreg.errors import UsageError
from ftreg.scoring.backends.judge_retries import RETRIED, patient
from ftreg.scoring.backends.redaction import redactor
from ftreg.scoring.protocol import BackendError

_NAMED = 10
"""Models of a server that a message names."""
_SHOWN = 300
"""Characters of a server's message that are passed on."""


class Message(BaseModel):
    """What is used of a chat message."""

    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    """What is used of a choice."""

    message: Message
    finish_reason: str | None = None


class Usage(BaseModel):
    """Tokens, as the server counts them; 0 where it does not."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Return the tokens of both."""
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


class UnusableError(BackendError):
    """A chat was answered, with nothing that is of use; `usage` is what it took all the same."""

    def __init__(self, reason: str, usage: Usage) -> None:
        super().__init__(reason)
        self.usage = usage


class Answer(BaseModel):
    """What is used of a chat completion."""

    choices: list[Choice]
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A text that the model wrote, and the tokens that it took."""

    text: str
    usage: Usage


class ChatClient:
    """A chat endpoint.

    Args:
        base_url: where `/chat/completions` lies below, `https://host/v1`.
        model: the name that the server knows the model by.
        api_key: sent as a bearer token; None sends none.
        timeout: seconds to connect, and seconds to wait for an answer.
        max_retries: how often a request is sent again after 429, 5xx, a timeout or a cut
            connection.
        concurrency: connections kept open.
        max_tokens: most tokens of an answer.

    Raises:
        UsageError: nothing answers at `base_url`, the key or the model is refused, or what answers
            is no chat endpoint.
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key: SecretStr | None,
        timeout: float,
        max_retries: int,
        concurrency: int,
        max_tokens: int,
    ) -> None:
        self.base_url = base_url
        self.model = model
        self.max_tokens = max_tokens
        self._key = api_key
        self._timeout = timeout
        self._pool = _pool(base_url, concurrency)
        self._retries = patient(max_retries)
        self._redact = redactor(api_key)
        self._answered = False
        self._takes_schema = True
        self._look()

    def _look(self) -> None:
        """Ask for one token: is anybody there, is the key good, and does the model answer?

        Done when a scorer is made, since a mistake here should not cost the outputs of an hour.
        The list of models would not do: servers show it without a key, or leave names out.
        """
        body = self._body([{"role": "user", "content": "Answer with one word."}], max_tokens=1)
        retries = self._retries.new(connect=1)  # an address where nobody is needs no patience
        status, text = self._send("POST", "/chat/completions", body, retries)
        if status != 200:
            raise UsageError(self._refused(status, text))
        if not _is_completion(text):
            raise UsageError(
                f"judge: what base_url {self.base_url} sent is not a chat completion; set it to "
                "where /chat/completions lies below (https://host/v1)"
            )
        self._answered = True

    def ask(self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any]) -> Reply:
        """Send one chat and return what the model wrote.

        Args:
            messages: role and content of each.
            schema: the JSON schema of the answer, asked for where the server takes one.

        Raises:
            BackendError: the server gave no usable answer; the message never holds the key.
        """
        body = self._body(messages, max_tokens=self.max_tokens)
        with_schema = self._takes_schema
        if with_schema:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)},
            }
        status, text = self._send("POST", "/chat/completions", body, self._retries)
        if status in (400, 422) and with_schema:
            del body["response_format"]
            status, text = self._send("POST", "/chat/completions", body, self._retries)
            if status == 200:
                self._takes_schema = False
        if status != 200:
            raise BackendError(f"the judge answered {status}: {_message(text)}")
        return _reply(text)

    def _body(self, messages: Sequence[Mapping[str, str]], *, max_tokens: int) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": max_tokens,
            "stream": False,
        }

    def _send(
        self, method: Literal["GET", "POST"], path: str, body: Any, retries: urllib3.Retry
    ) -> tuple[int, str]:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        try:
            response = self._pool.request(
                method,
                self.base_url + path,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=self._timeout, read=self._timeout),
                retries=retries,
                redirect=False,  # the key goes nowhere that the user did not name
            )
        except HTTPError as error:
            cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            what = self._redact(_cause(cause, self._timeout))
            if not self._answered:
                raise UsageError(
                    f"judge: no answer from base_url {self.base_url}: {what}. Start the server, or "
                    "set base_url to where /chat/completions lies below (https://host/v1)."
                ) from None
            raise BackendError(f"the judge did not answer: {what}") from None
        return response.status, self._redact(response.data.decode("utf-8", "replace"))

    def _refused(self, status: int, text: str) -> str:
        """Say why a request was refused that holds nothing but the model's name and a word."""
        match status:
            case 401 | 403:
                way_out = (
                    "Set the option api_key_env to the name of the variable that holds a valid key."
                )
            case 400 | 404 | 422:
                way_out = (
                    f"Is {self.model!r} a model of this server{self._models()}, and does base_url "
                    "end where /chat/completions lies below (https://host/v1)?"
                )
            case _ if status in RETRIED:
                way_out = "Try again when it is in order, or raise the option max_retries."
            case _:
                way_out = (
                    "Set base_url to where /chat/completions lies below (https://host/v1); "
                    "redirections are not followed."
                )
        return f"judge: {self.base_url} answered {status}: {_message(text)}. {way_out}"

    def _models(self) -> str:
        """Return the names of the server's models, in brackets; nothing where it names none."""
        try:
            _, text = self._send("GET", "/models", None, urllib3.Retry(total=0))
            names = [model["id"] for model in json.loads(text)["data"]]
            shown = ", ".join(map(str, names[:_NAMED]))
        except (UsageError, ValueError, KeyError, TypeError, RecursionError):
            return ""
        return f" (it has: {shown}{', ...' if len(names) > _NAMED else ''})" if names else ""


def _pool(base_url: str, concurrency: int) -> urllib3.PoolManager:
    """Return a pool of connections, through the proxy that the environment names for this host."""
    parts = urlsplit(base_url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        address = proxy if "://" in proxy else f"http://{proxy}"
        try:
            return urllib3.ProxyManager(address, maxsize=concurrency)
        except HTTPError as error:
            raise UsageError(
                f"judge: the environment names a proxy for {parts.scheme} that is no address"
            ) from error
    return urllib3.PoolManager(maxsize=concurrency)


def _cause(error: Exception, timeout: float) -> str:
    match error:
        case NewConnectionError():
            return "the connection was refused, or the host does not exist"
        case ConnectTimeoutError() | ReadTimeoutError():
            return f"nothing within {timeout:g} s"
        case SSLError():
            return f"TLS failed ({error})"
        case ProxyError():
            return "the proxy that the environment names does not answer"
        case _:
            return f"the connection was cut ({type(error).__name__})"


def _message(text: str) -> str:
    """Return what a server says of an error, on one line."""
    try:
        found = json.loads(text)["error"]
        said = found["message"] if isinstance(found, dict) else found
    except (ValueError, KeyError, TypeError, RecursionError):
        said = text
    line = " ".join(str(said).split()) or "nothing more"
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."


def _is_completion(text: str) -> bool:
    try:
        return bool(Answer.model_validate_json(text).choices)
    except ValueError:
        return False


def _reply(text: str) -> Reply:
    try:
        answer = Answer.model_validate_json(text)
        choice = answer.choices[0]
    except (ValueError, IndexError):
        raise BackendError("what the judge sent is not a chat completion") from None
    usage = answer.usage or Usage()
    if choice.message.refusal:
        raise UnusableError(f"the judge refused: {_message(choice.message.refusal)}", usage)
    if choice.finish_reason == "length":
        raise UnusableError("the judge's answer was cut off; raise the option max_tokens", usage)
    return Reply(choice.message.content or "", usage)
