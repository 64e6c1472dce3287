"""Where the values of a text are and what they are: the reader behind `values`.

Number words are read by text2num; the names of units, currencies and months are from CLDR (by
Babel). Libraries that also find the values were tried and rejected: on everyday sentences they read
"€40" as a date, "9-17" as 13, and "€40 million, twelve thousand" as 40,012,000.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from ftreg.scoring.unit_names import (
    currencies,
    linear,
    months,
    named_units,
)
from ftreg.scoring.words import without_surrogates

Amount = Decimal | Fraction | tuple[int | None, ...] | tuple[str]
"""A number; (year, month, day), each of which may be missing; (hour, minute, second); a label."""


class ValueKind(StrEnum):
    """What a value is."""

    NUMBER = "number"
    ORDINAL = "ordinal"
    PERCENT = "percent"
    MONEY = "money"
    MEASURE = "measure"
    DATE = "date"
    TIME = "time"
    LABEL = "label"
    """A version, a phone number, an identifier with digits: compared, but never respelled."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a text.

    Attributes:
        kind: what it is.
        amount: see `Amount`.
        unit: CLDR's name of the unit ("kilometer-per-hour"), the ISO 4217 code of the currency, or
            a name that several share ("pound", "cent"); for a date "decade", or "unordered" if day
            and month may be swapped; for a time "open" if it may be a.m. or p.m. ("at nine"); else
            None.
        start: where it begins in the text.
        end: where it ends.
        text: the text between.
    """

    kind: ValueKind
    amount: Amount
    unit: str | None
    start: int
    end: int
    text: str


NUMERIC = {ValueKind.NUMBER, ValueKind.PERCENT, ValueKind.MONEY, ValueKind.MEASURE}


def number_of(value: Value) -> Fraction:
    """Return the amount of a value that is a number, whatever its unit."""
    assert isinstance(value.amount, Decimal | Fraction)
    return Fraction(value.amount)


def parts_of(value: Value) -> tuple[Any, ...]:
    """Return the parts of a date or time, or the only one of a label."""
    assert isinstance(value.amount, tuple)
    return value.amount


@lru_cache(maxsize=1 << 12)
def compact(text: str) -> str:
    """Return only the letters and digits of a text."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", text).casefold())


# Folding: one spelling of digits, signs and spaces, with the place of each character.

_FOLDED = {
    "\u2212": "-", "\u2010": "-", "\u2011": "-", "\ufe63": "-", "\uff0d": "-", "\u2019": "'",
    "\u2018": "'", "\u00ba": "°", "\u02da": "°", "\u066b": ".", "\u066c": ",", "\u2044": "/",
    "\u00b5": "μ",
}  # fmt: skip


def fold(text: str) -> tuple[str, Sequence[int]]:
    """Return the folded text, and for each of its characters, and its end, the place in `text`."""
    if text.isascii():
        return text.translate(_ASCII_SPACES), range(len(text) + 1)
    parts: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        part = char if char.isascii() else _fold_char(char, parts[-1] if parts else "")
        if part:
            parts.append(part)
            places.extend([place] * len(part))
    return "".join(parts).translate(_ASCII_SPACES), [*places, len(text)]


_ASCII_SPACES = str.maketrans("\t\n\r\v\f", "     ")


@lru_cache(maxsize=1 << 12)
def _fold_char(char: str, before: str) -> str:
    if char in _FOLDED:
        return _FOLDED[char]
    category = unicodedata.category(char)
    if category == "Cf":
        return ""
    if category == "Zs":
        return " "
    if category == "Nd":
        return str(unicodedata.decimal(char))
    plain = unicodedata.normalize("NFKC", char)
    if category == "No" and "\u2044" in plain:  # "2½"
        return (" " if before[-1:].isdigit() else "") + plain.replace("\u2044", "/")
    if category == "No" and "super" in unicodedata.decomposition(char):
        return plain if before[:1] == "^" or before[-2:-1] == "^" else f"^{plain}"
    if char == "\u207b":
        return "^-"
    return plain


# The lexemes: what may begin a value. The first alternative that matches counts.

_LETTER = "A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff_"
_NUMBER = (
    r"(?:[1-9]\d{0,2}(?:(?:,|\{,\}|\\,)\d{2,3})*(?:,|\{,\}|\\,)\d{3}(?!\d)(?:\.\d+)?"  # 12,34,567.8
    r"|[1-9]\d{0,2}(?:,\ 000)+(?!\d)"  # tokenised
    r"|[1-9]\d{0,2}(?:\.\d{3}){2,}(?!\d)(?:,\d+)?|[1-9]\d{0,2}(?:\.\d{3})+,\d+"  # 1.234,5
    r"|[1-9]\d{0,2}(?:\ \d{3})+(?!\d)(?:[.,]\d+)?"
    r"|[1-9]\d{0,2}(?:'\d{3})+(?!\d)(?:\.\d+)?"
    r"|\d+(?:[.,]\d+)?|(?<![\w.,])\.\d+)"
)
_HOUR_LIST = "one two three four five six seven eight nine ten eleven twelve"
_HOURS = {word: hour for hour, word in enumerate(_HOUR_LIST.split(), start=1)}
_HALF_DAY = (
    r"(?:noon\b|midday\b|[ap]\.\ ?m\b\.?|[ap]m\b|uhr\b"
    r"|in\ the\ (?:morning|afternoon|evening)\b|at\ night\b)"
)
_HOUR = rf"(?:[01]?\d|2[0-4]|{'|'.join(_HOURS)})"
_PARTS = {
    "half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7,
    "eighth": 8, "ninth": 9, "tenth": 10,
}  # fmt: skip
_DECADE_LIST = "twenties thirties forties fifties sixties seventies eighties nineties"
_DECADES = {word: 10 * number for number, word in enumerate(_DECADE_LIST.split(), start=2)}


