"""Short answers in a form that can be compared: words, operators and values, in any script.

Words are split by Unicode's rules (UAX #29, by `regex`), so that scripts without spaces and
punctuation without spaces are split too; values have one spelling (see `spelled`).
"""

import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

import regex

from ftreg.scoring.value_reader import (
    NUMERIC,
    Value,
    ValueKind,
    fold,
    number_of,
    parts_of,
)
from ftreg.scoring.values import dates_more_exactly, in_unit_of, same, spelled, values

_TAG = re.compile(
    r"</?[a-z][a-z0-9]{0,9}(?:\s+[\w-]+=(?:\"[^\"]*\"|'[^']*'))*\s*/?>", re.IGNORECASE
)
_ACRONYM = regex.compile(r"(?<![\w.])(?:\p{L}\.){2,}(?:\p{L}(?!\w))?|(?<!\w)[Nn]/[Aa](?!\w)")
_BETWEEN_LETTERS = regex.compile(r"(?<=\p{L})[.:\u00b7](?=\p{L})|_")
_MINUS_WORD = re.compile(r"\bminus (?=\d)")
_SIZED = re.compile(r"(\d) (million|billion|trillion)\b")
_DAY_AND_YEAR = re.compile(r"(?<![\d/])(\d{1,2}/\d{1,2})/(\d{4})(?!\d)")
# `(?w)`: \b is Unicode's default word boundary.
_PIECE = regex.compile(
    r"""(?wV1)
    (?P<number>(?:(?<![\w)\].])-)?(?<![.,])\d+(?:[.,:/]\d+)*(?:million|billion|trillion)?(?![A-Za-z]))
    |(?P<word>[\w\p{M}'’]+?\b(?:\+\+|\+(?![\w+])|\#(?!\w)|(?<=(?<![\w'])\w)-(?![\w-]))?)
    |(?P<operator>[<>=!]=|[<>=+*/^%]|(?=[^\x00-\x7f])\p{Sm})
    |(?P<symbol>\p{So}|(?!\$)\p{Sc})
    """,
    regex.VERBOSE,
)
_HYPHEN = regex.compile(r"(?<=\p{L})[-\u2013](?=\p{L})")
_ARTICLES = frozenset({"a", "an", "the"})
_VERB_LIST = """
    is was are were because since as and or would will can could should must has have seems looks
"""
_AFTER_LETTER = frozenset(_VERB_LIST.split())
"""What follows a letter of choice at the start of a sentence, and no article: "A is right"."""


@lru_cache(maxsize=1 << 14)
def answer_words(text: str, *, joined: bool = False) -> tuple[str, ...]:
    """Return the words, numbers and operators of an answer, in the spelling that is compared.

    Casefolded, without punctuation and English articles; "12,000" is "12000", "£5" is "5",
    "pounds". A letter of choice is kept: "(A)" is "a", and so is the "A" of "Hepatitis A". If
    nothing of a text would be left ("The", "?!"), its casefolded form is kept.

    Args:
        text: the answer.
        joined: read "back-flow" as one word, not two.
    """
    folded = spelled(_TAG.sub(" ", _unwrapped(fold(text)[0])))
    if joined:
        folded = _HYPHEN.sub("", folded)
    folded = _SIZED.sub(r"\1\2", _MINUS_WORD.sub("-", folded))
    folded = _DAY_AND_YEAR.sub(r"\1 \2", folded)
    folded = _ACRONYM.sub(lambda found: re.sub(r"[./]", "", found.group()), folded)
    folded = _BETWEEN_LETTERS.sub(" ", folded)
    kept = [
        _caseless(word)
        for found in _PIECE.finditer(folded)
        if _counts(found, folded) and (word := found.group().replace("'", ""))
    ]
    return tuple(kept) or tuple(_caseless(text).split())


def word_readings(text: str) -> tuple[tuple[str, ...], ...]:
    """Return `answer_words`, and if different those with hyphenated words as one."""
    apart, joined = answer_words(text), answer_words(text, joined=True)
    return (apart,) if apart == joined else (apart, joined)


def normalize(text: str) -> str:
    """Return `answer_words` joined by spaces.

    SQuAD's normalisation (Rajpurkar et al. 2016) in any script, but keeping what distinguishes
    answers: operators, signs, decimal points, "C#", letters of choice.
    """
    return " ".join(answer_words(text))


