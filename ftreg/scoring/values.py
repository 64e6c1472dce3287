"""Comparing values in texts by value: numbers, money, measures, dates and times.

"£15" and "15 pounds", "9:05" and "09:05", "12 thousand" and "12,000" are one value each. Units are
converted by pint.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from ftreg.scoring.claims import is_code
from ftreg.scoring.unit_names import READINGS, currencies, linear, unit_spelling
from ftreg.scoring.value_reader import (
    HYPHENATED,
    NUMERIC,
    RANGE,
    Amount,
    Value,
    ValueKind,
    as_decimal,
    compact,
    number_of,
    parts_of,
    read_values,
)
from ftreg.scoring.words import join_digits

__all__ = ["Value", "ValueKind", "same", "spelled", "unsupported", "vague", "values"]


@lru_cache(maxsize=1 << 16)
def values(text: str) -> tuple[Value, ...]:
    """Return the values of a text, in order, none overlapping another."""
    return read_values(text)


# Comparison

_CLOSE = Fraction(1, 10**9)
_SCALES_WITH_ZERO = ("celsius", "fahrenheit", "kelvin", "degree")


def same(left: Value, right: Value) -> bool:
    """Return whether two values are equal, in any notation, unit or language.

    Units are converted, currencies are not. A date without a year is equal to one with a year if
    month and day agree.
    """
    if left.kind != right.kind and not {left.kind, right.kind} <= NUMERIC:
        return False
    match left.kind:
        case ValueKind.LABEL:
            return left.amount == right.amount
        case ValueKind.DATE:
            return _same_date(left, right)
        case ValueKind.TIME:
            return _same_time(left, right)
        case ValueKind.ORDINAL:
            return left.amount == right.amount
        case _:
            return _same_amount(left, right)


def _same_amount(left: Value, right: Value) -> bool:
    if left.unit == right.unit:
        return left.amount == right.amount
    theirs = number_of(right)
    if left.unit is None or right.unit is None:
        # "Half of them" is "50 percent of them".
        whole, share = (left, right) if left.unit is None else (right, left)
        return (
            share.unit == "percent"
            and isinstance(whole.amount, Fraction)
            and number_of(whole) * 100 == number_of(share)
        )
    least = Fraction(left.unit in _SCALES_WITH_ZERO)  # 32 °F is 0 °C, but for rounding
    return any(
        abs(amount - theirs) <= _CLOSE * max(abs(theirs), abs(amount), least)
        for amount in in_unit_of(left, right)
    )


def in_unit_of(value: Value, other: Value) -> Iterator[Fraction]:
    """Yield a value's amount in the unit of another (unchanged if it has none), per reading."""
    amount = number_of(value)
    if value.unit is None or other.unit is None or value.unit == other.unit:
        yield amount
        return
    for unit, factor in READINGS.get(value.unit, ((value.unit, Fraction(1)),)):
        for there, other_factor in READINGS.get(other.unit, ((other.unit, Fraction(1)),)):
            if unit == there:
                yield amount * factor / other_factor
            elif unit not in currencies() and (turned := linear(unit, there)):
                yield (amount * factor * turned[0] + turned[1]) / other_factor


def _same_date(left: Value, right: Value) -> bool:
    if (left.unit == "decade") != (right.unit == "decade"):
        return False
    if left.unit == "decade":
        one, other = parts_of(left)[0], parts_of(right)[0]
        short = min(one, other) < 100
        return bool(one % 100 == other % 100 if short else one == other)
    if left.unit == right.unit:
        return _dates_agree(parts_of(left), parts_of(right))
    return any(_dates_agree(one, other) for one in _orders(left) for other in _orders(right))


def _orders(value: Value) -> Iterator[tuple[int | None, ...]]:
    year, month, day = parts_of(value)
    yield year, month, day
    if value.unit == "unordered":
        yield year, day, month


def _dates_agree(left: Sequence[int | None], right: Sequence[int | None]) -> bool:
    return left[1:] == right[1:] and (None in (left[0], right[0]) or left[0] == right[0])


def _same_time(left: Value, right: Value) -> bool:
    if left.amount == right.amount:
        return True
    (hour, *rest), (other, *other_rest) = parts_of(left), parts_of(right)
    open_half = "open" in (left.unit, right.unit)
    return open_half and rest == other_rest and hour % 12 == other % 12


def unsupported(claim: str, source: str) -> tuple[Value, ...]:
    """Return the values that a claim states and a source does not have.

    A value is supported by the same value, and by a more specific one: a year by a date, a decade
    by a year, a bare number by a measure. The amount in another unit or currency, or with the
    opposite sign, does not support it. Values that matter little ("one", "first", small number
    words without a unit) are ignored, and so is zero, which is a denial. If spaces may be a
    tokenizer's ("1 , 056", "£ 50 m"), either reading is accepted.
    """
    sources = dict.fromkeys((source, _joined(source)))
    claims = dict.fromkeys((claim, _joined(claim)))
    return min((_missing(each, list(sources)) for each in claims), key=len)