@cache
def _lexemes() -> re.Pattern[str]:
    """Return the pattern of all lexemes; the name of its last group identifies the lexeme."""
    month = "|".join(sorted(map(re.escape, months()), key=len, reverse=True))
    numerator = "|".join(("an?", *_HOURS))
    patterns = {
        "skip": r"https?://\S+|www\.\S+|(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,64}\.\w[\w.-]{0,64}|`[^`\n]{0,200}`|【[^】]{0,20}】"
        r"|\[\^?\d{1,3}(?:\ ?[,;–-]\ ?\^?\d{1,3})*\]",
        "iso": r"(?<![\w.-])(?P<iy>\d{4})(?P<is>[-/.])(?P<im>\d{1,2})(?P=is)(?P<id>\d{1,2})"
        r"(?:T(?=\d\d:)|(?![\w-]|[.,]\d))",
        "cjk": r"(?:(?P<cy>\d{4})[年년]\ ?)?(?P<cm>\d{1,2})[月월]\ ?(?P<cd>\d{1,2})[日일]"
        r"|(?P<cz>\d{4})[年년](?:\ ?(?P<cn>\d{1,2})[月월])?",
        "slashed": r"(?<![\w./-])(?P<s1>\d{1,2})(?P<ss>[./-])(?P<s2>\d{1,2})(?P=ss)"
        r"(?P<sy>\d{4}|\d\d(?<=/\d\d))(?![\w/-]|[.,]\d)",
        "dmy": r"(?<![\w.,:])(?P<dd>\d{1,2})(?:st|nd|rd|th|er|\.)?(?:\ of|\ de)?[ -]?"
        rf"(?P<dm>{month}|mars)\b\.?(?:,?[ -](?:de[l]?\ )?(?P<dy>\d{{4}})(?![\w-]))?",
        "mdy": rf"\b(?P<mm>{month})\b\.?[ -](?P<md>\d{{1,2}})(?:st|nd|rd|th)?(?![\w%]|[.,:/]\d)"
        r"(?:\ ?,?\ (?P<mz>\d{4})(?!\w))?",
        "my": rf"\b(?P<ym>{month}|mars)\b\.?,?\ (?:of\ |de[l]?\ )?(?P<yy>\d{{4}})(?![\w-]|[.,]\d)",
        "month": rf"\b(?P<nm>{month})\b",
        "decade": r"(?<![\w.,])(?P<ap>')?(?P<dc>\d{3}0|\d0)'?s\b"
        rf"|\b(?:nineteen\s)?(?P<dw>{'|'.join(_DECADES)})\b",
        "clock": rf"(?<![\w:.,])(?P<h1>[01]?\d|2[0-4]):(?P<m1>[0-5]\d)(?::(?P<t1>[0-5]\d))?"
        rf"(?![\d:])(?:\ ?(?P<a1>{_HALF_DAY}))?"
        rf"|(?<![\w:.,])(?P<h2>[01]?\d|2[0-4])[.](?P<m2>[0-5]\d)\ ?(?P<a2>{_HALF_DAY})"
        r"|(?<![\w:.,])(?P<h3>[01]?\d|2[0-4])\ ?h\ ?(?P<m3>[0-5]\d)(?!\w)",
        "hour": rf"(?<![\w:.,])(?P<h4>{_HOUR})\ ?(?P<a4>{_HALF_DAY}|o'clock(?:\ ?{_HALF_DAY})?)"
        rf"|(?<=\bat\ )(?P<h5>{_HOUR})(?=\ ?(?:[,;!?)]|\.(?!\d)|$|(?:on|from|every|each|sharp|daily"
        r"|today|tonight|tomorrow|and|or|until|to)\b))"
        rf"|\b(?P<p6>half|(?:a\ )?quarter)\ (?P<d6>past|to)\ (?P<h6>{_HOUR})\b"
        r"(?:\ ?(?P<a6>[ap]\.?m\b\.?))?"
        r"|\b(?:12\ |twelve\ )?(?P<w7>noon|midday|midnight)\b",
        "label": r"\+\d{1,3}[ .-]?\(?\d[\d ().-]{5,}\d|\(\d{2,5}\)\ ?\d[\d -]{4,}\d"
        r"|(?<![\w.,])(?:\d+(?:[.]\d+){2,}(?<!\.\d{3})(?![\d,])|\d+(?:-\d+){2,}|\d{3}-\d{4}(?!\d)"
        r"|(?:\d{1,9}[,;]){20,}\d*|0\d{1,4}(?:[ /-]\d{2,})+(?![\d,.])|0\d{4,}|0[xX][0-9a-fA-F]+)\b"
        rf"|(?<![{_LETTER}\d])(?:[{_LETTER}]+\d[{_LETTER}\d]*(?:[.-]\d+)*|(?-i:[A-Z]{{1,6}})-\d+\w*)"
        rf"|[{_LETTER}]\[-?\d+\]",
        "part": rf"(?:\b(?P<pn>{numerator}|\d{{1,2}})[ -])?\b(?P<pd>{'|'.join(_PARTS)})(?P<ps>s?)\b"
        r"(?:\ (?P<pa>an?)\b)?",
        "dozen": r"\b(?:(?:an?|one)\ )?dozen\b",
        "number": _NUMBER,
    }
    joined = "|".join(f"(?P<{name}>{pattern})" for name, pattern in patterns.items())
    return re.compile(joined.replace(r"\ ", "[ ]"), re.IGNORECASE)


