"""Address and limits of a chat endpoint, checked before anything is sent."""

import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from ftreg.errors import UsageError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address, model and limits; each option is checked, and errors name the option.

    The key itself is never an option: `api_key_env` names the variable that contains it. In
    messages, `place` is the location of the options and `speaker` the server's role: "the judge
    answered 500". With `direct`, proxies are bypassed, since the server is on this machine.

    Raises:
        UsageError: an option's value is invalid.
    """

    base_url: str
    model: str
    api_key_env: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    max_retries: int = 5
    concurrency: int = 4
    max_tokens: int = 2048
    place: str = "judge"
    speaker: str = "judge"
    direct: bool = False

    def __post_init__(self) -> None:
        for key in ("base_url", "model"):
            value = getattr(self, key)
            if not isinstance(value, str) or not value.strip():
                raise UsageError(f"{self.place}: {key} must be a string, found {value!r}")
        refuse_secrets(self.base_url, self.api_key_env, place=self.place)
        object.__setattr__(self, "base_url", self.base_url.strip().rstrip("/"))
        self._number("timeout", least=0.001, most=86_400, whole=False)
        self._number("max_retries", least=0, most=100)
        self._number("concurrency", least=1, most=256)
        self._number("max_tokens", least=1, most=1_000_000)

    def api_key(self) -> SecretStr | None:
        """Return the key from the environment; None if no variable is named.

        Raises:
            UsageError: the variable is not set, or is not a key; its value is not shown.
        """
        name = self.api_key_env
        if name is None:
            return None
        value = os.environ.get(name, "").strip()
        shown = name if name.isupper() else "that api_key_env names"
        if not value:
            raise UsageError(
                f"{self.place}: the environment variable {shown} is not set; it must contain the "
                "API key"
            )
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise UsageError(
                f"{self.place}: the environment variable {shown} is not an API key: a key has only "
                "ASCII characters, without spaces or line breaks"
            )
        return SecretStr(value)

    def host(self) -> str:
        """Return the server's name and port, without the path, for display and records."""
        return urlsplit(self.base_url).netloc

    def _number(self, key: str, *, least: float, most: float, whole: bool = True) -> None:
        value = getattr(self, key)
        kinds = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
            kind = "a whole number" if whole else "a number"
            raise UsageError(
                f"{self.place}: {key} must be {kind} from {least:g} to {most:g}, found {value!r}"
            )


def refuse_secrets(base_url: str, api_key_env: Any, *, place: str) -> None:
    """Refuse options that contain a secret, before they are written to a record.

    Raises:
        UsageError: the address is invalid or contains a password, or `api_key_env` is not the name
            of a variable; the message contains no secret.
    """
    if _split(base_url) is None:
        raise UsageError(
            f"{place}: base_url must be an address such as https://host/v1, without a user, a "
            f"password or a query; found {_without_secrets(base_url)!r}"
        )
    named = isinstance(api_key_env, str) and _VARIABLE.fullmatch(api_key_env)
    if api_key_env is not None and not named:
        # The value is not shown: it may be the key, pasted in the wrong place.
        raise UsageError(
            f"{place}: api_key_env must be the name of an environment variable, such as "
            "JUDGE_API_KEY, not the key itself"
        )


def _split(url: str) -> object | None:
    try:
        parts = urlsplit(url.strip())
        parts.port  # noqa: B018 - raises for an invalid port
    except ValueError:
        return None
    sound = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    return parts if sound and not parts.query and not parts.fragment else None


def _without_secrets(url: str) -> str:
    """Return an address without possible secrets: user, password, query."""
    scheme, slashes, rest = url.partition("//")
    place = re.split(r"[?#]", (rest if slashes else url).rpartition("@")[2], maxsplit=1)[0]
    return f"{scheme}{slashes}{place}" if slashes else place
