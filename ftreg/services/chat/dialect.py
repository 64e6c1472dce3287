"""The request parameters that an endpoint accepts, learned from its refusals.

OpenAI's newer models refuse `max_tokens` and any temperature except the default, and many servers
do not support `response_format`. A refused parameter is omitted for the lifetime of the process.
"""

import json
import logging
import re
import threading
from dataclasses import dataclass, replace
from typing import Any

from ftreg.services.chat.endpoint import Endpoint
from ftreg.services.chat.wire import error_message

_LIMITS = ("max_tokens", "max_completion_tokens")
_PARAMETER = re.compile(rf"\b({'|'.join(_LIMITS)}|temperature)\b")
_TOO_LITTLE = re.compile(r"higher max_(?:completion_)?tokens|output limit was reached", re.I)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The form of requests to an endpoint.

    `limit` is its parameter for the maximum length of an answer, None if it accepts no limit;
    `form` is the first form of the answer's schema that it accepts.
    """

    limit: str | None = "max_tokens"
    temperature: bool = True
    form: int = 0

    def parameters(self, *, max_tokens: int) -> dict[str, Any]:
        """Return the request parameters for limit and temperature."""
        limit = {} if self.limit is None else {self.limit: max_tokens}
        return {**({"temperature": 0} if self.temperature else {}), **limit}

    def after(self, refusal: str) -> "Dialect | None":
        """Return what to try after a refusal; None if it names no parameter that was sent."""
        named = _named(refusal)
        if self.limit is not None and named.intersection(_LIMITS):
            renamed = self.limit == _LIMITS[0] and _LIMITS[1] in refusal
            return replace(self, limit=_LIMITS[1] if renamed else None)
        if self.temperature and "temperature" in named:
            return replace(self, temperature=False)
        return None

    @property
    def left_out(self) -> tuple[str, ...]:
        """The omitted parameters that would affect the output."""
        return (() if self.temperature else ("temperature",)) + (() if self.limit else _LIMITS[:1])


class Manners:
    """The dialect of an endpoint, shared by all its clients in this process.

    Args:
        endpoint: its address.
        exact: whether limit and temperature must be sent, and so are never omitted.
    """

    _known: dict[tuple[str, str, bool], Dialect] = {}  # noqa: RUF012 - that is what is shared
    _lock = threading.Lock()

    def __init__(self, endpoint: Endpoint, *, exact: bool) -> None:
        self._endpoint = endpoint
        self._exact = exact
        self._key = (endpoint.base_url, endpoint.model, exact)

    @property
    def known(self) -> Dialect:
        """The dialect, as far as known."""
        return self._known.get(self._key, Dialect())

    def next(self, dialect: Dialect, refusal: str, *, forms: int) -> Dialect | None:
        """Return how to retry after a refusal; None if nothing is left to try."""
        changed = dialect.after(refusal)
        if changed is not None:
            return None if self._exact and changed.left_out else changed
        return replace(dialect, form=dialect.form + 1) if dialect.form + 1 < forms else None

    def learn(self, dialect: Dialect) -> None:
        """Remember what worked, and note once what is omitted."""
        with self._lock:
            before = self.known
            self._known[self._key] = replace(dialect, form=max(before.form, dialect.form))
        for name in sorted(set(dialect.left_out) - set(before.left_out)):
            _log.warning(
                "note: the %s %s at %s takes no %s, and is asked without it",
                self._endpoint.speaker, self._endpoint.model, self._endpoint.host(), name,
            )  # fmt: skip

    @classmethod
    def forget(cls) -> None:
        """Forget the dialects of all endpoints."""
        cls._known.clear()


def is_cut_off(refusal: str) -> bool:
    """Whether a refusal says that the model's answer exceeded the limit."""
    return _TOO_LITTLE.search(refusal) is not None


def _named(refusal: str) -> set[str]:
    """Return the parameters behind a refusal: the one that it points to, or all that it names."""
    try:
        parameter = json.loads(refusal)["error"]["param"]
    except (ValueError, KeyError, TypeError, RecursionError):
        parameter = None
    pointed = isinstance(parameter, str) and parameter
    return set(_PARAMETER.findall(parameter if pointed else error_message(refusal)))
