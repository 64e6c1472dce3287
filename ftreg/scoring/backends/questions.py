"""What a question asks for, and whether a statement holds something of that kind."""

import re
from enum import StrEnum

from ftreg.scoring.facts import names, numbers
from ftreg.scoring.words import content_words, words


class AnswerKind(StrEnum):
    """The kind of thing that answers a question."""

    DATE = "date"
    NUMBER = "number"
    PERSON = "person"
    PLACE = "place"
    DEFINITION = "definition"
    OPEN = "open"
    """Anything else: no kind of words tells an answer."""


# The first that matches counts, so the narrow ones come first.
_ASKS = (
    (
        AnswerKind.NUMBER,
        r"how (?:many|much|long|old|far|tall|big|fast|high|large|deep|wide|heavy|often)\b"
        r"|what (?:\w+ )?(?:percent|percentage|number|age|amount|population|temperature)\b",
    ),
    (
        AnswerKind.DATE,
        r"when\b|(?:what|which) (?:\w+ )?(?:year|date|day|time|month|century|decade)\b",
    ),
    (AnswerKind.PERSON, r"(?:who|whom|whose)\b"),
    (
        AnswerKind.PLACE,
        r"where\b|(?:what|which) (?:is the |was the |\w+ )?"
        r"(?:city|country|countries|state|states|county|continent|town|place|island|region|capital)\b",
    ),
    (AnswerKind.DEFINITION, r"(?:what|define)(?: is| are| was| were|s| does)?\b"),
)
_KINDS = tuple((kind, re.compile(rf"\b(?:{pattern})")) for kind, pattern in _ASKS)
_MONTH = re.compile(
    r"\b(?:jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|january|february|march|april|may|june"
    r"|july|august|september|october|november|december|monday|tuesday|wednesday|thursday|friday"
    r"|saturday|sunday|today|yesterday|tomorrow|annually|daily|weekly)\b",
    re.IGNORECASE,
)
_YEAR = re.compile(r"\b(?:1\d{3}|20\d\d)s?\b|\b\d{1,2}:\d\d\b|\b\d+(?:st|nd|rd|th) century\b")
_DEFINES = re.compile(
    r"\b(?:is|are|was|were) (?:an?|the|any|one|usually|often|when|used|defined|called|made)\b"
    r"|\b(?:refers? to|means|consists? of|known as|describes|stands for)\b"
)
_LOCATES = re.compile(r"\b(?:in|at|near|from|of|located|capital)\b")
_FRAGMENT = 4
_HEAD = 150
"""A definition is given in a statement's first characters or not at all."""


def kind_of(question: str) -> AnswerKind:
    """Return what a question asks for; `OPEN` for "how", "why" and for what is no question."""
    text = " ".join(words(question))
    for kind, pattern in _KINDS:
        if pattern.search(text):
            return kind
    return AnswerKind.OPEN


def _is_fragment(statement: str) -> bool:
    """Whether a statement is so short that it is the answer alone ("Paris.")."""
    return len(statement.split()) <= _FRAGMENT


def _names_someone_new(statement: str, question: str) -> bool:
    """Whether a name stands in the statement that the question does not have.

    In a fragment the first word's capital counts too.
    """
    text = f"it {statement}" if _is_fragment(statement) else statement
    return bool(names(text) - set(content_words(question)))


def holds(kind: AnswerKind, statement: str, question: str) -> float | None:
    """Return how far a statement holds what `kind` needs and the question has not already said.

    Returns:
        A number in [0, 1], 1 where it does; None where the kind needs nothing in particular.
    """
    match kind:
        case AnswerKind.DATE:
            dated = _YEAR.search(statement) or _MONTH.search(statement)
            return 1.0 if dated else 0.5 * bool(numbers(statement) - numbers(question))
        case AnswerKind.NUMBER:
            return float(bool(numbers(statement) - numbers(question)))
        case AnswerKind.PERSON:
            return float(_names_someone_new(statement, question))
        case AnswerKind.PLACE:
            located = _LOCATES.search(statement) is not None or _is_fragment(statement)
            return (_names_someone_new(statement, question) + located) / 2
        case AnswerKind.DEFINITION:
            return float(_DEFINES.search(statement[:_HEAD]) is not None)
        case AnswerKind.OPEN:
            return None
