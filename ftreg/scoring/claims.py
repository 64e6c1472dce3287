"""Cutting a text into sentences, claims and passages, by rules and in linear time."""

import re
import unicodedata
from collections.abc import Iterator

MAX_WORDS = 80
"""A longer unit is cut: a sentence encoder reads some 200 word pieces and drops the rest."""

_ABBREVIATION_LIST = """
    adj adm al approx apr assn aug ave blvd bros capt cf cmdr co col corp dec dept dr ed eds eg
    eq esp est etc feb fig figs fr gen gov hon hr hrs ie inc inst jan jr jul jun lt ltd maj mar max
    messrs min misc mr mrs ms mt mts nov oct op pg ph pl pop pp prof pt pvt ref rep rev sec sen
    sens sep sept sgt sq sr st supt tel univ viz vol vols vs
"""
_ABBREVIATIONS = frozenset(_ABBREVIATION_LIST.split())
_BEFORE_NUMBER = frozenset({"no", "nos", "art", "ch", "p", "ca", "c", "v"})
_SPACED_DECIMAL = re.compile(r"\d{1,3}")
_CLOSING = "\"'\u201d\u2019\u00bb)]"
_WIDE_MARKS = "\u3002\uff01\uff1f\uff61"  # full stops and marks of Chinese and Japanese
_OTHER_MARKS = "\u061f\u0964"  # Arabic question mark, Hindi full stop
# Possessive, and never begun inside a run of marks: a text of dots alone stays linear.
_MARK = re.compile(
    rf"(?<![.!?…])[.!?…]++[{re.escape(_CLOSING)}]*+(?=\s|$)"
    rf"|[{_WIDE_MARKS}]+[\u300d\u300f\u201d\u2019]*|[{_OTHER_MARKS}]+"
)
_LAST_WORD = re.compile(r"([^\W_](?:[\w.]*[^\W_])?)\W*$")
_BULLET = re.compile(
    r"^\s*(?:[-*+•‣◦\u2013\u2014]|\(?\d{1,3}[.)]|\(?(?:[a-z][.)]|[A-Z]\)))\s+(?=\S)"
)
_HEADING = re.compile(r"^\s*#{1,6}\s+(?=\S)")
_FENCE = re.compile(r"^\s*(?:```|~~~)")
_CODE_LINE = re.compile(
    r"^\s*(?:(?:async\s+)?def\s+\w+\s*\(|class\s+\w+\s*[:({]|(?:from|import)\s+[\w.]+(?:\s+import\b|$)"
    r"|return\b(?=.*[\w)\]]\s*;?$)|(?:if|elif|else|for|while|try|except|with|finally)\b.*:\s*(?:#.*)?$"
    r"|@\w[\w.]*|#include\b|(?:public|private|static|const|let|var|func|fn|function)\s+\w+"
    r"|[\w.\[\]\"']+\s*(?:[-+*/|&]|:)?=\s*\S|.*[{};]\s*$|[\w.]+\(.*\)\s*;?$)"
)
_COMMENT = re.compile(r"(?:#|//)\s*(.+)$|\"\"\"|'''|/\*+|\*+/")
_WORD = re.compile(r"\w")


def is_code(text: str) -> bool:
    """Return whether most lines of a text are source code of some common language.

    One line alone counts only if it is unmistakable: a definition or a statement with a call.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return False
    hits = sum(len(line) < 300 and bool(_CODE_LINE.match(line)) for line in lines)
    if len(lines) == 1:
        return bool(re.match(r"^\s*(?:(?:async\s+)?def|class|function|fn|func)\s+\w+.*[:{]", text))
    return hits * 2 >= len(lines)


def _ends_sentence(before: str, mark: str, after: str) -> bool:
    """Judge a mark by the text before it (its last ~40 characters) and the text after it."""
    stripped = mark.rstrip(_CLOSING)
    if not stripped.startswith(".") or not after:
        return not (stripped.startswith("…") and after[:1].islower())
    if len(stripped) > 1:  # an ellipsis goes on where a small letter follows
        return not after[0].islower()
    if before[-1:].isspace():  # tokenised text, where every mark stands alone
        return True
    found = _LAST_WORD.search(before)
    if found is None:
        return True
    word = found.group(1)
    lower = word.lower()
    if after[0].isdigit() and (lower in _BEFORE_NUMBER or _SPACED_DECIMAL.fullmatch(word)):
        return False
    if lower.replace(".", "") in _ABBREVIATIONS and lower not in {"no", "etc", "inc", "co"}:
        return False
    if lower in {"etc", "inc", "co", "corp", "ltd"}:
        return after[0].isupper()
    if "." in word and not word[-1].isdigit():  # "p.m. tomorrow", "U.S. troops", "U.S. The"
        return after[0].isupper() and _starts_afresh(after)
    if len(word) == 1 and word.isalpha() and word != "I":  # an initial: "J. Smith"
        return word.islower() and not after[0].isdigit()
    return True


_FRESH_LIST = """
    a an the this that these those he she it they we you i in on at but and when after his her
    their its there as if for while however
