"""Checks of what similarity overlooks: numbers, units, names and negation.

Sentence embeddings hardly change with a number, a name or a "not", yet such a change makes a fluent
claim false. Each check compares a claim with the passages nearest to it and names what it found; it
reports nothing if either side does not mention the matter.
"""

import re
import unicodedata
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ftreg.scoring.clauses import clauses
from ftreg.scoring.contrasts import denies_the_opposite, opposed, swapped, unconditional
from ftreg.scoring.value_reader import NUMERIC, number_of
from ftreg.scoring.values import Value, ValueKind, same, spelled, unsupported, vague, values
from ftreg.scoring.words import FUNCTION_WORDS, content_words, stem, words

_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|neither|nor|cannot|nothing|nowhere|without|zero|isnt|wasnt"
    r"|dont|doesnt|didnt|cant|wont)\b|(?<![\d.,:])\b0\b(?![.,:]\d)|n['\u2019]t\b|n\s['\u2019]\s?t\b",
    re.IGNORECASE,
)
# "Not only" affirms, and so does "won 2-0"; what the speaker does not know, like or do says nothing
# of the world.
_NOT_NEGATION = re.compile(
    r"\bnot (?:only|just|sure)\b|\bno (?:longer than|doubt|matter)\b|\bno\.?\s*\d|\bwhy not\b"
    r"|\b\d+ ?[-\u2013] ?\d+\b"
    r"|\b(?:i|we)\b(?:\s?['\u2019]\s?\w+)?(?:\s\w+){0,2}?\s?(?:not|never|n\s?['\u2019]\s?t)\b",
    re.IGNORECASE,
)
_CLAUSE_EDGE = re.compile(
    r"[,;:()\u2013\u2014]|\s-\s|\b(?:but|although|though|while|whereas|because|and|who|which)\b"
)
_NAME = re.compile(r"[^\W\d_][\w'\u2019-]*")
_SENTENCE_EDGE = re.compile(r"(?:^|[.!?:;\"“(\[•*-])\W*$")
_MARKER = re.compile(r"\[[^\[\]]{0,30}\]|【[^】]{0,30}】")


def _counted(text: str, *, labels: bool = False) -> tuple[Value, ...]:
    """Return the values that number, measure or date something; optionally labels as well."""
    return tuple(
        value
        for value in values(text)
        if (labels or value.kind is not ValueKind.LABEL)
        and not vague(value)
        and (value.kind is not ValueKind.DATE or any(map(str.isdigit, value.text)))
    )


def numbers(text: str) -> frozenset[str]:
    """Return the values of a text, each in the spelling that equal ones share.

    Without those that rarely count things: "one" and "first" are as often pronouns and adverbs;
    zero is left to negation ("no cars").
    """
    return frozenset(spelled(value.text) for value in _counted(text))


_SIDE, _FRAME, _LEAST_FRAME = 3, 6, 4
"""Words of a number's frame: per side if both have as many, in total, at least."""


@dataclass(frozen=True, slots=True)
class PlacedNumber:
    """A value of a text, and the next words before and after it, other values written "#"."""

    number: Value
    before: tuple[str, ...]
    after: tuple[str, ...]


def placed_numbers(text: str) -> tuple[PlacedNumber, ...]:
    """Return the values of a text, each with the words of its frame."""
    found = _counted(text, labels=True)
    masked: list[str] = []
    places = []
    end = 0
    for value in found:
        masked += words(text[end : value.start])
        places.append(len(masked))
        masked.append("#")
        end = value.end
    masked += words(text[end:])
    return tuple(
        PlacedNumber(
            value,
            tuple(masked[max(0, place - _FRAME) : place]),
            tuple(masked[place + 1 : place + 1 + _FRAME]),
        )
        for value, place in zip(found, places, strict=True)
    )


def names(text: str) -> frozenset[str]:
    """Return the stems of words that are capitalised other than at the start of a sentence.

    Neither values ("March 5", "18 °C") nor citation markers contain names.
    """
    text = _MARKER.sub(lambda found: " " * len(found.group()), text)
    chars = list(text)
    for value in values(text):
        if value.kind is not ValueKind.LABEL:
            chars[value.start : value.end] = "#" * (value.end - value.start)
    text = "".join(chars)
    found: set[str] = set()
    for match in _NAME.finditer(text):
        before = text[max(0, match.start() - 8) : match.start()]
        if match.group()[0].isupper() and not _SENTENCE_EDGE.search(before):
            found.update(
                stem(word)
                for word in words(match.group())
                if word not in FUNCTION_WORDS and not word[0].isdigit()
            )
    return frozenset(found)


