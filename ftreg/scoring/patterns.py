"""Regular expressions of references and schemas, each match with a time limit.

They have Python's syntax. `regex` matches them, since `re` has no time limit, and nested repeats
such as `(a+)+$` may practically never end.
"""

import contextlib
import functools
import re
from collections.abc import Iterator

import regex

from ftreg.scoring.samplewise import UncheckableError

LONGEST_MATCH = 1.0
"""Seconds that a pattern may take for a text."""
# What `regex` reads in another way than `re`: {e<=1} (fuzzy) and [:alpha:]. 1: an escape, kept.
_EXTRA = re.compile(r"(\\.)|\{(?!\d*,?\d*\})|\[:", re.DOTALL)


def _literal(found: re.Match[str]) -> str:
    return f"{found[0][:-1]}\\{found[0][-1]}" if found[1] is None else found[0]


@functools.lru_cache(maxsize=256)
def compile_pattern(pattern: str, *, ignore_case: bool = False) -> "regex.Pattern[str]":
    """Return a pattern in Python's syntax, compiled for `regex`.

    Raises:
        UncheckableError: it is broken.
    """
    try:
        re.compile(pattern)
        return regex.compile(_EXTRA.sub(_literal, pattern), regex.IGNORECASE if ignore_case else 0)
    except (re.error, regex.error, OverflowError, RecursionError) as error:
        raise UncheckableError(f"the pattern {pattern!r} is broken: {error}") from error


@contextlib.contextmanager
def within_limit(pattern: str) -> Iterator[None]:
    """Turn a match that exceeds its time limit into an UncheckableError that names the pattern."""
    try:
        yield
    except TimeoutError as error:
        raise UncheckableError(
            f"the pattern {pattern!r} takes longer than {LONGEST_MATCH:g} s for this output; "
            "avoid nested repeats"
        ) from error


def occurs(pattern: str, text: str) -> bool:
    """Return whether a pattern matches anywhere in a text.

    Raises:
        UncheckableError: the pattern is broken, or exceeds its time limit.
    """
    with within_limit(pattern):
        return compile_pattern(pattern).search(text, timeout=LONGEST_MATCH) is not None