def _caseless(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _counts(found: "regex.Match[str]", text: str) -> bool:
    """Whether a piece distinguishes answers: not an article, nor an operator used for layout."""
    if found["operator"]:
        before = text[max(0, found.start() - 8) : found.start()]
        return _operates(found["operator"], before, text[found.end() : found.end() + 8])
    word = found.group()
    if word.casefold() not in _ARTICLES:
        return True
    after = re.match(r"\s+[\"'“‘]*(\w+)", text[found.end() : found.end() + 24])
    if after is None:
        return True
    if word != "A":
        return False
    starts = re.search(r"(?:^|[.!?:;\n\"“(])\s*$", text[max(0, found.start() - 4) : found.start()])
    return not starts or after[1] in _AFTER_LETTER


def _operates(operator: str, before: str, after: str) -> bool:
    """Whether an operator is between operands, and is not a bullet, mark-up or slash."""
    blank_before, blank_after = before[-1:].isspace(), after[:1].isspace()
    before, after = before.rstrip()[-3:], after.lstrip()[:3]
    if operator in ("<", ">", "<=", ">=", "≤", "≥", "≠", "≈"):
        return bool(re.match(r"[-+.]?\d", after)) or bool(before and re.match(r"\w", after))
    if not before or not after or not re.search(r"[\w)\]}]$", before):
        return False
    if not operator.isascii() or operator in ("==", "!=", "^"):
        return True
    if not re.match(r"[\w({\[+.-]", after) or blank_before != blank_after:
        return False
    short = bool(re.search(r"(?:^|\W)\w$|\d$|[)\]}]$", before))
    return operator in "=+" or (short and bool(re.match(r"\d|\w(?!\w)|[({\[-]", after)))


# Values of answers


def whole_value(text: str) -> Value | None:
    """Return the value that makes up a text, punctuation aside; None if there is more."""
    text = _unwrapped(text)
    found = values(text)
    if len(found) != 1 or found[0].kind is ValueKind.LABEL:
        return None
    around = text[: found[0].start] + text[found[0].end :]
    return None if _MORE_THAN_LAYOUT.search(around) else found[0]


_MORE_THAN_LAYOUT = regex.compile(r"[\p{L}\p{N}\p{Sm}*^/%]")


def one_value(left: Value, right: Value) -> bool:
    """Return whether two values are the same, and dates equally exact."""
    if left.kind is ValueKind.DATE and right.kind is ValueKind.DATE:
        mine, theirs = ([part is None for part in parts_of(one)] for one in (left, right))
        return mine == theirs and same(left, right)
    return same(left, right)


_LATEX = (
    (re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}"), r"\1/\2"),
    (re.compile(r"\\(?:boxed|text|mathrm|mathbf|operatorname)\{([^{}]*)\}"), r" \1"),
    (re.compile(r"\\(?:times|cdot)\b"), "×"),
    (re.compile(r"\\[;:! ]|\\(?:left|right|displaystyle)\b|\\[()\[\]]"), " "),
    (re.compile(r"\\([%$#&])"), r"\1"),
    (re.compile(r"\$\$?([^$\n]{0,120}?[^$\s])\$\$?(?!\d)"), r"\1"),
)


def _unwrapped(text: str) -> str:
    """Return a text without the brackets around all of it: "[42]" is a value, not a marker."""
    found = re.fullmatch(r"\s*\[([^\[\]]*)\]\s*", text)
    return found[1] if found else text


def _without_latex(text: str) -> str:
    text = _unwrapped(text)
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return text


_ANY_NUMBER = re.compile(r"(?:(?<!\w)-)?\d+(?:\.\d+)?")


@lru_cache(maxsize=1 << 14)
def last_value(text: str) -> Value | None:
    """Return the last value of a text, the result of a worked answer; None without one.

    LaTeX is read, citation markers are ignored. "One" and "first" count only if there is nothing
    else, and so do digits in identifiers.
    """
    plain = _without_latex(text)
    found = [value for value in values(plain) if value.kind is not ValueKind.LABEL]
    clear = [value for value in found if _is_clear(value)]
    if clear:
        return clear[-1]
    digits = list(_ANY_NUMBER.finditer(plain))
    if not digits:
        return found[-1] if found else None
    last = digits[-1]
    amount = Decimal(last.group())
    return Value(ValueKind.NUMBER, amount, None, last.start(), last.end(), last.group())


def _is_clear(value: Value) -> bool:
    """Whether a value counts something, and is not an ordinal in words, "one" or similar."""
    if not value.text.isalpha():
        return True
    return value.kind is not ValueKind.ORDINAL and not (
        value.kind is ValueKind.NUMBER and abs(number_of(value)) <= 1
    )


def numbers_of(value: Value, like: Value) -> Iterator[Fraction]:
    """Yield the possible numbers of a value, in the unit of another; none if the units differ.

    A date is compared with a bare number by its year, or else its day.
    """
    if value.kind in NUMERIC or value.kind is ValueKind.ORDINAL:
        if like.kind in NUMERIC or like.kind is ValueKind.ORDINAL:
            yield from in_unit_of(value, like)
    elif value.kind is ValueKind.DATE and like.kind is ValueKind.NUMBER:
        year, _, day = parts_of(value)
        yield from (Fraction(part) for part in (year, day) if part is not None)


def answers_date(value: Value, wanted: Value) -> bool:
    """Return whether a value is the wanted date or time, a more exact one, or the date's year."""
    if wanted.kind is ValueKind.DATE and value.kind is ValueKind.NUMBER:
        return bool(value.amount == parts_of(wanted)[0])
    if one_value(value, wanted):
        return True
    return wanted.kind is ValueKind.DATE and dates_more_exactly(value, wanted)
