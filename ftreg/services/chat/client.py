"""A client for chat endpoints with OpenAI's API: one request in, one text out.

The key never appears in a result or exception: it is sent only in a header, and is redacted from
all answers.
"""

import json
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
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

from ftreg.errors import UsageError
from ftreg.files.reading import megabytes
from ftreg.services.chat.bounded import LARGEST_ANSWER, TooLongError, bound, text_of
from ftreg.services.chat.dialect import Dialect, Manners, is_cut_off
from ftreg.services.chat.endpoint import Endpoint
from ftreg.services.chat.redaction import redactor
from ftreg.services.chat.retries import RETRIED, patient
from ftreg.services.chat.wire import Answer, Usage, error_message

_NAMED = 10
"""Maximum number of a server's models listed in a message."""


class ChatError(Exception):
    """A chat got no usable answer; the message contains no secret.

    `usage` is the number of tokens used nevertheless, if the server reports it.
    """

    def __init__(self, message: str, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Reply:
    """A text written by the model, and the server's information about it (None if missing).

    `finish` is why it ended, usually `"stop"` or `"length"`; `model` is the model that wrote it.
    `thought` tells whether the server sent thoughts along with the text. `left_out` lists the
    parameters omitted from the request because the server refused them. `calls` are the names and
    arguments, as JSON, of called functions.
    """

    text: str
    usage: Usage | None
    finish: str | None
    model: str | None
    thought: bool = False
    left_out: tuple[str, ...] = ()
    calls: tuple[tuple[str, str], ...] = ()


class ChatClient:
    """A chat endpoint.

    Args:
        endpoint: its address and limits.
        exact: whether limit and temperature must be sent. If not, a parameter that the server
            refuses is omitted.

    Raises:
        UsageError: the key is missing, or the proxy's address is invalid.
    """

    def __init__(self, endpoint: Endpoint, *, exact: bool = False) -> None:
        self._endpoint = endpoint
        self._key = endpoint.api_key()
        self._pool = self._connections()
        self._retries = patient(endpoint.max_retries)
        self._redact = redactor(self._key)
        self._answered = False
        self._manners = Manners(endpoint, exact=exact)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Parameters omitted because the server refused them: `temperature`, `max_tokens`."""
        return self._manners.known.left_out

    def look(self) -> None:
        """Request one token, to check the server, the key and the model.

        For callers that need answers only later, when a mistake would waste an hour's work. The
        list of models is not enough: servers return it without a key, or omit names.

        Raises:
            UsageError: nothing answers at `base_url`, the key or the model is refused, or the
                server is not a chat endpoint.
        """
        retries = self._retries.new(connect=1)  # no need to wait for an address without a server
        chat = [{"role": "user", "content": "Answer with one word."}]
        status, text, _ = self._send_chat(chat, max_tokens=1, retries=retries, looking=True)
        if status == 400 and is_cut_off(text):
            self._answered = True  # by a model that thinks first; everything else works
            return
        if status != 200:
            raise UsageError(self._refused(status, text))
        if not _is_completion(text):
            raise UsageError(
                f"{self._endpoint.place}: what base_url {self._endpoint.base_url} sent is not a "
                "chat completion; set it to the parent of /chat/completions (https://host/v1)"
            )
        self._answered = True

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        schemas: Sequence[Mapping[str, Any]] = (),
        *,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Reply:
        """Send one chat and return the model's answer, decoded greedily if possible.

        Args:
            messages: role and content of each.
            schemas: JSON schemas of the answer, most specific first: the first that the server
                accepts is used. If it accepts none, or there is none, the answer is free text.
            tools: functions that the model may call.

        Raises:
            ChatError: the server gave no usable answer; the message never contains the key.
            UsageError: the very first request was refused, or no server was found.
        """
        status, text, dialect = self._send_chat(
            messages,
            max_tokens=self._endpoint.max_tokens,
            retries=self._retries,
            forms=[*map(_response_format, schemas), {"tools": list(tools)} if tools else {}],
        )
        if status != 200:
            # A wrong key or model is wrong for every request; 400 may be due to one long text.
            if not self._answered and status in (401, 403, 404):
                raise UsageError(self._refused(status, text))
            if status == 400 and is_cut_off(text):
                raise ChatError(
                    f"the {self._endpoint.speaker}'s answer was cut off; raise the option "
                    f"max_tokens: {error_message(text)}"
                )
            raise ChatError(
                f"the {self._endpoint.speaker} answered {status}: {error_message(text)}"
            )
        self._answered = True
        return self._reply(text, dialect)

    def _send_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        retries: urllib3.Retry,
        forms: Sequence[Mapping[str, Any]] = ({},),
        looking: bool = False,
    ) -> tuple[int, str, Dialect]:
        """Send a chat, and retry without refused parameters or in the next form until accepted.

        Returns:
            Status and text of the last answer, and the form of its request.
        """
        dialect: Dialect | None = self._manners.known
        while dialect is not None:
            asked = dialect
            body = {
                "model": self._endpoint.model,
                "messages": list(messages),
                **asked.parameters(max_tokens=max_tokens),
                "stream": False,
                **forms[min(asked.form, len(forms) - 1)],
            }
            status, text = self.send("POST", "/chat/completions", body, retries, looking=looking)
            if status == 200:
                self._manners.learn(asked)
            if status not in (400, 422) or is_cut_off(text):
                break
            dialect = self._manners.next(asked, text, forms=len(forms))
        return status, text, asked

    def send(
        self, method: str, path: str, body: Any, retries: urllib3.Retry, *, looking: bool = False
    ) -> tuple[int, str]:
        """Send one request below `base_url`, and return status and text of the answer.

        Raises:
            ChatError: the server did not answer.
            UsageError: the very first request got no answer, or found no server (`looking`).
        """
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
                redirect=False,  # the key is sent only where the user said
                decode_content=False,
            )
            text = text_of(response)
        except TooLongError:
            what = f"its answer has more than {megabytes(LARGEST_ANSWER)}"
            if looking:
                raise UsageError(
                    f"{self._endpoint.place}: what base_url {self._endpoint.base_url} sent is not "
                    f"a chat completion: {what}"
                ) from None
            raise ChatError(f"the {self._endpoint.speaker} did not answer: {what}") from None
        except HTTPError as error:
            cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            what = self._redact(_cause(cause, timeout))
            absent = isinstance(cause, NewConnectionError | ConnectTimeoutError | ProxyError)
            if looking or (absent and not self._answered):
                raise UsageError(
                    f"{self._endpoint.place}: no answer from base_url {self._endpoint.base_url}: "
                    f"{what}. Start the server, or set base_url to the parent of "
                    "/chat/completions (https://host/v1)."
                ) from None
            raise ChatError(f"the {self._endpoint.speaker} did not answer: {what}") from None
        return response.status, self._redact(text)

    def _refused(self, status: int, text: str) -> str:
        """Explain a refusal that is due to the server as a whole or to its options."""
        match status:
            case 401 | 403:
                way_out = "Set the option api_key_env to the name of a variable with a valid key."
            case 400 | 404 | 422:
                way_out = (
                    f"Is {self._endpoint.model!r} a model of this server{self._models()}, and is "
                    "base_url the parent of /chat/completions (https://host/v1)?"
                )
            case _ if status in RETRIED:
                way_out = "Try again when it has recovered, or raise the option max_retries."
            case _:
                way_out = (
                    "Set base_url to the parent of /chat/completions (https://host/v1); "
                    "redirects are not followed."
                )
        place, url = self._endpoint.place, self._endpoint.base_url
        return f"{place}: {url} answered {status}: {error_message(text)}. {way_out}"

    def _models(self) -> str:
        """Return the names of the server's models in brackets; an empty text if it lists none."""
        try:
            _, text = self.send("GET", "/models", None, urllib3.Retry(total=0))
            names = [model["id"] for model in json.loads(text)["data"]]
            shown = ", ".join(map(str, names[:_NAMED]))
        except (ChatError, UsageError, ValueError, KeyError, TypeError, RecursionError):
            return ""
        return f" (it has: {shown}{', ...' if len(names) > _NAMED else ''})" if names else ""

    def _connections(self) -> urllib3.PoolManager:
        """Return a connection pool that uses the proxy from the environment."""
        parts = urlsplit(self._endpoint.base_url)
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not self._endpoint.direct and not urllib.request.proxy_bypass(parts.netloc):
            address = proxy if "://" in proxy else f"http://{proxy}"
            try:
                return bound(urllib3.ProxyManager(address, maxsize=self._endpoint.concurrency))
            except HTTPError as error:
                raise UsageError(
                    f"{self._endpoint.place}: the environment's proxy for {parts.scheme} is not a "
                    "valid address"
                ) from error
        return bound(urllib3.PoolManager(maxsize=self._endpoint.concurrency))

    def _reply(self, text: str, dialect: Dialect) -> Reply:
        try:
            answer = Answer.model_validate_json(text)
            choice = answer.choices[0]
        except (ValueError, IndexError):
            told = f": {error_message(text)}" if '"error"' in text else ""
            raise ChatError(
                f"what the {self._endpoint.speaker} sent is not a chat completion{told}"
            ) from None
        message = choice.message
        if message.refusal:
            said = error_message(message.refusal)
            raise ChatError(f"the {self._endpoint.speaker} refused: {said}", answer.usage)
        return Reply(
            message.content or "",
            answer.usage,
            choice.finish_reason,
            answer.model,
            thought=message.has_thoughts,
            calls=message.calls,
            left_out=dialect.left_out,
        )


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
            return "the environment's proxy does not answer"
        case _:
            return f"the connection was cut ({type(error).__name__})"


def _is_completion(text: str) -> bool:
    try:
        return bool(Answer.model_validate_json(text).choices)
    except ValueError:
        return False