_SCALES = {
    "hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "k": 3, "mn": 6,
    "mio": 6, "m": 6, "bn": 9, "b": 9, "tn": 12, "grand": 3, "lakh": 5, "crore": 7, "tausend": 3,
    "millionen": 6, "milliarde": 9, "milliarden": 9, "mrd": 9, "tsd": 3, "mille": 3, "millions": 6,
    "milliard": 9, "milliards": 9, "mil": 3, "millones": 6, "millón": 6, "mil millones": 9,
    "thousands": 3, "billions": 9, "千": 3, "万": 4, "萬": 4, "億": 8, "亿": 8,
}  # fmt: skip
_SCALE_WORDS = sorted((word for word in _SCALES if len(word) > 1), key=len, reverse=True)
_SCALE = re.compile(
    rf"[ -]?(?P<word>{'|'.join(_SCALE_WORDS)})\b\.?"
    r"|(?P<wide>[千万萬億亿])|(?P<letter>[kKmMbB])(?![\w/^])",
    re.IGNORECASE,
)
_POWER = re.compile(r" ?[x×·⋅*] ?10 ?(?:\^|\*\*) ?\{?([+-]?\d{1,3})\}?|[eE]([+-]?\d{1,3})(?!\w)")
_TEN_TO = re.compile(r"(?:\^|\*\*)\{?([+-]?\d{1,3})\}?")
_OVER = re.compile(r"/(\d{1,4})(?![\w/.])")
_MIXED = re.compile(r"[ -](\d{1,3})/(\d{1,4})(?![\w/.])")
_AND_PART = re.compile(
    r" (?:and|&) (?:(a|one|two|three) )?(half|quarters?|thirds?|1/2|1/4|3/4)\b(?!-\w)",
    re.IGNORECASE,
)
_ORDINAL = re.compile(r"(?:st|nd|rd|th|er|ère|ème)\b", re.IGNORECASE)
_SIGN_WORD = re.compile(r"\b(?:minus|negative) $", re.IGNORECASE)
_BELOW = re.compile(r" below (?:zero|0)\b", re.IGNORECASE)
_PREFIX = re.compile(
    r"(?<![\w$€£])((?:[A-Z]{1,3})?[$€£¥₹₩₽₺₪]|[A-Z]{3} ?|Rs\.? ?|kr\.? )( ?-|-? ?)$"
)
_UNIT_PIECE = re.compile(r"[^\W\d_]+|[23]\b|[^\w\s]|\s+")
HYPHENATED = re.compile(r"-[^\W\d_]+$")


@dataclass(slots=True)
class _Number:
    """A number that is being read: the amount, where it begins and ends in the folded text."""

    amount: Decimal | Fraction
    start: int
    end: int
    ordinal: bool = False
    sized: bool = False
    """Whether a scale word belongs to it."""


