"""Checks of what similarity overlooks: numbers, units, names and negation.

Sentence embeddings hardly move when a number, a name or a "not" changes, and such a change is
what makes a fluent claim false. Each check compares a claim with the passages that are nearest to
it, and names what it found; it stays silent where either side says nothing about the matter.
"""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from ftreg.scoring.words import FUNCTION_WORDS, content_words, join_digits, stem, words

_UNIT_GROUPS = (
    "mm millimetre millimeter", "cm centimetre centimeter", "m metre meter",
    "km kilometre kilometer", "inch", "ft foot feet", "yd yard", "mi mile", "mg milligram",
    "g gram", "kg kilogram kilo", "lb lbs pound", "oz ounce", "ton tonne",
    "ml millilitre milliliter",
    "l litre liter", "gallon", "s sec second", "ms millisecond", "min minute", "h hr hour", "day",
    "week", "month", "year", "decade", "century", "percent %", "usd dollar $", "eur euro €",
    "gbp £", "kb kilobyte", "mb megabyte", "gb gigabyte", "tb terabyte", "mph", "kmh", "celsius",
    "fahrenheit", "hz hertz", "khz", "mhz", "ghz", "w watt", "kw kilowatt", "mw megawatt",
)  # fmt: skip
_UNITS = {form: group.split()[-1] for group in _UNIT_GROUPS for form in group.split()}
_VAGUE = re.compile(
    r"\b(?:one|first|second|third|hundreds?|thousands?|millions?|billions?|twice|dozens?)\b",
    re.IGNORECASE,
)
_MEASURE = re.compile(r"(?:([$€£])\s*)?(\d+(?:[.,]\d+)*)[\s-]*(%|[^\W\d_]+)?")
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|neither|nor|cannot|nothing|nowhere|without|zero|0|isnt|wasnt"
    r"|dont|doesnt|didnt|cant|wont)\b(?![.,]\d)|n['\u2019]t\b|n\s['\u2019]\s?t\b",
    re.IGNORECASE,
)
# "Not only" affirms; what the speaker does not know, like or do says nothing of the world.
_NOT_NEGATION = re.compile(
    r"\bnot (?:only|just|sure)\b|\bno (?:longer than|doubt|matter)\b|\bno\.?\s*\d|\bwhy not\b"
    r"|\b(?:i|we)\b(?:\s?['\u2019]\s?\w+)?(?:\s\w+){0,2}?\s?(?:not|never|n\s?['\u2019]\s?t)\b",
    re.IGNORECASE,
)
_CLAUSE_EDGE = re.compile(
    r"[,;:()\u2013\u2014]|\s-\s|\b(?:but|although|though|while|whereas|because|and|who|which)\b"
)
_NAME = re.compile(r"\b[^\W\d_a-z][\w'\u2019-]*")
_SENTENCE_EDGE = re.compile(r"(?:^|[.!?:;\"“(\[•*-])\W*$")


def numbers(text: str) -> frozenset[str]:
    """Return the numbers of a text, as `words` writes them, less those that rarely count things.

    "One" and "first" are as often pronouns and adverbs; zero is left to negation ("no cars").
    """
    plain = _VAGUE.sub(" ", text)
    return frozenset(word for word in words(plain) if word[0].isdigit() and word != "0")


@dataclass(frozen=True, slots=True)
class PlacedNumber:
    """A number of a text, and the words before and after it, other numbers written "#"."""

    number: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def placed_numbers(text: str) -> tuple[PlacedNumber, ...]:
    """Return the numbers of a text, each with all words before and after it."""
    sequence = words(_VAGUE.sub(" ", text))
    masked = tuple("#" if word[0].isdigit() else word for word in sequence)
    return tuple(
        PlacedNumber(word, masked[:place], masked[place + 1 :])
        for place, word in enumerate(sequence)
        if word[0].isdigit()
    )


def measures(text: str) -> frozenset[tuple[str, str]]:
    """Return (number, unit) for each number with a unit that is known."""
    found = set()
    for sign, number, word in _MEASURE.findall(join_digits(text.casefold())):
        unit = _UNITS.get(sign) or _UNITS.get(word) or _UNITS.get(word.removesuffix("s"))
        if unit:
            found.add((number.replace(",", ""), unit))
    return frozenset(found)


