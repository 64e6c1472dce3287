"""Small changes of words that change a claim's meaning.

A judge that reads a complete text may overlook one word. These checks compare a claim with the
passage it is based on: a reversed relation, two swapped names, an omitted condition. Each requires
that nearly all words are the same, and otherwise reports nothing.
"""

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import combinations

from ftreg.scoring.words import content_words, stem

_PAIRS = """
    before/after over/under above/below least/most minimum/maximum more/less more/fewer first/last
    inside/outside with/without until/from early/late earlier/later left/right up/down
    including/excluding included/excluded north/south east/west northern/southern
    eastern/western largest/smallest larger/smaller biggest/smallest oldest/youngest oldest/newest
    older/younger older/newer highest/lowest higher/lower longest/shortest longer/shorter
    fastest/slowest faster/slower
    best/worst better/worse cheapest/dearest always/never everybody/nobody everyone/nobody
    everyone/no-one morning/evening morning/afternoon summer/winter spring/autumn hot/cold
    upper/lower top/bottom front/back increased/decreased increase/decrease increases/decreases
    rose/fell rise/fall rises/falls rising/falling grew/shrank gained/lost won/lost win/lose
    open/closed opens/closes opened/closed starts/ends begins/ends started/ended allowed/forbidden
    allowed/prohibited permitted/forbidden accepted/rejected approved/rejected bought/sold
    arrived/departed arrives/departs entered/left entrance/exit added/removed adds/removes
    all/none all/no every/no most/few most/none many/few none/some
    men/women boys/girls mother/father son/daughter buyers/sellers import/export imports/exports
    yes/no possible/impossible legal/illegal safe/unsafe true/false public/private odd/even
    ascending/descending positive/negative rows/columns row/column sum/product
"""
_OPPOSITES: dict[str, set[str]] = {}
for _pair in _PAIRS.split():
    _one, _other = _pair.split("/")
    _OPPOSITES.setdefault(_one, set()).add(_other)
    _OPPOSITES.setdefault(_other, set()).add(_one)
for _word in ("all", "every"):  # the other way round it follows
    _OPPOSITES[_word] |= {"some", "few", "most"}
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_NEGATION = re.compile(r"\b(?:not|no|never|none|neither|nor|cannot|without)\b|n['’]t\b", re.I)
_SYMMETRIC = frozenset(
    ["and", "or", "with", "between", "met", "meets", "married", "cousin", "cousins"]
) | frozenset(["friends", "agree", "agrees", "near", "beside"])
_CONDITION = re.compile(
    r"\b(?:if|provided|only (?:if|when|with|on|for|by|after|in|to|at|from))\b", re.IGNORECASE
)
_RECURRING = (
    r"(?:at (?:night|weekends|low tide|high tide)|on (?:\w+days|bank holidays)|(?:in|during)"
    r" (?:(?:an? )?(?:(?:bad|heavy|strong|high|icy|poor) \w+|storms?|thunderstorms?|fog|frost|snow"
    r"|floods?|fires?|emergency|emergencies)|winter|summer|spring|autumn))"
)
_CIRCUMSTANCE = re.compile(rf"^{_RECURRING}(?=,)|\b{_RECURRING}(?=\W*$)", re.IGNORECASE)
"""What limits a statement in the present; a past event at such a time happened for good."""
_PRESENT = re.compile(r"\b(?:is|are|has|have|must|can|cannot|may|will|does|do)\b", re.IGNORECASE)
_EXCEPTION = re.compile(r"\b(?:unless|except|(?:all|any|every \w+) but)\b", re.IGNORECASE)
_DOUBT = re.compile(
    r"\b(?:might|could|(?:plan|hope|want|intend|expect|fail|refuse)(?:s|d|ed|ing)? to)\b",
    re.IGNORECASE,
)
_PART_EDGE = re.compile(r"[,;:()\u2013\u2014]|\s-\s|\b(?:and|but|while|because|after|who|which)\b")
_COMMON = 0.75
"""The share of a claim's words that must be in the passage."""
_LONGEST = 60