@lru_cache(maxsize=1 << 16)
def _plain_stem(word: str) -> str:
    """Return a stem without accents, cut like one that never had any."""
    parts = unicodedata.normalize("NFKD", word)
    return stem("".join(char for char in parts if not unicodedata.combining(char)))


@lru_cache(maxsize=1 << 10)
def _known(source_words: frozenset[str]) -> frozenset[str]:
    return frozenset(map(_plain_stem, source_words))


_LEAST_ROOT = 4
"""Letters that two forms of a name share at least: "Iceland" and "Icelandic"."""


def new_names(text: str, source_words: Set[str]) -> frozenset[str]:
    """Return the names of a text that a source lacks in any form, ignoring case and accents."""
    known = _known(frozenset(source_words))
    return frozenset(
        name
        for name in names(text)
        if (plain := _plain_stem(name)) not in known
        and not any(
            (plain.startswith(word) or word.startswith(plain))
            and min(len(plain), len(word)) >= _LEAST_ROOT
            for word in known
        )
    )


@dataclass(frozen=True, slots=True)
class Denial:
    """What a negation denies, and the content words of its clause.

    It denies the first content words after it; if there are none, the last ones before it.
    """

    first: str | None
    words: frozenset[str]
    clause: frozenset[str]
    in_title: bool
    """Whether its capital makes it part of a name, which denies nothing ("Life Without Bees")."""

    def agrees(self, other: "Denial") -> bool:
        """Whether two deny the same in another order: "no dogs are allowed", "... not allowed"."""
        shared = len(self.clause & other.clause) * 2
        alike = shared >= max(len(self.clause), len(other.clause))
        return alike and bool(self.words & other.clause and other.words & self.clause)

    def against(self, stated: Set[str], others: Sequence["Denial"]) -> bool:
        """Whether this denies what is stated, and no other denial says the same."""
        denies = not self.in_title and not self.words.isdisjoint(stated)
        return denies and not any(self.agrees(other) for other in others)


def denials(text: str) -> tuple[Denial, ...]:
    """Return what a text denies, in order: of "It did not damage his eye" the words damage, eye."""
    found = []
    for clause in _CLAUSE_EDGE.split(_NOT_NEGATION.sub(" ", text)):
        stems: frozenset[str] | None = None
        for cue in _NEGATION.finditer(clause):
            stems = frozenset(content_words(clause)) if stems is None else stems
            in_title = cue.group().istitle() and bool(clause[: cue.start()].strip())
            after, before = clause[cue.end() : cue.end() + _REACH], clause[: cue.start()]
            governed = content_words(after)[:_DENIED] or content_words(before)[-_DENIED:]
            first = governed[0] if governed else None
            found.append(Denial(first, frozenset(governed), stems, in_title))
    return tuple(found)


_REACH = 200
"""Characters after a negation among which the words that it governs are."""
_DENIED = 2
"""How many content words after a negation it is assumed to govern."""


@dataclass(frozen=True)
class Facts:
    """What the checks need to know about one text; each part is computed once, on demand."""

    text: str

    @cached_property
    def placed_numbers(self) -> tuple[PlacedNumber, ...]:
        """See `placed_numbers`."""
        return placed_numbers(self.text)

    @cached_property
    def denials(self) -> tuple[Denial, ...]:
        """See `denials`."""
        return denials(self.text)

    @cached_property
    def parts(self) -> tuple["Facts", ...]:
        """The clauses."""
        return tuple(map(Facts, clauses(self.text)))

    @cached_property
    def content(self) -> frozenset[str]:
        """The content words."""
        return frozenset(content_words(self.text))