def names(text: str) -> frozenset[str]:
    """Return the stems of capitalised words that do not owe their capital to a sentence's start."""
    found: set[str] = set()
    for match in _NAME.finditer(text):
        if not _SENTENCE_EDGE.search(text[max(0, match.start() - 8) : match.start()]):
            found.update(
                stem(word)
                for word in words(match.group())
                if word not in FUNCTION_WORDS and not word[0].isdigit()
            )
    return frozenset(found)


def denied(text: str) -> frozenset[str]:
    """Return the stems of what a text denies: the first content words after each "not".

    "It did not damage his eye, but" gives "damag" and "ey".
    """
    found: set[str] = set()
    for clause in _CLAUSE_EDGE.split(_NOT_NEGATION.sub(" ", text)):
        for cue in _NEGATION.finditer(clause):
            found.update(content_words(clause[cue.end() :])[:_DENIED])
    return frozenset(found)


_DENIED = 2
"""How many content words after a negation it is taken to govern."""


@dataclass(frozen=True)
class Facts:
    """What the checks need to know of one text; each part is worked out once, when asked for."""

    text: str

    @cached_property
    def numbers(self) -> frozenset[str]:
        """See `numbers`."""
        return numbers(self.text)

    @cached_property
    def placed_numbers(self) -> tuple[PlacedNumber, ...]:
        """See `placed_numbers`."""
        return placed_numbers(self.text)

    @cached_property
    def measures(self) -> frozenset[tuple[str, str]]:
        """See `measures`."""
        return measures(self.text)

    @cached_property
    def denied(self) -> frozenset[str]:
        """See `denied`."""
        return denied(self.text)

    @cached_property
    def content(self) -> frozenset[str]:
        """The content words."""
        return frozenset(content_words(self.text))


_SIDE, _FRAME, _LEAST_FRAME = 3, 6, 4
"""Words of a number's frame: on a side where there are as many on the other, in all, at least."""


def _misplaced_number(claim: Facts, passages: Sequence[Facts]) -> bool:
    """Whether a number of the claim stands in words in which the passages have other numbers only.

    "30 minutes before, drivers 45" and "45 minutes before, drivers 30" have the same numbers. Only
    a frame of several words in a row tells: fewer stand around more than one number.
    """
    for mine in claim.placed_numbers:
        left = min(len(mine.before), max(_SIDE, _FRAME - len(mine.after)))
        before, after = mine.before[len(mine.before) - left :], mine.after[: _FRAME - left]
        if len(before) + len(after) < _LEAST_FRAME:
            continue
        theirs = {
            other.number
            for passage in passages
            for other in passage.placed_numbers
            if other.before[max(0, len(other.before) - left) :] == before
            and other.after[: len(after)] == after
        }
        if theirs and mine.number not in theirs:
            return True
    return False


def _contradicts(claim: Facts, passages: Sequence[Facts]) -> bool:
    """Whether the claim denies a word that the nearest passage states, or the reverse.

    Only where the two share at least half of the claim's content words: else they speak of
    different things.
    """
    nearest = passages[0]
    if len(claim.content & nearest.content) * 2 < len(claim.content):
        return False
    near_denied = frozenset().union(*(passage.denied for passage in passages))
    return bool(
        (claim.denied & nearest.content) - near_denied
        or (nearest.denied & claim.content) - claim.denied
    )


def fired(
    claim: Facts,
    passages: Sequence[Facts],
    *,
    source_words: Set[str],
) -> tuple[str, ...]:
    """Return the names of the checks that speak against a claim.

    Args:
        claim: the claim.
        passages: the passages nearest to it, the nearest first; at least one.
        source_words: the content words of the whole source.

    Returns:
        Of `number`: the claim has a number that no near passage has, or none in its place; `unit`:
        its number stands there with another unit; `name`: it has a name that the source does not
        have; `negation`: one side denies what the other states.
    """
    checks = []
    near_numbers = frozenset().union(*(passage.numbers for passage in passages))
    if claim.numbers - near_numbers or _misplaced_number(claim, passages):
        checks.append("number")
    near_measures = {pair for passage in passages for pair in passage.measures}
    measured = {number for number, _ in near_measures}
    if any(
        number in measured and (number, unit) not in near_measures
        for number, unit in claim.measures
    ):
        checks.append("unit")
    if names(claim.text) - source_words:
        checks.append("name")
    if _contradicts(claim, passages):
        checks.append("negation")
    return tuple(checks)