_PARTED = re.compile(r"(?<=\w) (-) (?=\w)|(?<=[£$€]) (?=\d)|(?<=\d) (?=[kmK]\b)")


@lru_cache(maxsize=1 << 12)
def _joined(text: str) -> str:
    """Return a text without the spaces by which a tokenizer splits its values."""
    return _PARTED.sub(lambda found: found[1] or "", join_digits(text))


def _missing(claim: str, sources: Sequence[str]) -> tuple[Value, ...]:
    stated = [value for value in values(claim) if not vague(value)]
    for source in sources if stated else ():
        there = values(source)
        alike = {(other.kind, other.amount, other.unit) for other in there}
        stated = [
            value
            for value in stated
            if (value.kind, value.amount, value.unit) not in alike
            and not _is_held(value, there, source)
        ]
    return tuple(stated)


def vague(value: Value) -> bool:
    """Return whether a value is as often a pronoun, an adverb or a denial as it counts things."""
    if value.kind not in (ValueKind.NUMBER, ValueKind.ORDINAL) or isinstance(value.amount, tuple):
        return False
    return value.text.casefold() in ("0", "zero") or (
        value.text.isalpha() and value.amount <= 3 and not isinstance(value.amount, Fraction)
    )


def _is_held(value: Value, there: Sequence[Value], source: str) -> bool:
    if value.kind is ValueKind.LABEL:
        label = re.escape(parts_of(value)[0])
        return re.search(rf"(?<!\d){label}(?!\d)", compact(source)) is not None
    return any(same(value, other) or _says_more(other, value, source) for other in there)


def _says_more(source: Value, claim: Value, text: str) -> bool:
    """Whether a value of a source supports a less exact one of a claim."""
    if source.kind is ValueKind.LABEL:
        return False
    match claim.kind:
        case ValueKind.DATE:
            return dates_more_exactly(source, claim)
        case ValueKind.TIME:
            hour, minute, _ = parts_of(claim)
            bare = source.kind is ValueKind.NUMBER and not minute
            return bare and source.amount in (hour, hour - 12)
        case ValueKind.NUMBER | ValueKind.ORDINAL:
            if not isinstance(source.amount, tuple):
                return claim.amount == source.amount
            hour_alone = source.kind is ValueKind.TIME and not any(parts_of(source)[1:])
            parts = source.amount if source.kind is ValueKind.DATE else source.amount[:hour_alone]
            return claim.amount in parts
        case _:
            bare = source.kind is ValueKind.NUMBER and claim.amount == source.amount
            return bare and not _COUNTED.match(text, source.end)


def dates_more_exactly(source: Value, claim: Value) -> bool:
    """Return whether a value is a date within the year, month or decade of a claim."""
    if claim.unit == "decade":
        year = parts_of(source)[0] if source.kind is ValueKind.DATE else source.amount
        first = parts_of(claim)[0]
        return isinstance(year, int | Decimal) and bool(first <= year < first + 10)
    return source.kind is ValueKind.DATE and any(
        all(mine in (None, theirs) for mine, theirs in zip(parts_of(claim), order, strict=True))
        for order in _orders(source)
    )


_COUNTED = re.compile(r"[ -][^\W\d_]")


# Spelling


def spelled(text: str, *, like: str = "") -> str:
    """Return a text with each value in one spelling, so that equal ones are spelled the same.

    "£15" gives "15 pounds", "9:05" "09:05", "12 thousand" "12000", dates "5 March 2024". Code and
    other text are unchanged; spelling a second time changes nothing.

    Args:
        text: the text.
        like: another text; a value that is in it too is spelled as it would be there, so that "120
            minutes" gives "2 hours" if the other text has those.
    """
    if not values(text) or is_code(text):
        return text
    for _ in range(_ROUNDS):
        done = _spell_once(text, like)
        if done == text:
            break
        text = done
    return text


_ROUNDS = 50


_LARGEST = 10**15
"""Larger amounts keep their notation."""
_GOES_ON = re.compile(r" ?- ?[^\W\d_]")


def _spell_once(text: str, like: str) -> str:
    pieces = []
    end = 0
    found = values(text)
    for value, after in zip(found, (*found[1:], None), strict=False):
        model = _alike(value, like)
        if after and value.unit and value.unit == after.unit and value.kind in NUMERIC:
            begins = RANGE.fullmatch(text[value.end : after.start]) is not None
        else:
            begins = False
        if value.kind in NUMERIC and abs(number_of(value)) >= _LARGEST:
            spelling = value.text
        elif begins:
            spelling = _figure(number_of(model))
        else:
            spelling = _spelling(model, value, one=bool(_GOES_ON.match(text, value.end)))
        pieces += [text[end : value.start], spelling]
        end = value.end
    return "".join([*pieces, text[end:]])


