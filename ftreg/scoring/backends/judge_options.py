"""The options of the judge, checked before anything is sent."""

import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

from ftreg.errors import UsageError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """Endpoint, model and limits; each option is checked, and a mistake names its key.

    The key itself is never an option: `api_key_env` names the variable that holds it.

    Raises:
        UsageError: an option's value does not fit, or the variable is not set.
    """

    base_url: str
    model: str
    api_key_env: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    max_retries: int = 5
    concurrency: int = 4
    max_tokens: int = 2048

    def __post_init__(self) -> None:
        for key in ("base_url", "model"):
            value = getattr(self, key)
            if not isinstance(value, str) or not value.strip():
                raise UsageError(f"judge: {key} has to be a text, found {value!r}")
        parts = _split(self.base_url)
        if parts is None:
            raise UsageError(
                f"judge: base_url has to be an address such as https://host/v1, without a user, a "
                f"password or a query; found {_without_secrets(self.base_url)!r}"
            )
        object.__setattr__(self, "base_url", self.base_url.strip().rstrip("/"))
        _number("timeout", self.timeout, least=0.001, most=86_400, whole=False)
        _number("max_retries", self.max_retries, least=0, most=100)
        _number("concurrency", self.concurrency, least=1, most=256)
        _number("max_tokens", self.max_tokens, least=1, most=1_000_000)
        self.api_key()

    def api_key(self) -> SecretStr | None:
        """Return the key from the environment, None where no variable is named.

        No message repeats a value: neither the variable's nor, since a key may have been pasted
        in its place, an option's that does not look like a variable's name.
        """
        name = self.api_key_env
        if name is None:
            return None
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise UsageError(
                "judge: api_key_env has to be the name of an environment variable, such as "
                "JUDGE_API_KEY, not the key itself"
            )
        value = os.environ.get(name, "").strip()
        shown = name if name.isupper() else "that api_key_env names"
        if not value:
            raise UsageError(
                f"judge: the environment variable {shown} is not set; it has to hold the API key"
            )
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise UsageError(
                f"judge: the environment variable {shown} holds no API key: one has neither spaces "
                "nor line breaks, and ASCII characters only"
            )
        return SecretStr(value)


def _split(url: str) -> object | None:
    try:
        parts = urlsplit(url.strip())
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        return None
    sound = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    return parts if sound and not parts.query and not parts.fragment else None


def _without_secrets(url: str) -> str:
    """Return an address less what may be a secret: user, password, query."""
    scheme, slashes, rest = url.partition("//")
    place = re.split(r"[?#]", (rest if slashes else url).rpartition("@")[2], maxsplit=1)[0]
    return f"{scheme}{slashes}{place}" if slashes else place


def _number(key: str, value: object, *, least: float, most: float, whole: bool = True) -> None:
    kinds = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise UsageError(
            f"judge: {key} has to be {kind} from {least:g} to {most:g}, found {value!r}"
        )
