"""Checks of whether an answer follows an instruction, each a short program."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_WORD = re.compile(r"\w[\w'’-]*")
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")
_BULLET = re.compile(r"\s*[-*•]\s+\S")
_NUMBERED = re.compile(r"\s*\d+[.)]\s+\S")
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL)


def _between(count: int, range_: Sequence[int]) -> bool:
    low, high = range_
    return low <= count <= high


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _sentences(text: str) -> int:
    """Return the number of sentences; a rest without a full stop is one."""
    ends = _SENTENCE_END.findall(text)
    rest = _SENTENCE_END.split(text)[-1]
    return len(ends) + bool(_WORD.search(rest))


def _json(text: str) -> Any:
    """Return what a text is as JSON, within a code fence or without; None where it is none."""
    fenced = _FENCE.fullmatch(text)
    try:
        return json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None


def _json_keys(text: str, keys: Sequence[str]) -> bool:
    found = _json(text)
    return isinstance(found, dict) and set(found) == set(keys)


def _json_items(text: str, range_: Sequence[int]) -> bool:
    found = _json(text)
    return isinstance(found, list) and _between(len(found), range_)


def _commas(text: str, range_: Sequence[int]) -> bool:
    parts = [part.strip() for part in text.strip().rstrip(".").split(",")]
    return all(parts) and _between(len(parts), range_)


def _without(text: str, words: Sequence[str]) -> bool:
    found = {word.casefold() for word in _WORD.findall(text)}
    return not found & {word.casefold() for word in words}


CHECKS: dict[str, Callable[[str, Any], bool]] = {
    "words": lambda text, range_: _between(len(_WORD.findall(text)), range_),
    "sentences": lambda text, range_: _between(_sentences(text), range_),
    "lines": lambda text, range_: _between(len(_lines(text)), range_),
    "bullets": lambda text, range_: (
        all(map(_BULLET.match, _lines(text))) and _between(len(_lines(text)), range_)
    ),
    "numbered": lambda text, range_: (
        all(map(_NUMBERED.match, _lines(text))) and _between(len(_lines(text)), range_)
    ),
    "commas": _commas,
    "upper": lambda text, _: text.isupper(),
    "lower": lambda text, _: text.islower(),
    "one_of": lambda text, words: text.strip(" .!\"'\n").casefold() in words,
    "contains": lambda text, parts: all(part.casefold() in text.casefold() for part in parts),
    "without": _without,
    "letters_without": lambda text, sign: sign.casefold() not in text.casefold(),
    "starts": lambda text, begin: text.startswith(begin),
    "ends": lambda text, end: text.endswith(end),
    "matches": lambda text, pattern: re.fullmatch(pattern, text) is not None,
    "json_keys": _json_keys,
    "json_items": _json_items,
}
"""Name of a check to what decides it: an answer without white space around it, and its argument."""


def failed_checks(answer: str, checks: Mapping[str, Any]) -> list[str]:
    """Return the names of the checks that an answer does not pass; an empty answer passes none."""
    text = answer.strip()
    return [name for name, wanted in checks.items() if not text or not CHECKS[name](text, wanted)]