class _Reader:
    """Reads the values of one text, in order."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.folded, self._places = fold(text)
        self._comma_decimal = _writes_decimal_commas(self.folded)
        self._found: list[Value] = []
        self._end = 0

    def read(self) -> tuple[Value, ...]:
        """Return all values, none overlapping another."""
        starts: list[tuple[int, _Number | None]] = [
            (start, None) for start in _candidates(self.folded)
        ]
        if starts or _WORD.search(self.folded):
            starts += _spoken(self.folded)
        for start, number in sorted(starts, key=lambda entry: (entry[0], entry[1] is not None)):
            if start < self._end:
                continue
            if number is not None:
                self._number(number)
            elif found := _lexemes().match(self.folded, start):
                self._take(found)
        return tuple(_in_ranges(_compounds(self._found, self.text), self.text))

    def _take(self, found: re.Match[str]) -> None:
        """Read the value that a lexeme begins; as a bare number if it is nothing else."""
        name = next(name for name in _KINDS if found[name] is not None)
        if name == "skip":
            self._end = found.end()
        elif name == "label":
            self._label(found)
        elif name in ("part", "dozen"):
            self._part(found)
        elif name in ("clock", "hour"):
            self._time(found)
        elif name != "number":
            self._date(found, name)
        if self._end <= found.start() and (digits := _DIGITS.match(self.folded, found.start())):
            self._digits(digits)

    def _add(self, kind: ValueKind, amount: Amount, unit: str | None, start: int, end: int) -> None:
        self._end = end
        first, last = self._places[start], self._places[end - 1] + 1
        within = first in self._places[start - 1 : start] or last - 1 in self._places[end : end + 1]
        if within:  # only a piece of one character, such as "½"
            return
        self._found.append(Value(kind, amount, unit, first, last, self.text[first:last]))

    def _before(self, place: int) -> str:
        """Return the text before a place, as far as it matters."""
        return self.folded[max(0, place - _NEAR) : place]

    def _free_before(self, place: int) -> str:
        """Return the part of it that belongs to no value yet."""
        return self.folded[max(self._end, place - _NEAR) : place]

    def _label(self, found: re.Match[str]) -> None:
        text = found.group()
        code = re.match(r"([A-Z]{3}|Rs)(?=\d)", text)
        if code and (code[0] in currencies() or code[0] == "Rs"):
            number = _DIGITS.match(self.folded, found.start() + code.end())
            if number:
                self._digits(number)
                return
        self._add(ValueKind.LABEL, (compact(text),), None, found.start(), found.end())

    def _date(self, found: re.Match[str], name: str) -> None:
        read = {
            "iso": _iso_date, "cjk": _cjk_date, "slashed": _slashed_date, "dmy": _named_date,
            "mdy": _named_date, "my": _named_date, "month": self._month, "decade": _decade,
        }[name](found)  # fmt: skip
        if read is not None:
            amount, unit = read
            self._add(ValueKind.DATE, amount, unit, found.start(), found.end())

    def _month(self, found: re.Match[str]) -> "_Date | None":
        """Read a month on its own: "in March", but not "you may", "we march"."""
        name = found.group()
        if len(name) < 3 or not name[0].isupper() or (len(name) < 4 and name != "May"):
            return None
        if name in ("May", "March") and not _BEFORE_MONTH.search(self._before(found.start())):
            return None
        return (None, months()[name.casefold()], None), None

    def _time(self, found: re.Match[str]) -> None:
        read = _clock(found)
        if read is not None:
            amount, unit = read
            self._add(ValueKind.TIME, amount, unit, found.start(), found.end())

    def _part(self, found: re.Match[str]) -> None:
        """Read "half", "two thirds", "half a dozen"."""
        if found["dozen"]:
            self._number(_Number(Decimal(12), found.start(), found.end(), sized=True))
            return
        if found["pd"].casefold() == "half" and self._unit_and_half(found):
            return
        counted = (found["pn"] or "").casefold()
        part = found["pd"].casefold()
        many = _HOURS.get(counted) or (int(counted) if counted.isdigit() else 1)
        after_part = found.end("pd") + len(found["ps"])
        after = self.folded[after_part : after_part + _NEAR]
        if part == "half":
            sound = not found["ps"] and not _NOT_HALF.search(self._before(found.start("pd")))
            sound = sound and not re.match(r"-?time|way|-\w", after)
        elif counted.startswith("a") or not counted:
            sound = bool(counted) and not found["ps"] and bool(_OF_OR_END.match(after))
        else:
            sound = (many > 1) == bool(found["ps"])
        if not sound:
            return
        end = found.end("pd") + len(found["ps"])
        amount: Decimal | Fraction = Fraction(many, _PARTS[part])
        if found["pa"] and part == "half":
            amount, end = self._half_a(found, end)
        elif after.startswith(" dozen"):
            amount, end = amount * 12, end + len(" dozen")
        self._number(_Number(amount, found.start(), end))

    def _unit_and_half(self, found: re.Match[str]) -> bool:
        """Read "an hour and a half"."""
        whole = _UNIT_AND.search(self._free_before(found.start()))
        if whole is None or found["pn"] not in ("a", "one"):
            return False
        shift = found.start() - whole.end()
        unit, end = self._unit_at(shift + whole.start(1) - 1)
        if unit is None or end != shift + whole.end(1):
            return False
        kind = _kind(unit, ordinal=False)
        self._add(kind, Fraction(3, 2), unit, shift + whole.start(), found.end("pd"))
        return True

    def _half_a(self, found: re.Match[str], end: int) -> tuple[Decimal | Fraction, int]:
        """Continue after "half a": "dozen", "million", a unit, or none of these."""
        if self.folded.startswith(" dozen", found.end()):
            return Decimal(6), found.end() + len(" dozen")
        scale = _SCALE.match(self.folded, found.end())
        if scale and scale["word"]:
            return _scaled(Fraction(1, 2), _SCALES[scale["word"].casefold()]), scale.end()
        if self._unit_at(found.end())[0]:
            return Fraction(1, 2), found.end()
        return Fraction(1, 2), end

    def _digits(self, found: re.Match[str]) -> None:
        """Read a number in digits, with what belongs to it on both sides."""
        start, end = found.span()
        if start and self.folded[start - 1] == "^":  # a superscript: a footnote, or a power
            self._end = end
            return
        text = found.group()
        if len(text) > _LONGEST:
            self._add(ValueKind.LABEL, (compact(text),), None, start, end)
            return
        pieces = text.replace(" ", "")
        if re.fullmatch(r"\d+,\d+", text) and _in_list(self.folded, start, end):
            end = start + text.index(",")
            pieces = text[: text.index(",")]
        exact = self._decimal(pieces, priced=self._is_price(start, end))
        number = _Number(exact, start, end)
        self._notation(number)
        self._number(number)

    def _is_price(self, start: int, end: int) -> bool:
        """Whether a currency is next to a number: a price never has three decimals."""
        around = (self.folded[max(0, start - 2) : start], self.folded[end : end + 2])
        return any(_SYMBOL.search(text) for text in around)

    def _decimal(self, text: str, *, priced: bool) -> Decimal:
        comma, dot = text.rfind(","), text.rfind(".")
        text = re.sub(r"[{}\\']", "", text)
        if comma >= 0 and dot >= 0:  # the last of both is the decimal sign
            group, sign = (",", ".") if dot > comma else (".", ",")
            return Decimal(text.replace(group, "").replace(sign, "."))
        mark = "," if comma >= 0 else "."
        grouped = re.fullmatch(rf"[1-9]\d{{0,2}}(?:\{mark}\d{{2,3}})*\{mark}\d{{3}}", text)
        groups = mark == ("." if self._comma_decimal else ",") or text.count(mark) > 1 or priced
        if grouped and groups:
            return Decimal(text.replace(mark, ""))
        return Decimal(text.replace(",", "."))

    def _notation(self, number: _Number) -> None:
        """Continue after the digits: powers of ten, fractions, ordinal suffixes."""
        rest = self.folded
        if found := _POWER.match(rest, number.end):
            number.amount = _scaled(number.amount, int(found[1] or found[2]))
            number.end = found.end()
        elif number.amount == 10 and (found := _TEN_TO.match(rest, number.end)):
            number.amount = _scaled(Decimal(1), int(found[1]))
            number.end = found.end()
        elif number.amount == int(number.amount):
            whole = int(number.amount)
            if (found := _MIXED.match(rest, number.end)) and int(found[2]):
                number.amount = whole + Fraction(int(found[1]), int(found[2]))
                number.end = found.end()
            elif (found := _OVER.match(rest, number.end)) and int(found[1]) not in (0, whole):
                number.amount = Fraction(whole, int(found[1]))
                number.end = found.end()
            elif found := _ORDINAL.match(rest, number.end):
                number.ordinal = True
                number.end = found.end()

    def _number(self, number: _Number) -> None:
        """Add a number with its scale, sign and unit."""
        text = self.folded
        prefix = _PREFIX.search(self._free_before(number.start))
        code = _currency(prefix[1]) if prefix else None
        if not number.ordinal:
            self._scale(number, priced=code is not None)
        unit, end = self._unit_at(number.end)
        formula = prefix is not None and text[number.end : number.end + 1] == "$" == prefix[1]
        if formula:
            code = None
        if number.ordinal or formula:
            unit, end = None, number.end
        if code and prefix:
            unit, end = code, number.end
            number.start -= len(prefix[0])
        elif unit is None and self._stuck(number):
            return
        number.end = end
        if unit and (found := _AND_PART.match(text, end)) and number.amount == int(number.amount):
            number.amount = Fraction(number.amount) + _part_of(found)
            number.end = found.end()
        self._sign(number, prefix[2] if code and prefix else "")
        if unit and (below := _BELOW.match(text, number.end)):
            number.amount = min(number.amount, -number.amount)
            number.end = below.end()
        kind = _kind(unit, ordinal=number.ordinal)
        if not self._vague(number):
            self._add(kind, number.amount, unit, number.start, number.end)

    def _scale(self, number: _Number, *, priced: bool) -> None:
        text = self.folded
        if (found := _AND_PART.match(text, number.end)) and not number.sized:
            number.amount = Fraction(number.amount) + _part_of(found)
            number.end = found.end()
        while found := _SCALE.match(text, number.end):
            letter = found["letter"]
            if letter and letter.islower() and letter in "mb" and not priced:
                break  # metres
            if letter == "b" and not priced:
                break
            word = (found["word"] or found["wide"] or letter or "").casefold()
            if word in ("m",) and found["word"]:
                break
            number.amount = _scaled(number.amount, _SCALES[word])
            number.end = found.end() - (found.group().endswith(".") and not _dotted(text, found))
            number.sized = True
        if found := _DOZEN.match(text, number.end):
            number.amount, number.end = number.amount * 12, found.end()

    def _unit_at(self, place: int) -> tuple[str | None, int]:
        """Return the unit that begins at a place, after a space or hyphen, and where it ends."""
        text = self.folded
        begin = place + 1 if text[place : place + 1] in (" ", "-") else place
        symbols, names = named_units()
        ends: list[int] = []
        at = begin
        while len(ends) < 9 and (piece := _UNIT_PIECE.match(text, at)):
            at = piece.end()
            ends.append(at)
        for end in reversed(ends):
            if text[end - 1].isspace():
                continue
            name = text[begin:end]
            if name == "in" and _INCHES.match(text, end):
                return "inch", end
            unit = symbols.get(name) or names.get(name.casefold())
            if unit and _unit_ends(text, begin, end):
                if end < len(text) and text[end] == "." and name.isascii() and len(name) < 4:
                    end += _dot_belongs(text, end)
                return unit, end
        return None, place

    def _stuck(self, number: _Number) -> bool:
        """Read letters attached to a number, as in "3D", as a label; True if there were any."""
        found = _STUCK.match(self.folded, number.end)
        if found is None or not self.folded[number.end - 1].isdigit():
            return False
        text = self.folded[number.start : found.end()]
        self._add(ValueKind.LABEL, (compact(text),), None, number.start, found.end())
        return True

    def _sign(self, number: _Number, inside: str) -> None:
        text, start = self.folded, number.start
        if "-" in inside:
            number.amount = -number.amount
        elif start and text[start - 1] in "-–" and _is_minus(text, start - 1):
            number.amount, number.start = -number.amount, start - 1
        elif found := _SIGN_WORD.search(text[max(0, start - 10) : start]):
            number.amount = -number.amount
            number.start = max(0, start - 10) + found.start()

    def _vague(self, number: _Number) -> bool:
        """Whether a number word counts nothing: "no one", "hundreds", "a few thousand"."""
        text = self.folded
        word = text[number.start : number.end].casefold()
        if word[-1].isdigit():
            return False
        before = text[max(0, number.start - 12) : number.start].casefold()
        after = text[number.end : number.end + 9].casefold()
        if word == "one":
            return bool(_PRONOUN_BEFORE.search(before) or _PRONOUN_AFTER.match(after))
        if word in _SCALES or word == "hundreds":
            return word.endswith("s") or bool(_FEW.search(before))
        return False


_KINDS = (
    "skip", "iso", "cjk", "slashed", "dmy", "mdy", "my", "month", "decade", "clock", "hour",
    "label", "part", "dozen", "number",
)  # fmt: skip
_Date = tuple[tuple[int | None, ...], str | None]
_WORD = re.compile(r"[^\W\d_]")
_UNIT_AND = re.compile(r"\ban? ([^\W\d_]+) and $", re.IGNORECASE)
_PIECE = re.compile(r"[^\W\d_]+|\d+|[+(.'](?=\d)|[`【]|\[(?=\^?\d)")
_DIGITS = re.compile(_NUMBER.replace(r"\ ", "[ ]"))
_INCHES = re.compile(r"\.?(?:$|\s*[,;)x×]|\.$)")
"""What may follow "in" if it means inches."""
_NEAR = 24
"""Characters on either side of a value that are checked."""
_SYMBOL = re.compile(r"[$€£¥₹]")
_LONGEST = 40
"""More digits than this are not an amount."""
_DOZEN = re.compile(r" dozen\b", re.IGNORECASE)
_STUCK = re.compile(rf"[{_LETTER}\d]+")
_BEFORE_MONTH = re.compile(
    r"\b(?:in|since|until|till|by|from|of|every|last|next|this|early|late|mid|during|between|and|to"
    r"|or|through|before|after)[ -]$",
    re.IGNORECASE,
)
_NOT_HALF = re.compile(
    r"\b(?:first|second|1st|2nd|other|latter|better|this|each|last|next|that)[ -]$", re.IGNORECASE
)
_OF_OR_END = re.compile(r"[ -]of\b|[.,;!?)]*$")
_PRONOUN_BEFORE = re.compile(r"\b(?:no|any|some|every|each|which|this|that|the|another|other)[ -]$")
_PRONOUN_AFTER = re.compile(r" (?:another|who\b|of\b)|'s")
_FEW = re.compile(r"\b(?:few|several|many|some|couple of|of)\s$")


@cache
def _triggers() -> frozenset[str]:
    """Return the words, in lower case, that may begin a lexeme."""
    return frozenset(
        [*months(), "mars", *_DECADES, *_HOURS, *_PARTS, "a", "an", "dozen", "nineteen", "noon"]
        + ["midday", "midnight", "http", "https", "www", "twelve"]
        + [f"{part}s" for part in _PARTS]
    )


def _candidates(text: str) -> Iterator[int]:
    """Yield the places where a lexeme may begin, so that few are tried."""
    triggers = _triggers()
    for found in _PIECE.finditer(text):
        piece, end = found.group(), found.end()
        if (
            not piece.isalpha()
            or (
                piece.casefold() in triggers
                and not (len(piece) < 3 and text[end : end + 1] not in (" ", "-"))
            )
            or (text[end : end + 1] in _JOINED and end < len(text))
        ):
            yield found.start()


_JOINED = frozenset("0123456789_[-@+")
"""What follows a word of which a label or an address is made."""


def _currency(prefix: str) -> str | None:
    symbols, names = named_units()
    name = prefix.strip(" .")
    unit = symbols.get(name) or names.get(name.casefold())
    return unit if unit in currencies() else None


def _dotted(text: str, found: re.Match[str]) -> bool:
    """Whether the dot after a scale word belongs to it: "40 Mio. Euro"."""
    return found.group().casefold().strip(" -.") in ("mio", "mrd", "tsd", "mn", "bn")


def _dot_belongs(text: str, place: int) -> bool:
    """Whether a dot abbreviates a unit: a lower-case letter follows it."""
    return bool(re.match(r"\. [a-z(]", text[place : place + 3]))


def _unit_ends(text: str, begin: int, end: int) -> bool:
    """Whether a unit may be at a place: not inside a word, nor as an operator."""
    name, after = text[begin:end], text[end : end + 2]
    if name[-1].isalpha() and re.match(rf"[{_LETTER}\d]", after):
        return False
    if name == "%":  # of a division, as in "5 % 2"
        return not (text[begin - 1] == " " and re.match(r" ?[\d(]", after))
    if name in ("$", "€", "£", "¥", "₹"):
        return not re.match(r"\d", after)
    if len(name) == 1 and name.isalpha():
        return not re.match(r"['&.][A-Za-z]|\(", after)
    return True


def _kind(unit: str | None, *, ordinal: bool) -> ValueKind:
    if ordinal:
        return ValueKind.ORDINAL
    if unit is None:
        return ValueKind.NUMBER
    if unit in ("percent", "permille", "permyriad", "percentage-point"):
        return ValueKind.PERCENT
    return ValueKind.MONEY if unit in currencies() else ValueKind.MEASURE


def _scaled(amount: Decimal | Fraction, power: int) -> Decimal | Fraction:
    return as_decimal(Fraction(amount) * Fraction(10) ** power)


def _part_of(found: re.Match[str]) -> Fraction:
    if "/" in found[2]:
        return Fraction(found[2])
    many = _HOURS.get((found[1] or "a").casefold(), 1)
    return Fraction(many, _PARTS[found[2].casefold().rstrip("s")])


def _is_minus(text: str, place: int) -> bool:
    """Whether a dash before a number is a sign: not after a word, nor between two numbers."""
    before = text[max(0, place - _NEAR) : place].rstrip(" ")
    if place == 0 or not before:
        return True
    if text[place - 1] == " ":
        return not before[-1].isdigit()
    return text[place - 1] in "([{=<>*/,;:|\"'+^~≈≤≥$€£¥"


def _in_list(text: str, start: int, end: int) -> bool:
    """Whether "1,2" is part of "1,2,3" or "(1,2)"."""
    return (
        bool(re.match(r",\d", text[end : end + 2]))
        or bool(re.search(r"\d,$", text[max(0, start - 2) : start]))
        or (text[start - 1 : start] in ("(", "[") and text[end : end + 1] in (")", "]"))
    )


# Languages: only what decides how "1.500" is read, and which number words there are.

_MARKS = {
    "en": "the of and is are was were in to at for with by on from it that this has have an",
    "de": "der die das und ist sind war ein eine im am für mit von auf zu hat dem den des nicht uhr"
    " kostet beträgt wiegt stunden minuten sekunden tage wochen monate jahre prozent mio mrd",
    "fr": "le la les et est sont un une des du dans pour avec sur au aux qui que ne pas à de",
    "es": "el los las y es son un una del en para con por al se que fue",
}
_LANGUAGES = {
    word: [language for language, words in _MARKS.items() if word in words.split()]
    for words in _MARKS.values()
    for word in words.split()
}


@lru_cache(maxsize=1 << 12)
def _language(text: str) -> str:
    votes = dict.fromkeys(_MARKS, 0)
    for word in re.findall(r"[^\W\d_]+", text.casefold()):
        for language in _LANGUAGES.get(word, ()):
            votes[language] += 1
    return max(votes, key=lambda language: votes[language])


_COMMA_DECIMAL = re.compile(r"(?<![\d.,(\[])\d+,\d{1,2}(?![\d,)\]]|\.\d)")
_DOT_DECIMAL = re.compile(r"(?<![\d.,])\d+\.\d{1,2}(?![\d.])")


def _writes_decimal_commas(text: str) -> bool:
    if _language(text) != "en":
        return True
    return bool(_COMMA_DECIMAL.search(text)) and not _DOT_DECIMAL.search(text)


class _Token:
    """A word as text2num expects it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def text(self) -> str:
        return self._text

    def nt_separated(self, previous: "_Token") -> bool:
        return False

    def not_a_number_part(self) -> bool:
        return False


