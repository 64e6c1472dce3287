"""Undeclared groups of examples, each described by what its examples have in common.

Only the question describes an example: its prompt, its reference and its tags. Outputs do not: a
group of empty or long outputs would be selected by what the scorer then scores, and of two equal
models each would be worse where the other happened to do well.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ftreg.gate.aligned import Positions

# Words in more than half of the examples say little, and there are too many rare ones.
_MOST_WORDS = 1000
_COMMON = 0.5
# Number of the most frequent tag values that are combined in pairs.
_PAIRED_VALUES = 60
# Lengths are split into this many bins of equal size; each range of adjacent bins is a group.
_BINS = 20
_WORD = re.compile(r"\w+")
_KINDS: Mapping[str, Callable[[str], object]] = {
    "digits": re.compile(r"\d").search,
    "a question mark": re.compile(r"[?\u061f\uff1f]").search,
    "several lines": re.compile(r"\S[^\S\n]*\n\s*\S").search,
    "a web address": re.compile(r"https?://", re.IGNORECASE).search,
    "code between backticks": re.compile("`[^`]+`").search,
    "letters outside of ASCII": lambda text: any(c.isalpha() and c > "\x7f" for c in text),
}


@dataclass(frozen=True, slots=True)
class ExampleFacts:
    """What is known about an example before any model answers it."""

    prompt: str
    reference: str = ""
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class DescribedSlice:
    """A group of examples: what they have in common, in words, and their positions.

    `declared` is whether it is a cohort, which the gate tests anyway.
    """

    words: str
    positions: Positions
    declared: bool = False


def describe_slices(
    facts: Sequence[ExampleFacts], *, cohorts: Sequence[str], least: int
) -> list[DescribedSlice]:
    """Return the groups that the examples form, each with its simplest description.

    Scores are not used: the choice of groups is independent of which side is worse.

    Args:
        facts: one per example, in order.
        cohorts: the tags whose values are cohorts.
        least: the fewest examples of a group, and the fewest outside of it.
    """
    found: dict[bytes, DescribedSlice] = {}
    for words, positions, declared in _all(facts, cohorts, least):
        if least <= len(positions) <= len(facts) - least:
            key = positions.tobytes()
            found.setdefault(key, DescribedSlice(words, positions, declared))
    return list(found.values())


def _all(
    facts: Sequence[ExampleFacts], cohorts: Sequence[str], least: int
) -> Iterator[tuple[str, Positions, bool]]:
    values = _tag_values(facts, least)
    for (tag, value), positions in values.items():
        yield f"{tag}={value}", positions, tag in cohorts
    texts = {
        "prompt": [item.prompt for item in facts],
        "reference": [item.reference for item in facts],
    }
    for name, column in texts.items():
        for words, positions in _lengths(name, column):
            yield words, positions, False
        for kind, has in _KINDS.items():
            yield f"{name} with {kind}", _positions(map(bool, map(has, column))), False
    for name, column in texts.items():
        for words, positions in _words(name, column, least):
            yield words, positions, False
    for words, positions in _pairs(values):
        yield words, positions, False


def _positions(mask: Iterator[bool]) -> Positions:
    return np.flatnonzero(np.fromiter(mask, dtype=np.bool_)).astype(np.int64)


def _tag_values(facts: Sequence[ExampleFacts], least: int) -> dict[tuple[str, str], Positions]:
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, item in enumerate(facts):
        for tag_value in (item.tags or {}).items():
            members[tag_value].append(position)
    return {
        key: np.array(found, dtype=np.int64)
        for key, found in sorted(members.items())
        if len(found) >= least
    }


def _pairs(values: Mapping[tuple[str, str], Positions]) -> Iterator[tuple[str, Positions]]:
    largest = sorted(values, key=lambda key: (-len(values[key]), key))[:_PAIRED_VALUES]
    for first, second in combinations(sorted(largest), 2):
        if first[0] != second[0]:
            both = np.intersect1d(values[first], values[second], assume_unique=True)
            yield f"{first[0]}={first[1]} and {second[0]}={second[1]}", both


def _lengths(name: str, texts: Sequence[str]) -> Iterator[tuple[str, Positions]]:
    """Yield the groups of texts whose number of words is in a range, the widest last."""
    counts = np.array([len(text.split()) for text in texts])
    starts = np.unique(np.quantile(counts, np.arange(_BINS) / _BINS, method="lower"))
    ends = [*(starts[1:] - 1).tolist(), int(counts.max())]
    bins = len(starts)
    for wide in range(1, bins):
        for first in range(bins - wide + 1):
            low, high = int(starts[first]), int(ends[first + wide - 1])
            inside = np.flatnonzero((counts >= low) & (counts <= high)).astype(np.int64)
            yield f"{name} {_range(low, high, least=int(starts[0]), most=ends[-1])}", inside


def _range(low: int, high: int, *, least: int, most: int) -> str:
    if low == high:
        return f"of {low} word{'s' * (low != 1)}"
    if low == least:
        return f"of at most {high} words"
    return f"of at least {low} words" if high == most else f"of {low} to {high} words"


def _words(name: str, texts: Sequence[str], least: int) -> Iterator[tuple[str, Positions]]:
    members: dict[str, list[int]] = defaultdict(list)
    for position, text in enumerate(texts):
        for word in {found.casefold() for found in _WORD.findall(text)}:
            members[word].append(position)
    most = _COMMON * len(texts)
    usable = [word for word, found in members.items() if least <= len(found) <= most]
    usable.sort(key=lambda word: (-len(members[word]), word))
    for word in usable[:_MOST_WORDS]:
        yield f'{name} with the word "{word}"', np.array(members[word], dtype=np.int64)
