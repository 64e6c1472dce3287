"""Finding a secret in text that a server sent, however it was written there."""

import base64
import re
from collections.abc import Callable

from pydantic import SecretStr

REDACTED = "[api key]"
_SECRET = 8
"""A key of fewer characters protects nothing."""
_NESTED = 32
"""Backslashes before a character; JSON in JSON has twice as many and one more. Without a limit a
text of backslashes would cost the square of their number."""


def redactor(key: SecretStr | None) -> Callable[[str], str]:
    r"""Return what replaces a key in a text by `[api key]`.

    Found are the key itself and its forms in JSON (`\u0073`, escaped again or not), in an address
    (`%73`), in HTML (`&#115;`, `&#x73;`), one form a character, in any mixture; and its base64, as
    part of whatever was encoded. "none" or "EMPTY", which local servers are content with, are
    words and no secrets.
    """
    secret = "" if key is None else key.get_secret_value()
    if len(secret) < _SECRET:
        return lambda text: text
    written = "".join(map(_written, secret))
    found = re.compile("|".join([written, *_base64_forms(secret)]))
    return lambda text: found.sub(REDACTED, text)


def _written(character: str) -> str:
    """Return a pattern for one character, in any of its forms."""
    code = ord(character)
    # JSON writes these with a backslash before them, and once more for each time it is nested.
    plain = re.escape(character)
    if character in '"/\\':
        plain = rf"\\{{0,{_NESTED}}}{plain}"
    high, low = (f"[{digit}{digit.upper()}]" for digit in f"{code:02x}")
    escaped = rf"\\{{1,{_NESTED}}}u00{high}{low}"
    return rf"(?:{plain}|{escaped}|%(?:25)*{high}{low}|&#0*{code};|&#[xX]0*{high}{low};)"


def _base64_forms(secret: str) -> list[str]:
    """Return patterns for base64 of a text that holds the secret, at any place within it.

    Three characters make four; what depends on the neighbours is left out at both ends.
    """
    forms = []
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + secret.encode()).decode()
        start = -(-before * 8 // 6)
        end = (before + len(secret)) * 8 // 6
        inner = re.escape(whole[start:end])
        forms.append(inner.replace(r"\+", "[+-]").replace("/", "[/_]"))
    return forms
