"""Talks to a chat endpoint as OpenAI's API defined it: one request in, one text out.

The key is kept out of everything that this can return or raise: it goes into a header, and
whatever comes back is searched for it first.
"""

import json
import random
import threading
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
    InvalidHeader,
    MaxRetryError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from ftreg.errors import UsageError
from ftreg.scoring.protocol import BackendError

_RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60
_REDACTED = "[api key]"
_SECRET = 8
"""A key of fewer characters protects nothing."""
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


class Answer(BaseModel):
    """What is used of a chat completion."""

    choices: list[Choice]
    usage: Usage | None = None


class Patient(urllib3.Retry):
    """Waits before the first retry too, and never longer than a minute."""

    def get_backoff_time(self) -> float:
        """Return the seconds to wait: doubled each time, and up to as much again by chance."""
        wait = _FIRST_WAIT * 2 ** max(len(self.history) - 1, 0)
        return float(min(wait * (1 + random.random()), _LONGEST_WAIT))

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Return the seconds that the server asks for, within reason; None for none or nonsense."""
        try:
            wait = super().get_retry_after(response)
        except InvalidHeader:
            return None
        return None if wait is None else min(wait, _LONGEST_WAIT)


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
        UsageError: nothing answers at `base_url`, or the key is refused.
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
        self._retries = Patient(
            total=max_retries,
            allowed_methods=None,
            status_forcelist=_RETRIED,
            raise_on_status=False,
        )
        self._lock = threading.Lock()
        self._answered = False
        self._takes_schema = True
        self._look()

    def _look(self) -> None:
        """Ask for the list of models, whatever the answer: is anybody there, and is the key good?

        Done when a scorer is made, since a mistake here should not cost the outputs of an hour.
        """
        retries = self._retries.new(total=1, status=0, status_forcelist=())
        status, text = self._send("GET", "/models", None, retries)
        if status == 401:
            raise UsageError(self._refused(status, text))

    def ask(self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any]) -> Reply:
        """Send one chat and return what the model wrote.

        Args:
            messages: role and content of each.
            schema: the JSON schema of the answer, asked for where the server takes one.

        Raises:
            BackendError: the server gave no usable answer; the message never holds the key.
            UsageError: the first request of all was refused, or found nobody.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "stream": False,
        }
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
            with self._lock:
                first = not self._answered
            # A key or a model that is wrong is wrong for every request; 400 may be one long text's.
            if first and status in (401, 403, 404):
                raise UsageError(self._refused(status, text))
            raise BackendError(f"the judge answered {status}: {_message(text)}")
        with self._lock:
            self._answered = True
        return _reply(text)

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
            what = self._clean(_cause(cause, self._timeout))
            absent = isinstance(cause, NewConnectionError | ConnectTimeoutError | ProxyError)
            if method == "GET" or (absent and not self._answered):
                raise UsageError(
                    f"judge: no answer from base_url {self.base_url}: {what}. Start the server, or "
                    "set base_url to where /chat/completions lies below (https://host/v1)."
                ) from None
            raise BackendError(f"the judge did not answer: {what}") from None
        return response.status, self._clean(response.data.decode("utf-8", "replace"))

    def _clean(self, text: str) -> str:
        key = "" if self._key is None else self._key.get_secret_value()
        # "none" or "EMPTY", which local servers are content with, are words and no secrets.
        if len(key) < _SECRET:
            return text
        # Also as JSON may write it, for it is read back out of there.
        for form in (key, key.replace("/", "\\/"), json.dumps(key)[1:-1]):
            text = text.replace(form, _REDACTED)
        return text

    def _refused(self, status: int, text: str) -> str:
        way_out = (
            f"Is {self.model!r} a model of this server, and does base_url end where "
            "/chat/completions lies below (https://host/v1)?"
            if status == 404
            else "Set the option api_key_env to the name of the variable that holds a valid key."
        )
        return f"judge: {self.base_url} answered {status}: {_message(text)}. {way_out}"


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


def _reply(text: str) -> Reply:
    try:
        answer = Answer.model_validate_json(text)
        choice = answer.choices[0]
    except (ValueError, IndexError):
        raise BackendError("what the judge sent is not a chat completion") from None
    if choice.message.refusal:
        raise BackendError(f"the judge refused: {_message(choice.message.refusal)}")
    if choice.finish_reason == "length":
        raise BackendError("the judge's answer was cut off; raise the option max_tokens")
    return Reply(choice.message.content or "", answer.usage or Usage())