_NO_NUMBERS = {"o", "oh", "ones", "tens"}
_TOKEN = re.compile(r"[^\W\d_]+|[\d_]+|[^\w]+")
_AFTER_DIGITS = re.compile(
    r"(?<=\d)[ -]?(?:hundred|thousand|million|billion|trillion|dozen)\b", re.I
)
_ARTICLE = re.compile(r"\b(?:an?) $", re.IGNORECASE)


def _spoken(text: str) -> list[tuple[int, _Number]]:
    """Return the numbers in words, with the places where they begin."""
    from text_to_num import find_numbers

    masked = _AFTER_DIGITS.sub(lambda found: "#" * len(found.group()), text).replace("-", " ")
    pieces = list(_TOKEN.finditer(masked))
    tokens = [_Token(piece.group()) for piece in pieces]
    found = []
    for one in find_numbers(tokens, _language(text), threshold=0.0):
        start, end = pieces[one.start].start(), pieces[one.end - 1].end()
        words = text[start:end]
        if words.casefold() in _NO_NUMBERS or not words[0].isalpha():
            continue
        if one.is_ordinal and words.endswith("s"):
            continue
        amount = Decimal(str(one.value))
        amount = Decimal(int(amount)) if amount == int(amount) else amount
        sized = words.split()[-1].split("-")[-1].casefold() in _SCALES
        if sized and (article := _ARTICLE.search(text[max(0, start - 3) : start])):
            start -= len(article.group())
        number = _Number(amount, start, end, ordinal=one.is_ordinal, sized=sized)
        found.append((start, number))
    return found


