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
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from ftreg.errors import UsageError, cut
from ftreg.files.reading import megabytes
from ftreg.services.chat.bounded import LARGEST_ANSWER, TooLongError, bound, text_of
from ftreg.services.chat.endpoint import Endpoint
from ftreg.services.chat.redaction import redactor
from ftreg.services.chat.retries import RETRIED, patient
from ftreg.services.chat.wire import Answer, Usage

_NAMED = 10
"""Models of a server that a message names."""
_SHOWN = 300
"""Characters of a server's message that are passed on."""


class ChatError(Exception):
    """A chat got no usable answer; the message holds no secret.

    `usage` is what it took all the same, as far as the server says.
    """

    def __init__(self, message: str, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Reply:
    """A text that the model wrote, and what the server says of it: None where it does not.

    `finish` is why it ended, `"stop"` or `"length"` as a rule; `model` who wrote it.
    """

    text: str
    usage: Usage | None
    finish: str | None
    model: str | None


class ChatClient:
    """A chat endpoint.

    Args:
        endpoint: where it is, and its limits.

    Raises:
        UsageError: the key is not there, or the proxy's address is none.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._key = endpoint.api_key()
        self._pool = self._connections()
        self._retries = patient(endpoint.max_retries)
        self._redact = redactor(self._key)
        self._answered = False
        self._form = 0  # which form of asking the server takes, once it has refused others

    def look(self) -> None:
        """Ask for one token: is anybody there, is the key good, and does the model answer?

        For whoever needs answers later only, when a mistake would cost the work of an hour. The
        list of models would not do: servers show it without a key, or leave names out.

        Raises:
            UsageError: nothing answers at `base_url`, the key or the model is refused, or what
                answers is no chat endpoint.
        """
        body = self._body([{"role": "user", "content": "Answer with one word."}], max_tokens=1)
        retries = self._retries.new(connect=1)  # an address where nobody is needs no patience
        status, text = self._send("POST", "/chat/completions", body, retries, looking=True)
        if status != 200:
            raise UsageError(self._refused(status, text))
        if not _is_completion(text):
            raise UsageError(
                f"{self._endpoint.place}: what base_url {self._endpoint.base_url} sent is not a "
                "chat completion; set it to where /chat/completions lies below (https://host/v1)"
            )
        self._answered = True

    def ask(
        self, messages: Sequence[Mapping[str, str]], schemas: Sequence[Mapping[str, Any]] = ()
    ) -> Reply:
        """Send one chat and return what the model wrote, always the likeliest token.

        Args:
            messages: role and content of each.
            schemas: JSON schemas of the answer, the one that says most first: the first that the
                server takes is asked for. Where it takes none, or there is none, it writes freely.

        Raises:
            ChatError: the server gave no usable answer; the message never holds the key.
            UsageError: the first request of all was refused, or found nobody.
        """
        body = self._body(messages, max_tokens=self._endpoint.max_tokens)
        forms = [*map(_response_format, schemas), {}]
        for form in range(min(self._form, len(forms) - 1), len(forms)):
            asked = {**body, **forms[form]}
            status, text = self._send("POST", "/chat/completions", asked, self._retries)
            if status not in (400, 422):
                break
        if status == 200:
            self._form = max(self._form, form)
        else:
            # A key or a model that is wrong is wrong for every request; 400 may be one long text's.
            if not self._answered and status in (401, 403, 404):
                raise UsageError(self._refused(status, text))
            raise ChatError(f"the {self._endpoint.speaker} answered {status}: {_message(text)}")
        self._answered = True
        return self._reply(text)

    def _body(self, messages: Sequence[Mapping[str, str]], *, max_tokens: int) -> dict[str, Any]:
        return {
            "model": self._endpoint.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": max_tokens,
            "stream": False,
        }

    def _send(
        self,
        method: Literal["GET", "POST"],
        path: str,
        body: Any,
        retries: urllib3.Retry,
        *,
        looking: bool = False,
    ) -> tuple[int, str]:
        timeout = self._endpoint.timeout
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        try:
            response = self._pool.request(
                method,
                self._endpoint.base_url + path,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=timeout, read=timeout),
                retries=retries,
                redirect=False,  # the key goes nowhere that the user did not name
                decode_content=False,
            )
            text = text_of(response)
        except TooLongError:
            what = f"its answer has more than {megabytes(LARGEST_ANSWER)}"
            if looking:
                raise UsageError(
                    f"{self._endpoint.place}: what base_url {self._endpoint.base_url} sent is no "
                    f"chat completion: {what}"
                ) from None
            raise ChatError(f"the {self._endpoint.speaker} did not answer: {what}") from None
        except HTTPError as error:
            cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            what = self._redact(_cause(cause, timeout))
            absent = isinstance(cause, NewConnectionError | ConnectTimeoutError | ProxyError)
            if looking or (absent and not self._answered):
                raise UsageError(
                    f"{self._endpoint.place}: no answer from base_url {self._endpoint.base_url}: "
                    f"{what}. Start the server, or set base_url to where /chat/completions lies "
                    "below (https://host/v1)."
                ) from None
            raise ChatError(f"the {self._endpoint.speaker} did not answer: {what}") from None
        return response.status, self._redact(text)

    def _refused(self, status: int, text: str) -> str:
        """Say why a request was refused, where the whole server is at fault or what names it."""
        match status:
            case 401 | 403:
                way_out = (
                    "Set the option api_key_env to the name of the variable that holds a valid key."
                )
            case 400 | 404 | 422:
                way_out = (
                    f"Is {self._endpoint.model!r} a model of this server{self._models()}, and does "
                    "base_url end where /chat/completions lies below (https://host/v1)?"
                )
            case _ if status in RETRIED:
                way_out = "Try again when it is in order, or raise the option max_retries."
            case _:
                way_out = (
                    "Set base_url to where /chat/completions lies below (https://host/v1); "
                    "redirections are not followed."
                )
        place, url = self._endpoint.place, self._endpoint.base_url
        return f"{place}: {url} answered {status}: {_message(text)}. {way_out}"

    def _models(self) -> str:
        """Return the names of the server's models, in brackets; nothing where it names none."""
        try:
            _, text = self._send("GET", "/models", None, urllib3.Retry(total=0))
            names = [model["id"] for model in json.loads(text)["data"]]
            shown = ", ".join(map(str, names[:_NAMED]))
        except (ChatError, UsageError, ValueError, KeyError, TypeError, RecursionError):
            return ""
        return f" (it has: {shown}{', ...' if len(names) > _NAMED else ''})" if names else ""

    def _connections(self) -> urllib3.PoolManager:
        """Return a pool of connections, through the proxy that the environment names for them."""
        parts = urlsplit(self._endpoint.base_url)
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not urllib.request.proxy_bypass(parts.netloc):
            address = proxy if "://" in proxy else f"http://{proxy}"
            try:
                return bound(urllib3.ProxyManager(address, maxsize=self._endpoint.concurrency))
            except HTTPError as error:
                raise UsageError(
                    f"{self._endpoint.place}: the environment names a proxy for {parts.scheme} "
                    "that is no address"
                ) from error
        return bound(urllib3.PoolManager(maxsize=self._endpoint.concurrency))

    def _reply(self, text: str) -> Reply:
        try:
            answer = Answer.model_validate_json(text)
            choice = answer.choices[0]
        except (ValueError, IndexError):
            raise ChatError(
                f"what the {self._endpoint.speaker} sent is not a chat completion"
            ) from None
        if choice.message.refusal:
            said = _message(choice.message.refusal)
            raise ChatError(f"the {self._endpoint.speaker} refused: {said}", answer.usage)
        content = choice.message.content or ""
        return Reply(content, answer.usage, choice.finish_reason, answer.model)


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"name": "answer", "strict": True, "schema": dict(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": answer}}


def _cause(error: Exception, timeout: float) -> str:
    match error:
        case NewConnectionError():
            return "the connection was refused, or the host does not exist"
        case ConnectTimeoutError() | ReadTimeoutError():
            return f"nothing within {timeout:g} s"
        case SSLError():
            return f"TLS failed ({error})"
        case DecodeError():
            return str(error)
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
    return cut(" ".join(str(said).split()) or "nothing more", _SHOWN)


def _is_completion(text: str) -> bool:
    try:
        return bool(Answer.model_validate_json(text).choices)
    except ValueError:
        return False
