"""How OpenAI-compatible servers read chats, as far as they report it: vLLM, TGI, Ollama, others."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import urllib3

from ftreg.errors import UsageError, first_line
from ftreg.services.chat.client import ChatClient, ChatError
from ftreg.services.chat.endpoint import Endpoint
from ftreg.services.chat.wire import error_message

Told = TypeVar("Told")
_FORCED = 100.0
"""The largest logit bias of OpenAI's API, in nats; transformers does not accept an integer."""
_HELLO = [{"role": "user", "content": "Hello"}]


class ChatServer:
    """A client of an OpenAI-compatible server, which queries what the server reports.

    vLLM reports the token ids of a chat (`/tokenize`), log-probabilities after token ids, and its
    context; TGI the token ids (`/chat_tokenize`) and its context. Every server reports the number
    of tokens in a chat and, with `logit_bias`, where an output ends.

    Args:
        address: such as http://127.0.0.1:8000, with or without /v1.
        model: the server's name of the model; None for its only one.
        key: the name of the environment variable with the key; None sends none.
        letter: a token that is a complete character, as id and text, to test whether a bias has an
            effect.

    Raises:
        UsageError: the key is missing.
    """

    def __init__(
        self, address: str, *, model: str | None, key: str | None, letter: tuple[int, str]
    ) -> None:
        self._client = ChatClient(
            Endpoint(
                base_url=address.rstrip("/").removesuffix("/v1"),
                model=model or "-",
                api_key_env=key,
                timeout=600,
                place="parity",
                speaker="server",
            )
        )
        self._letter = letter
        self._named = model
        self._heeds: bool | None = None
        self._models: list[dict[str, Any]] | None = None
        self._way: Callable[[Mapping[str, Any]], list[int] | None] | None = None

    @property
    def model(self) -> str:
        """The name of the model.

        Raises:
            UsageError: the server has several, and none was named.
        """
        if self._named is None:
            names = [str(item["id"]) for item in self._listed()]
            if len(names) != 1:
                raise UsageError(
                    f"the server has {len(names)} models ({', '.join(names[:8])}); name one: "
                    "--model NAME"
                )
            self._named = names[0]
        return self._named

    def context(self) -> int | None:
        """Return the maximum tokens of a prompt and its answer, if the server reports it."""
        for item in self._listed():
            if item["id"] == self.model and item.get("max_model_len"):
                return int(item["max_model_len"])  # vLLM
        return self._told("GET", "/info", pick=lambda found: int(found["max_total_tokens"]))  # TGI

    def render(self, request: Mapping[str, Any]) -> str | None:
        """Return a chat as text, if the server shows it."""
        asked = {"model": self.model, **request}
        return self._told(
            "POST", "/chat_tokenize", asked, pick=lambda found: str(found["templated_text"])
        )

    def tokens(self, request: Mapping[str, Any]) -> list[int] | None:
        """Return the token ids of a chat, if the server reports them."""
        asked = {"model": self.model, **request}
        if self._way is None:
            for way in (self._by_vllm, self._by_tgi):
                found = way(asked)
                if found is not None:
                    self._way = way
                    return found
            self._way = lambda _: None
        return self._way(asked)

    def _by_vllm(self, asked: Mapping[str, Any]) -> list[int] | None:
        return self._told("POST", "/tokenize", asked, pick=lambda found: list(found["tokens"]))

    def _by_tgi(self, asked: Mapping[str, Any]) -> list[int] | None:
        return self._told(
            "POST",
            "/chat_tokenize",
            asked,
            pick=lambda found: [int(item["id"]) for item in found["tokenize_response"]],
        )

    def prompt_tokens(self, request: Mapping[str, Any]) -> int:
        """Return how many tokens the server counts in a chat, by requesting a one-token answer."""
        return int(self._answered(request, max_tokens=1)["usage"]["prompt_tokens"])

    def ends_at(self, token: int, *, after: list[int]) -> bool | None:
        """Whether an output ends at a forced token; None if none can be forced."""
        number, text = self._letter
        if self._heeds is None:
            with suppress(UsageError):  # some servers refuse a bias
                answer = self._forced(number)
                said = str(answer["choices"][0]["message"]["content"] or "")
                self._heeds = {*said.replace(" ", "")} == {text}
        if not self._heeds:
            return None
        answer = self._forced(token)
        return bool(answer["choices"][0]["finish_reason"] == "stop")

    def _forced(self, token: int) -> Any:
        asked = {"messages": _HELLO, "logit_bias": {str(token): _FORCED}}
        return self._answered(asked, max_tokens=2)

    def likeliest(self, prompt: list[int], *, most: int, letter: int) -> dict[int, float] | None:
        """Return the likeliest next tokens after token ids; None if the server is not vLLM."""
        if self._way != self._by_vllm:
            return None
        asked = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": most,
            "return_tokens_as_token_ids": True,
        }

        def told(found: Any) -> dict[int, float]:
            (place,) = found["choices"][0]["logprobs"]["top_logprobs"]
            return {int(name.removeprefix("token_id:")): float(p) for name, p in place.items()}

        return self._told("POST", "/v1/completions", asked, pick=told)

    def _listed(self) -> list[dict[str, Any]]:
        if self._models is None:
            self._models = self._asked("GET", "/v1/models", None, lambda found: list(found["data"]))
        return self._models

    def _answered(self, request: Mapping[str, Any], *, max_tokens: int) -> Any:
        asked = {"model": self.model, "max_tokens": max_tokens, "temperature": 0, **request}

        def answer(found: Any) -> Any:
            return found if found["choices"] and found["usage"]["prompt_tokens"] else None

        return self._asked("POST", "/v1/chat/completions", asked, answer)

    def _told(
        self, method: str, path: str, body: Any = None, *, pick: Callable[[Any], Told]
    ) -> Told | None:
        """Return what `pick` extracts from an answer; None if the server lacks this address."""
        status, text = self._sent(method, path, body)
        try:
            return pick(json.loads(text)) if status == 200 else None
        except (ValueError, KeyError, TypeError):
            return None

    def _asked(self, method: str, path: str, body: Any, pick: Callable[[Any], Told]) -> Told:
        status, text = self._sent(method, path, body)
        if status != 200:
            raise UsageError(f"{path}: the server answered {status}: {error_message(text)}")
        try:
            return pick(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path}: this is not an OpenAI-compatible server: {first_line(error)}"
            ) from error

    def _sent(self, method: str, path: str, body: Any) -> tuple[int, str]:
        try:
            return self._client.send(method, path, body, urllib3.Retry(total=0))
        except ChatError as error:
            raise UsageError(f"{path}: {error}") from error
