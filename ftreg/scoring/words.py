"""Words as scorers compare them: folded, identifiers split, numbers as digits, endings removed."""

import re
import unicodedata
from functools import lru_cache

_FUNCTION_WORD_LIST = """
    a about above after again against all also am an and any are aren as at be because been
    before being below between both but by can could couldn d did didn do does doesn doing don done
    down during each else even ever few for from further get gets got had hadn has hasn have haven
    having he her here hers herself him himself his how i if in into is isn it its itself just ll
    m made make many may me might mine more most much must mustn my myself needn no nor not now of
    off on once one only or other ought our ours ourselves out over own quite rather re s same shall
    shan she should shouldn so some such t than that the their theirs them themselves then there
    these they this those through to too under until up us use used using ve very was wasn we were
    weren what when where whether which while who whom whose why will with won would wouldn yet you
    your yours yourself yourselves yes yeah well oh really actually know think sure lot lots
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORD_LIST.split())

_NUMBER_LIST = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty
"""
_SMALL_NUMBERS = {word: str(value) for value, word in enumerate(_NUMBER_LIST.split())} | {
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80",
    "ninety": "90", "hundred": "100", "thousand": "1000", "million": "1000000",
    "billion": "1000000000", "dozen": "12", "twice": "2",
}  # fmt: skip
_ORDINALS = {
    "first": "1", "second": "2", "third": "3", "fourth": "4", "fifth": "5", "sixth": "6",
    "seventh": "7", "eighth": "8", "ninth": "9", "tenth": "10",
}  # fmt: skip

_IDENTIFIER_EDGE = re.compile(r"_+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_IDENTIFIER = re.compile(r"\b[A-Za-z]\w*(?:_[A-Za-z0-9]|[a-z][A-Z])\w*")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?: ?, ?\d{3})+(?!\d)")
_SPACED_DECIMAL = re.compile(r"(?<![\d.,])(\d{1,3})\. (?=\d{1,2}(?![\d.,]))")
_TOKEN = re.compile(r"\d+(?:\.\d+)?(?=st\b|nd\b|rd\b|th\b|s\b)?|[^\W\d_]+")
_ORDINAL_TAIL = re.compile(r"(?<=\d)(?:st|nd|rd|th|s)\b")
_WIDE = re.compile(r"([\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])")


def without_surrogates(text: str) -> str:
    """Replace lone surrogates: legal in a Python string, but not for tokenizers and servers."""
    return text.encode("utf-8", "replace").decode()


def split_identifiers(text: str) -> str:
    """Write `getUserName` and `get_user_name` as "get User Name" and "get user name"."""
    return _IDENTIFIER.sub(lambda found: _IDENTIFIER_EDGE.sub(" ", found.group()), text)


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Remove the common English endings, so that "visited", "visits" and "visit" agree.

    Much lighter than Porter's stemmer: it only has to unify forms of one word, not find its root.
    """
    if len(word) < 4 or not word.isascii():
        return word
    for ending, least in (("ies", 3), ("ied", 3)):
        if word.endswith(ending) and len(word) - 3 >= least - 1:
            return word[:-3] + "y"
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-2] if word.endswith(("sses", "shes", "ches", "xes")) else word[:-1]
    for ending in ("ing", "ed", "ly", "er"):
        root = word.removesuffix(ending)
        if root != word and len(root) >= 3 and re.search(r"[aeiouy]", root):
            word = root
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def join_digits(text: str) -> str:
    """Write "1,250" and the tokenised "1, 250" as "1250", and "31. 8" as "31.8"."""
    text = _GROUPED.sub(lambda found: re.sub(r"\D", "", found.group()), text)
    return _SPACED_DECIMAL.sub(r"\1.", text)


def words(text: str) -> list[str]:
    """Return the words of a text in order: NFKC, casefolded, identifiers split, numbers as digits.

    "1,250" gives "1250", "twelve" gives "12", "3rd" and "third" give "3"; scripts without spaces
    give a word per character.
    """
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    text = _ORDINAL_TAIL.sub("", join_digits(split_identifiers(text)))
    tokens = _TOKEN.findall(_WIDE.sub(r" \1 ", text.casefold()))
    return [_SMALL_NUMBERS.get(token) or _ORDINALS.get(token) or token for token in tokens]


def content_words(text: str) -> list[str]:
    """Return the stems of the words that carry meaning, in order, repeats included."""
    return [stem(word) for word in words(text) if word not in FUNCTION_WORDS]
