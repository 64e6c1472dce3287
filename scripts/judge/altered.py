"""Sentences of real texts, unchanged, shortened, or with one fact changed.

A claim with one change shares nearly all words with its text, and is wrong; a shortened one is
right. Human-labelled sets have few of either.
"""

import random
import re
from collections.abc import Iterator, Sequence

from judge.everyday import DAYS, MONTHS, RELATIONS, C, E, Label, Notice

SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"])")
_NUMBER = re.compile(r"(?<![\w.,/-])\d[\d,]*(?:\.\d+)?(?![\w/-])")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+(?: (?:(?:of|de|van|von) )?[A-Z][a-z]+)*")
_AUXILIARY = re.compile(
    r"\b(is|are|was|were|has|have|had|can|could|will|would|should|must|did|does|do)\b(?! not|n't)"
)
_JOINED = re.compile(r",? ?(?:and|or)? ?")
_MORE_OPPOSITES = (
    "more/less larger/smaller biggest/smallest higher/lower increased/decreased all/none every/no "
    "most/few northern/southern western/eastern open/closed won/lost allowed/forbidden buy/sell "
    "bought/sold older/younger later/earlier male/female father/mother son/daughter king/queen "
    "strong/weak rich/poor fast/slow long/short near/far arrived/departed started/ended "
    "began/ended "
    "accepted/rejected approved/rejected success/failure possible/impossible legal/illegal "
    "safe/dangerous easy/difficult public/private good/bad better/worse best/worst true/false "
    "rising/falling rose/fell gained/lost major/minor young/old full/empty married/divorced "
    "passed/failed entered/left added/removed hired/fired kilometres/miles metres/feet "
    "seconds/minutes minutes/hours hours/days days/weeks weeks/months months/years million/billion "
    "thousand/million euros/dollars dollars/pounds sum/product row/column minimum/maximum "
    "rows/columns ascending/descending read/write encode/decode encodes/decodes returns/sets "
    "adds/removes add/remove creates/deletes create/delete first/last upper/lower "
    "positive/negative even/odd"
)
_OPPOSITE: dict[str, list[str]] = {}
for _one, _other in [*RELATIONS, *(pair.split("/") for pair in _MORE_OPPOSITES.split())]:
    if " " not in _one + _other:
        _OPPOSITE.setdefault(_one, []).append(_other)
        _OPPOSITE.setdefault(_other, []).append(_one)
for _set in (DAYS, MONTHS):
    for _word in _set:
        _OPPOSITE[_word] = [other for other in _set if other != _word]
_WORD = re.compile(r"[A-Za-z]+")
_LESS = (
    (re.compile(r" ?\([^()]*\)"), ""),
    (
        re.compile(
            r"^(?:In|On|At|During|After|Before|By|Since|However|Also|Then|Finally)"
            r"\b[^,]{0,40}, "
        ),
        "",
    ),
    (re.compile(r",? (?:which|who|where)\b[^,.]{8,80}(?=[,.])"), ""),
    (re.compile(r", (?:and|but) [^,.]{12,120}\.$"), "."),
    (re.compile(r"\b(is|are|was|were|does|did|has|have|had) not\b"), r"\1n't"),
)


def _with(text: str, found: re.Match[str], new: str) -> str:
    return text[: found.start()] + new + text[found.end() :]


def less(sentence: str, pick: random.Random) -> str | None:
    """Return the sentence shortened or contracted; None if no pattern applies."""
    made = [pattern.sub(new, sentence) for pattern, new in _LESS]
    made = [
        text[:1].upper() + text[1:] for text in made if text != sentence and len(text.split()) > 3
    ]
    return pick.choice(made) if made else None


def another_number(sentence: str, pick: random.Random) -> str | None:
    """Return the sentence with one number changed; None if it has no number."""
    found = list(_NUMBER.finditer(sentence))
    if not found:
        return None
    at = pick.choice(found)
    plain = at[0].replace(",", "").rstrip(".")
    if "." in plain:
        places = len(plain.split(".")[1])
        return _with(sentence, at, f"{float(plain) + pick.choice([0.5, 1, 2, 10]):.{places}f}")
    value = int(plain)
    year = 1000 <= value <= 2100 and len(at[0]) == 4
    step = [1, 2, 3, 5, 10, 100] if year else [1, 2, 10, value or 1, 9 * value or 9]
    new = value + pick.choice(step)
    return _with(sentence, at, f"{new:,}" if "," in at[0] else str(new))


def another_name(sentence: str, text: str, pick: random.Random) -> str | None:
    """Return the sentence with a name replaced by another of the text, or with two names swapped.

    None if it has no name that can be changed.
    """
    found = list(_NAME.finditer(sentence))
    if not found:
        return None
    if len(found) > 1 and pick.random() < 0.6:
        one, two = sorted(pick.sample(found, 2), key=lambda match: match.start())
        between = sentence[one.end() : two.start()]
        if one[0] in two[0] or two[0] in one[0] or _JOINED.fullmatch(between):
            return None
        return f"{sentence[: one.start()]}{two[0]}{between}{one[0]}{sentence[two.end() :]}"
    at = pick.choice(found)
    others = sorted({m[0] for m in _NAME.finditer(text) if m[0] not in at[0] and at[0] not in m[0]})
    return _with(sentence, at, pick.choice(others)) if others else None


def denied(sentence: str, pick: random.Random) -> str | None:
    """Return the sentence with its auxiliary negated; None unless it has exactly one, affirmed."""
    found = list(_AUXILIARY.finditer(sentence))
    if len(found) != 1 or re.search(r"\b(?:not|no|never)\b|n't", sentence):
        return None
    return _with(sentence, found[0], f"{found[0][0]} not")


def opposite(sentence: str, pick: random.Random) -> str | None:
    """Return the sentence with one word replaced by a contradicting one; None if it has none."""
    found = [match for match in _WORD.finditer(sentence) if match[0] in _OPPOSITE]
    if not found:
        return None
    at = pick.choice(found)
    return _with(sentence, at, pick.choice(_OPPOSITE[at[0]]))


def alterations(sentence: str, text: str, pick: random.Random) -> list[tuple[str, Label]]:
    """Return claims made from a sentence of a text: one that holds, and one or two changed ones.

    Empty if no change applies.
    """
    wrong = [
        another_number(sentence, pick),
        another_name(sentence, text, pick),
        denied(sentence, pick),
        opposite(sentence, pick),
    ]
    changed = [claim for claim in wrong if claim and claim != sentence]
    if not changed:
        return []
    right = less(sentence, pick) or sentence
    return [(right, E), *((claim, C) for claim in pick.sample(changed, min(2, len(changed))))]


def altered(texts: Sequence[str], count: int, *, seed: int) -> Iterator[Notice]:
    """Yield at most `count` texts, each with claims made from one of its sentences."""
    pick = random.Random(seed)
    for text in texts:
        if not count:
            return
        own = SENTENCE.split(text)
        fit = [s for s in own if 5 <= len(s.split()) <= 32 and s[-1:] in ".!"]
        if not fit:
            continue
        sentence = pick.choice(fit)
        start = max(0, own.index(sentence) - pick.randint(0, 4))
        claims = alterations(sentence, text, pick)
        if claims:
            count -= 1
            yield Notice(" ".join(own[start : start + 6]), claims, None, "altered")