"""
_FRESH = frozenset(_FRESH_LIST.split())


def _starts_afresh(after: str) -> bool:
    first = re.match(r"\W*(\w+)", after)
    return first is not None and first.group(1).lower() in _FRESH


def _cut_sentences(paragraph: str) -> Iterator[str]:
    start = 0
    for found in _MARK.finditer(paragraph):
        before = paragraph[max(start, found.start() - 40) : found.start()]
        after = paragraph[found.end() : found.end() + 40].lstrip()
        if _ends_sentence(before, found.group(), after):
            yield paragraph[start : found.end()]
            start = found.end()
    yield paragraph[start:]


def _cut_long(unit: str) -> Iterator[str]:
    """Cut a unit above `MAX_WORDS` at its commas where there are any, else at words."""
    words = unit.split()
    start = 0
    while len(words) - start > MAX_WORDS:
        end = start + MAX_WORDS
        for place in range(end, start + MAX_WORDS // 2, -1):
            if words[place - 1][-1] in ",:;":
                end = place
                break
        yield " ".join(words[start:end])
        start = end
    yield " ".join(words[start:])


def _paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs, list items and headings; a line that only wraps is joined to the last."""
    pending: list[str] = []
    fenced = False
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
            line = ""
        marker = _BULLET.match(line) or _HEADING.match(line)
        body = line[marker.end() :] if marker else line
        goes_on = pending and not marker and body.strip()[:1].islower() and not fenced
        if pending and not goes_on:
            yield " ".join(pending)
            pending = []
        if body.strip():
            pending.append(body.strip())
    if pending:
        yield " ".join(pending)


def sentences(text: str) -> list[str]:
    """Split prose into sentences, in order.

    Knows abbreviations, initials, decimals, ellipses, lists, headings, wrapped lines, tokenised
    text (" . "), and the full stops of Chinese, Japanese, Arabic and Hindi. Whitespace inside a
    sentence becomes one space. Units without a letter or digit are dropped.
    """
    text = unicodedata.normalize("NFC", text)
    units = (
        piece
        for paragraph in _paragraphs(text)
        for sentence in _cut_sentences(paragraph)
        for piece in _cut_long(sentence)
    )
    return [unit for unit in units if _WORD.search(unit)]


def _code_units(text: str) -> list[str]:
    """Split code into comments, docstring sentences and statements, one a line, in order."""
    units: list[str] = []
    for line in text.splitlines():
        found = _COMMENT.search(line)
        code = line[: found.start()] if found and found.group(1) else line
        units.extend(_cut_long(code.strip().strip("\"'")))
        if found and found.group(1):
            units.extend(_cut_long(found.group(1)))
    return [unit for unit in units if _WORD.search(unit)]


def passages(text: str) -> list[str]:
    """Split a context into the units that a claim is held against: sentences, or lines of code."""
    return _code_units(text) if is_code(text) else sentences(text)


_SMALL_TALK_LIST = """
    yes yeah yep no nope ok okay sure thanks thank you hi hello hey oh ah wow well indeed right
    certainly course of great good nice cool sorry please bye goodbye welcome absolutely definitely
    exactly i see hmm haha lol hope this helps here is the answer summary
"""
_SMALL_TALK = frozenset(_SMALL_TALK_LIST.split())


def claims(text: str) -> list[str]:
    """Split an output into claims: its sentences, less those that state nothing.

    A sentence of nothing but small talk ("Sure!", "Thank you.") states nothing.
    """
    units = _code_units(text) if is_code(text) else sentences(text)
    return [
        unit for unit in units if not set(re.findall(r"[^\W\d_]+|\d+", unit.lower())) <= _SMALL_TALK
    ]