def _alike(value: Value, text: str) -> Value:
    """Return the equal value of a text, or the value itself if there is none."""
    if value.kind in NUMERIC and (found := _numeric(text).get((value.unit, value.amount))):
        return found
    return next((other for other in values(text) if same(other, value)), value)


@lru_cache(maxsize=64)
def _numeric(text: str) -> Mapping[tuple[str | None, Amount], Value]:
    """Return the numbers of a text by unit and amount; the first of equal ones."""
    found = [value for value in values(text) if value.kind in NUMERIC]
    return {(value.unit, value.amount): value for value in reversed(found)}


def _spelling(value: Value, placed: Value, *, one: bool) -> str:
    match value.kind:
        case ValueKind.LABEL:
            return placed.text
        case ValueKind.DATE:
            return _date_spelling(value) or placed.text
        case ValueKind.TIME:
            hour, minute, second = parts_of(value)
            if value.unit == "open" and not minute:
                return f"{hour} o'clock"
            return f"{hour:02}:{minute:02}" + (f":{second:02}" if second else "")
        case ValueKind.ORDINAL:
            return _ordinal_spelling(value)
        case _:
            return _amount_spelling(value, placed, one=one)


_MONTH_LIST = """
    January February March April May June July August September October November December
"""
_MONTHS = _MONTH_LIST.split()


def _date_spelling(value: Value) -> str | None:
    year, month, day = parts_of(value)
    if value.unit == "unordered":
        return None
    if value.unit == "decade":
        return f"{year}s" if year >= 100 else None
    if month is None:
        return str(year)
    name = _MONTHS[month - 1]
    return " ".join(str(part) for part in (day, name, year) if part is not None)


def _ordinal_spelling(value: Value) -> str:
    amount = int(number_of(value))
    if 1 <= amount <= 10:
        word = _FIRST_TEN[amount - 1]
        return word.capitalize() if value.text[0].isupper() else word
    ending = (
        "th" if amount % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(amount % 10, "th")
    )
    return f"{amount}{ending}"


_FIRST_TEN_LIST = "first second third fourth fifth sixth seventh eighth ninth tenth"
_FIRST_TEN = _FIRST_TEN_LIST.split()
_PART_WORDS = {
    Fraction(1, 2): "half", Fraction(1, 3): "one third", Fraction(2, 3): "two thirds",
    Fraction(1, 4): "one quarter", Fraction(3, 4): "three quarters",
}  # fmt: skip


def _amount_spelling(value: Value, placed: Value, *, one: bool) -> str:
    """Spell an amount with its unit; `one` for the unit's singular, as in "12-year-old"."""
    amount = number_of(value)
    if value.unit is None:
        if placed.text.casefold() == "one":
            return placed.text
        if (isinstance(value.amount, Fraction) and abs(amount) < 1) or _SIMPLE.fullmatch(
            placed.text
        ):
            digits = any(map(str.isdigit, placed.text)) and abs(amount) in _PART_WORDS
            return _part_word(amount) if digits else placed.text
        return _figure(amount)
    size = abs(amount)
    hyphened = value is placed and bool(HYPHENATED.search(placed.text))
    priced = value.kind is ValueKind.MONEY or value.unit == "pound"
    cents = priced and (size * 100).denominator == 1 != size.denominator
    figure = f"{float(size):.2f}" if cents and size < 10**6 else _figure(size)
    name = unit_spelling(value.unit, plural=size != 1 and not (hyphened or one))
    sign = "minus " if amount < 0 else ""
    return f"{sign}{figure}{'-' if hyphened else ' '}{name}"


_SIMPLE = re.compile(r"\d+/\d+")


def _part_word(amount: Fraction) -> str:
    return ("minus " if amount < 0 else "") + _PART_WORDS[abs(amount)]


_LARGE = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"))


def _figure(amount: Fraction) -> str:
    """Return an amount in digits without groups; from a million on in millions, if they are few."""
    for size, name in _LARGE:
        if abs(amount) >= size:
            count = amount / size
            if (count * 1000).denominator == 1 and abs(count) < 1000:
                return f"{_figure(count)} {name}"
            break
    if amount.denominator == 1:
        return str(amount.numerator)
    exact = as_decimal(amount)
    if isinstance(exact, Decimal):
        return f"{exact.normalize():f}"
    return f"{amount.numerator}/{amount.denominator}"