def _misplaced_number(claim: Facts, passages: Sequence[Facts], missing: Set[Value]) -> bool:
    """Whether a claim has a number where passages with the same words have only other numbers.

    "30 minutes before, drivers 45" and "45 minutes before, drivers 30" have the same numbers. Only
    a frame of several consecutive words is conclusive: fewer occur around more than one number.
    """
    for mine in claim.placed_numbers:
        if mine.number in missing:
            continue
        left = min(len(mine.before), max(_SIDE, _FRAME - len(mine.after)))
        before, after = mine.before[len(mine.before) - left :], mine.after[: _FRAME - left]
        if len(before) + len(after) < _LEAST_FRAME:
            continue
        theirs = [
            other.number
            for passage in passages
            for other in passage.placed_numbers
            if other.before[max(0, len(other.before) - left) :] == before
            and other.after[: len(after)] == after
        ]
        if theirs and not any(same(mine.number, other) for other in theirs):
            return True
    return False


def _part_of(passage: Facts, claim: Facts) -> Facts:
    """Return the first of a passage's clauses with most of a claim's content words."""
    return max(passage.parts, key=lambda part: len(claim.content & part.content), default=passage)


def _contradicts(
    claim: Facts, nearest: Facts, others: Sequence[Denial], asked: Sequence[Denial]
) -> bool:
    """Whether a claim denies a word that the nearest clause states, or the reverse.

    Only if the two share at least half of the claim's content words: otherwise they are about
    different things. Denials that other passages or the question share are ignored.
    """
    if len(claim.content & nearest.content) * 2 < len(claim.content):
        return False
    theirs = [*nearest.denials, *others]
    # What both deny in the same words explains no other denial of theirs.
    said = {denial.first for denial in (*claim.denials, *asked)}
    said &= {denial.first for denial in (*nearest.denials, *asked)}
    own = [each for each in claim.denials if each.first not in said and each not in theirs]
    near = [each for each in theirs if each.first not in said and each not in claim.denials]
    return any(denial.against(nearest.content, near) for denial in own) or any(
        denial.against(claim.content, own) for denial in nearest.denials if denial in near
    )


def _alike(claim: str, passage: str) -> bool:
    """Whether a passage is at most twice as long as a claim: a long one denies many things."""
    return len(passage.split()) <= 2 * len(claim.split()) + 2


def fired(
    claim: Facts,
    passages: Sequence[Facts],
    *,
    source_words: Set[str],
    source: str,
    question: Facts | None = None,
) -> tuple[str, ...]:
    """Return the names of the checks that fired against a claim.

    Args:
        claim: the claim.
        passages: the passages nearest to it, the nearest first; at least one.
        source_words: the content words of the complete source.
        source: the complete source.
        question: what the claim answers, if known: the claim need not repeat what it denies or
            makes a condition.

    Returns:
        `number`: the claim has a value that the source lacks, or none in its place; `elsewhere`: it
        has one that occurs only in passages about other things; `unit`: its amount occurs, but in
        another unit or currency, or with the opposite sign; `name`: it has a name that the source
        lacks; `negation`: one side denies what the other states; and for a passage with nearly the
        same words `opposite`, `order` and `condition`: see `contrasts`.
    """
    checks = []
    near = "\n".join(passage.text for passage in passages)
    missing = unsupported(claim.text, near)
    amounts = {abs(number_of(value)) for value in values(near) if value.kind in NUMERIC}
    turned = [
        value for value in missing if value.kind in NUMERIC and abs(number_of(value)) in amounts
    ]
    lost = len(missing) - len(turned)
    if _misplaced_number(claim, passages, frozenset(missing)):
        checks.append("number")
    elif lost:
        checks.append("number" if unsupported(claim.text, source) else "elsewhere")
    if turned:
        checks.append("unit")
    if new_names(claim.text, source_words):
        checks.append("name")
    nearest = passages[0].text
    part = _part_of(passages[0], claim)
    others = [denial for passage in passages[1:] for denial in passage.denials]
    asked = question.denials if question else ()
    denied = _alike(claim.text, part.text) and _contradicts(claim, part, others, asked)
    if denied and not denies_the_opposite(claim.text, part.text):
        checks.append("negation")
    if opposed(claim.text, nearest):
        checks.append("opposite")
    if swapped(claim.text, nearest):
        checks.append("order")
    said = question.text if question else ""
    if _alike(claim.text, nearest) and unconditional(claim.text, nearest, said):
        checks.append("condition")
    return tuple(checks)