# Dates and times


def _valid(year: int | None, month: int | None, day: int | None) -> bool:
    longest = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    if month is None:
        return day is None
    return 1 <= month <= 12 and (day is None or 1 <= day <= longest[month - 1])


def _iso_date(found: re.Match[str]) -> _Date | None:
    date = int(found["iy"]), int(found["im"]), int(found["id"])
    return (date, None) if _valid(*date) else None


def _cjk_date(found: re.Match[str]) -> _Date | None:
    year, month, day = (
        None if part is None else int(part)
        for part in (found["cy"] or found["cz"], found["cm"] or found["cn"], found["cd"])
    )
    return ((year, month, day), None) if _valid(year, month, day) else None


def _slashed_date(found: re.Match[str]) -> _Date | None:
    """Read "25/3/2024"; "5/3/2024" may be one of two days, "5.3.2024" is the fifth of March."""
    first, second, year = int(found["s1"]), int(found["s2"]), int(found["sy"])
    if len(found["sy"]) == 2:
        year += 2000 if year < 70 else 1900
    if found["ss"] == "." or not _valid(year, first, second):
        return ((year, second, first), None) if _valid(year, second, first) else None
    unordered = first != second and _valid(year, second, first)
    return (year, first, second), "unordered" if unordered else None


def _named_date(found: re.Match[str]) -> _Date | None:
    name = (found["dm"] or found["mm"] or found["ym"]).casefold()
    month = months().get(name, 3)  # "mars"
    day, year = found["dd"] or found["md"], found["dy"] or found["mz"] or found["yy"]
    date = (None if year is None else int(year), month, None if day is None else int(day))
    return (date, None) if _valid(*date) else None


