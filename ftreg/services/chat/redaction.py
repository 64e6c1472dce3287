"""Finding a secret in a server's text, in any encoding."""

import base64
import re
from collections.abc import Callable

from pydantic import SecretStr

REDACTED = "[api key]"
_SECRET = 8
"""A shorter key is not worth protecting."""
_NESTED = 32
"""Maximum backslashes before a character; each level of nested JSON has twice as many plus one.
Without a limit, a text of backslashes would take quadratic time."""


def redactor(key: SecretStr | None) -> Callable[[str], str]:
    r"""Return a function that replaces a key in a text by `[api key]`.

    It finds the key itself and its escapes in JSON (`\u0073`, possibly escaped again), addresses
    (`%73`) and HTML (`&#115;`, `&#x73;`), in any mixture of characters; and its base64 as part of
    a longer encoded text. Placeholders that local servers accept, such as "none" or "EMPTY", are
    not secrets.
    """
    secret = "" if key is None else key.get_secret_value()
    if len(secret) < _SECRET:
        return lambda text: text
    written = "".join(map(_written, secret))
    found = re.compile("|".join([written, *_base64_forms(secret)]))
    return lambda text: found.sub(REDACTED, text)


def _written(character: str) -> str:
    """Return a pattern for one character in any of its forms."""
    code = ord(character)
    # JSON escapes these with a backslash, and again for each level of nesting.
    plain = re.escape(character)
    if character in '"/\\':
        plain = rf"\\{{0,{_NESTED}}}{plain}"
    high, low = (f"[{digit}{digit.upper()}]" for digit in f"{code:02x}")
    escaped = rf"\\{{1,{_NESTED}}}u00{high}{low}"
    return rf"(?:{plain}|{escaped}|%(?:25)*{high}{low}|&#0*{code};|&#[xX]0*{high}{low};)"


def _base64_forms(secret: str) -> list[str]:
    """Return patterns for the base64 of a text that contains the secret at any position.

    Three characters become four; characters that depend on neighbours are left out at both ends.
    """
    forms = []
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + secret.encode()).decode()
        start = -(-before * 8 // 6)
        end = (before + len(secret)) * 8 // 6
        inner = re.escape(whole[start:end])
        forms.append(inner.replace(r"\+", "[+-]").replace("/", "[/_]"))
    return forms