@lru_cache(maxsize=1 << 14)
def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text))


def _lower(words: Sequence[str]) -> list[str]:
    return [word.casefold() for word in words]


def _share(claim: Sequence[str], passage: Sequence[str]) -> float:
    return (Counter(claim) & Counter(passage)).total() / len(claim) if claim else 0.0


def opposed(claim: str, passage: str) -> bool:
    """Whether a claim has the opposite of a word of the passage, in the same place.

    Not if one of them is negated: "not closed" is "open".
    """
    mine, theirs = _lower(_words(claim)), _lower(_words(passage))
    roots, others = list(map(stem, mine)), list(map(stem, theirs))
    if max(len(mine), len(theirs)) > _LONGEST or _share(roots, others) < _COMMON / 1.5:
        return False
    if bool(_NEGATION.search(claim)) != bool(_NEGATION.search(passage)):
        return False
    matcher = SequenceMatcher(None, roots, others, autojunk=False)
    same = sum(block.size for block in matcher.get_matching_blocks())
    changed = [
        (mine[a:b], theirs[c:d]) for tag, a, b, c, d in matcher.get_opcodes() if tag == "replace"
    ]
    words = sum(len(left) for left, _ in changed)
    if same < _COMMON * (len(mine) - words):
        return False
    return any(_OPPOSITES.get(one, set()) & set(right) for left, right in changed for one in left)


def denies_the_opposite(claim: str, passage: str) -> bool:
    """Whether one side negates the opposite of a word of the other: "open", and "not closed"."""
    if bool(_NEGATION.search(claim)) == bool(_NEGATION.search(passage)):
        return False
    mine, theirs = set(_lower(_words(claim))), set(_lower(_words(passage)))
    return any(_OPPOSITES.get(word, set()) & (theirs - mine) for word in mine - theirs)


def swapped(claim: str, passage: str) -> bool:
    """Whether a claim is a passage with two of its names swapped: "Bo owes Al" for "Al owes Bo"."""
    mine, theirs = _words(claim), _words(passage)
    if len(mine) > _LONGEST or Counter(_lower(mine)) != Counter(_lower(theirs)):
        return False
    if _SYMMETRIC & set(_lower(mine)) or "," in claim + passage:  # "In May, Ivo left Turin."
        return False
    names = [word for word in mine if word[0].isupper() and word in theirs]
    return any(
        theirs.index(one) > theirs.index(other) and mine.index(one) < mine.index(other)
        for one, other in combinations(dict.fromkeys(names), 2)
    )


def unconditional(claim: str, passage: str, question: str = "") -> bool:
    """Whether a claim omits the passage's condition, exception or doubt.

    A condition may be anywhere in the passage, a recurring circumstance ("in a storm") at its
    beginning or end, a doubt in the part that the claim is based on. The condition is stated if the
    claim or its question has most of its words.
    """
    mine = _lower(_words(claim))
    if any(each.search(claim) for each in (_CONDITION, _EXCEPTION, _DOUBT)):
        return False
    if _share(mine, _lower(_words(passage))) <= _COMMON - 0.1:
        return False
    if _EXCEPTION.search(passage):
        return True
    limit = None
    if found := _CONDITION.search(passage):
        limit = _PART_EDGE.split(passage[found.end() :])[0]
    elif _PRESENT.search(passage) and (found := _CIRCUMSTANCE.search(passage)):
        limit = found.group()
    if limit is not None:
        condition = content_words(limit)
        stated = set(content_words(f"{question} {claim}"))
        return sum(word in stated for word in condition) * 2 <= len(condition)
    return any(
        _DOUBT.search(part) and _share(mine, _lower(_words(part))) > 0.5
        for part in _PART_EDGE.split(passage)
    )