def _decade(found: re.Match[str]) -> _Date | None:
    if found["dw"]:
        return (_DECADES[found["dw"].casefold()], None, None), "decade"
    number = int(found["dc"])
    return (1900 + number if found["ap"] and number < 100 else number, None, None), "decade"


def _clock(found: re.Match[str]) -> _Date | None:
    """Return (hour, minute, second) of a time, and whether it may be a.m. or p.m."""
    if found["w7"]:
        return (0 if found["w7"].casefold() == "midnight" else 12, 0, 0), None
    hour_text = next(found[f"h{n}"] for n in range(1, 7) if found[f"h{n}"])
    hour = _HOURS.get(hour_text.casefold()) or int(hour_text)
    minute = int(found["m1"] or found["m2"] or found["m3"] or 0)
    second = int(found["t1"] or 0)
    said = (found["a1"] or found["a2"] or found["a4"] or found["a6"] or "").casefold()
    if found["p6"]:
        minute = 30 if found["p6"].casefold() == "half" else 15
        if found["d6"].casefold() == "to":
            hour, minute = hour - 1, 60 - minute
    late = re.search(r"p\.? ?m|afternoon|evening|night", said)
    early = re.search(r"a\.? ?m|morning", said)
    if (late or early) and hour > 12 and not (found["m1"] or found["m2"]):
        return None
    if late and hour < 12:
        hour += 12
    if early and hour == 12:
        hour = 0
    unclear = (found["h4"] or found["h5"] or found["p6"]) and not late and not early
    unclear = unclear and said not in ("uhr", "noon", "midday") and hour <= 12
    return (hour % 24 if hour > 23 or hour < 0 else hour, minute, second), (
        "open" if unclear else None
    )


# Values that belong together

_LARGER = {
    ("hour", "minute"), ("minute", "second"), ("hour", "second"), ("foot", "inch"),
    ("pound", "ounce"), ("day", "hour"), ("year", "month"), ("stone", "pound"), ("week", "day"),
    ("meter", "centimeter"),
}  # fmt: skip
_JOINT = re.compile(r"(?:,? and|,)? ?")
RANGE = re.compile(r" ?(?:-|–|—|\bto\b|\bbis\b|à|\bor\b|x|×|by) ?", re.IGNORECASE)


def _compounds(found: Iterable[Value], text: str) -> Iterator[Value]:
    """Yield the values; "2 hours 30 minutes" is one."""
    last: Value | None = None
    for value in found:
        if (
            last is not None
            and last.unit
            and value.unit
            and (last.unit, value.unit) in _LARGER
            and _JOINT.fullmatch(text[last.end : value.start])
            and not isinstance(last.amount, tuple)
            and not isinstance(value.amount, tuple)
            and (turned := linear(last.unit, value.unit))
        ):
            amount = Fraction(last.amount) * turned[0] + Fraction(value.amount)
            exact = as_decimal(amount / turned[0])
            whole = (last.unit, exact) if isinstance(exact, Decimal) else (value.unit, amount)
            last = replace(
                last,
                unit=whole[0],
                amount=whole[1],
                end=value.end,
                text=text[last.start : value.end],
            )
            continue
        if last is not None and (day := _day_of(last, value, text)):
            last = day
            continue
        if last is not None:
            yield last
        last = value
    if last is not None:
        yield last


def _day_of(first: Value, second: Value, text: str) -> Value | None:
    """Return the date of "the fourth of July"."""
    if first.kind is not ValueKind.ORDINAL or second.kind is not ValueKind.DATE:
        return None
    year, month, day = parts_of(second)
    number = int(number_of(first))
    joined = text[first.end : second.start] == " of " and second.unit is None and day is None
    if not joined or month is None or not _valid(year, month, number):
        return None
    whole = text[first.start : second.end]
    return replace(second, amount=(year, month, number), start=first.start, text=whole)


def as_decimal(amount: Fraction) -> Decimal | Fraction:
    """Return a decimal if the fraction has one."""
    scaled = Decimal(amount.numerator) / Decimal(amount.denominator)
    return scaled if Fraction(scaled) == amount else amount


def _in_ranges(found: Iterable[Value], text: str) -> list[Value]:
    """Give the first number of a range the unit of the second: "5-10 km"; "$5-10"."""
    values = list(found)
    for place in range(len(values) - 1, 0, -1):
        first, second = values[place - 1], values[place]
        joint = text[first.end : second.start]
        between = joint == " and " and text[: first.start].casefold().endswith("between ")
        if not (between or RANGE.fullmatch(joint)):
            continue
        if first.kind is ValueKind.NUMBER and second.kind in NUMERIC:
            amount = _sized_like(first, second)
            values[place - 1] = replace(first, kind=second.kind, unit=second.unit, amount=amount)
        elif first.kind is second.kind is ValueKind.MONEY:
            values[place - 1] = replace(first, amount=_sized_like(first, second))
        elif (first.kind, second.kind) == (ValueKind.MONEY, ValueKind.NUMBER) and not (
            first.text[0].isdigit()
        ):  # "$5-10"
            values[place - 1] = replace(first, amount=_sized_like(first, second))
            values[place] = replace(second, kind=first.kind, unit=first.unit)
    return values


def _sized_like(first: Value, second: Value) -> Amount:
    """Return the first amount of "40 to 50 million", in millions too."""
    scale = _SCALE.search(second.text)
    word = scale["word"] if scale else None
    if word is None or _SCALE.search(first.text):
        return first.amount
    amount = number_of(first) * 10 ** _SCALES[word.casefold()]
    return as_decimal(amount) if amount < number_of(second) else first.amount


def read_values(text: str) -> tuple[Value, ...]:
    """Return the values of a text, in order, none overlapping another."""
    return _Reader(without_surrogates(text)).read()  # no library reads a lone surrogate
