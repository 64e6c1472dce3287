"""Names of units, currencies and months, from Unicode's CLDR by Babel; conversion by pint."""

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pint import UnitRegistry

# Of these only the commonest units are read, since their other names collide with English words.
_OTHER_LANGUAGES = ("de", "fr", "es")
_EVERYDAY_LIST = """
    kilometer meter centimeter millimeter kilogram gram milligram microgram liter milliliter
    century decade year month week day hour minute second celsius fahrenheit percent
    square-meter square-kilometer hectare cubic-meter kilometer-per-hour kilowatt-hour
"""
_EVERYDAY = frozenset(_EVERYDAY_LIST.split())
# What rarely measures anything after a number ("5 points", "10 items", "3 drops").
_NOT_UNITS_LIST = """
    point dot em item quarter drop pinch jigger dram grain generic revolution beaufort karat
    g-force gasoline-energy-density light-speed portion-per-1e9 solar-mass solar-radius
    solar-luminosity earth-mass earth-radius
"""
_NOT_UNITS = frozenset(_NOT_UNITS_LIST.split())
_COLLIDING_LIST = """
    c in st dec pt au fur em pm cal once pie pies a an mi ct
"""
_COLLIDING = frozenset(_COLLIDING_LIST.split())
"""Short names that are more often something else; "in" as inches is among `_ALIASES`."""
_ALIASES = {
    "mcg": "microgram", "ug": "microgram", "kilo": "kilogram", "kilos": "kilogram",
    "kgs": "kilogram", "lbs": "pound", "hrs": "hour", "h": "hour", "mins": "minute", "s": "second",
    "secs": "second", "msec": "millisecond", "d": "day", "l": "liter", "ml": "milliliter",
    "cl": "centiliter", "cc": "cubic-centimeter", "kmh": "kilometer-per-hour",
    "kph": "kilometer-per-hour", "sq m": "square-meter", "sq km": "square-kilometer",
    "sqm": "square-meter", "sqft": "square-foot", "ms": "millisecond",
    "per cent": "percent", "pct": "percent", "per mille": "permille", "per mil": "permille",
    "percentage point": "percentage-point", "percentage points": "percentage-point",
    "percent point": "percentage-point", "percent points": "percentage-point",
    "pp": "percentage-point", "prozentpunkte": "percentage-point", "basis point": "permyriad",
    "basis points": "permyriad", "promille": "permille", "tonne": "tonne", "tonnes": "tonne",
    "degrees c": "celsius", "degrees centigrade": "celsius", "deg c": "celsius", "c": "celsius",
    "°": "degree", "° c": "celsius", "degrees f": "fahrenheit", "f": "fahrenheit",
    "° f": "fahrenheit", "grad": "degree", "std": "hour", "kelvin": "kelvin", "cals": "calorie",
    "kbps": "kilobit-per-second", "mbps": "megabit-per-second",
    "gbps": "gigabit-per-second", "wh": "watt-hour", "mwh": "megawatt-hour", "gwh": "gigawatt-hour",
    "m^2": "square-meter", "m^3": "cubic-meter", "km^2": "square-kilometer", "ft^2": "square-foot",
    "cm^2": "square-centimeter", "cm^3": "cubic-centimeter", "m2": "square-meter",
    "m3": "cubic-meter", "km2": "square-kilometer", "fortnight": "fortnight",
    "fortnights": "fortnight",
}  # fmt: skip
_CASED_SYMBOLS = frozenset(["Da", "Pa", "CD", "MP", "μs"])
_CASED = frozenset(["C", "F", "h", "s", "l", "d"])
"""Aliases of one letter that are read in this case only; "C" is not "c"."""

_MAJOR_LIST = """
    USD EUR GBP JPY CHF CNY INR AUD CAD NZD HKD SGD SEK NOK DKK PLN CZK HUF RUB BRL MXN ZAR KRW
    TRY ILS
"""
_MAJOR = _MAJOR_LIST.split()
_CURRENCY_ALIASES = {
    "$": "USD", "dollar": "USD", "dollars": "USD", "buck": "USD", "bucks": "USD", "us$": "USD",
    "u.s. dollars": "USD", "american dollars": "USD", "dólar": "USD", "dólares": "USD",
    "cent": "cent", "cents": "cent", "¢": "cent", "ct": "cent",
    "€": "EUR", "euro": "EUR", "euros": "EUR", "£": "GBP", "quid": "GBP", "pounds sterling": "GBP",
    "pound sterling": "GBP", "pence": "penny", "penny": "penny", "pennies": "penny", "p": "penny",
    "¥": "yen-or-yuan", "yen": "JPY", "円": "JPY", "yuan": "CNY", "renminbi": "CNY", "元": "CNY",
    "rmb": "CNY", "franc": "CHF", "francs": "CHF", "franken": "CHF", "₹": "INR", "rs": "INR",
    "rupee": "INR", "rupees": "INR", "₽": "RUB", "rouble": "RUB", "roubles": "RUB",
    "ruble": "RUB", "rubles": "RUB", "₩": "KRW", "won": "KRW", "₺": "TRY", "₪": "ILS",
    "shekel": "ILS", "shekels": "ILS", "zł": "PLN", "zloty": "PLN", "peso": "peso",
    "pesos": "peso", "krona": "crown", "kronor": "crown", "krone": "crown", "kroner": "crown",
    "crowns": "crown", "kr": "crown", "au$": "AUD", "c$": "CAD", "s$": "SGD", "r$": "BRL",
    "a$": "AUD", "nz$": "NZD", "hk$": "HKD", "pfund": "pound", "livres": "pound", "libras": "pound",
}  # fmt: skip
_NOT_CODES_LIST = """
    ALL CUP GEL MOP PEN TOP TRY BAM MAD SOS XXX XTS
"""
_NOT_CODES = frozenset(_NOT_CODES_LIST.split())
"""Codes of currencies that are English words in capitals."""

READINGS: Mapping[str, tuple[tuple[str, Fraction], ...]] = {
    "pound": (("pound", Fraction(1)), ("GBP", Fraction(1))),
    "cent": tuple((code, Fraction(1, 100)) for code in ("USD", "EUR", "AUD", "CAD", "NZD", "ZAR")),
    "penny": (("GBP", Fraction(1, 100)), ("USD", Fraction(1, 100))),
    "yen-or-yuan": (("JPY", Fraction(1)), ("CNY", Fraction(1))),
    "degree": tuple((unit, Fraction(1)) for unit in ("degree", "celsius", "fahrenheit")),
    "ton": (("ton", Fraction(1)), ("tonne", Fraction(1))),
    "peso": tuple((code, Fraction(1)) for code in ("MXN", "ARS", "CLP", "COP", "PHP")),
    "crown": tuple((code, Fraction(1)) for code in ("SEK", "NOK", "DKK", "ISK", "CZK")),
}
"""What a name shared by several units may mean, and how much of each."""

_PINT = {
    "celsius": "degC", "fahrenheit": "degF", "foodcalorie": "kilocalorie", "permillion": "ppm",
    "gallon-imperial": "imperial_gallon", "ounce-troy": "troy_ounce", "tonne": "metric_ton",
}  # fmt: skip


def _spellings(unit: str, locale: str) -> Iterator[tuple[str, str]]:
    """Yield (length, name) of one of Babel's units in a locale."""
    from babel.units import format_unit

    for length in ("long", "short"):
        for count in (1, 2):
            text = format_unit(count, unit, length, locale=locale)
            name = text.replace(str(count), "", 1).strip(" \u00a0\u202f.")
            if name and not any(char.isdigit() for char in name):
                yield length, name


@cache
def named_units() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return (symbols in their case, other names in lower case), each with its unit.

    A unit has CLDR's name without its class ("kilometer-per-hour"), a currency its ISO 4217 code.
    """
    from babel import Locale

    symbols: dict[str, str] = {}
    names: dict[str, str] = {}
    for full in map(str, Locale("en").unit_display_names):
        unit = full.split("-", 1)[1]
        if unit in _NOT_UNITS:
            continue
        for locale in ("en", "en_GB", *(_OTHER_LANGUAGES if unit in _EVERYDAY else ())):
            for length, name in _spellings(full, locale):
                if name.casefold() in _COLLIDING:
                    continue
                if length == "short" and locale in ("en", "en_GB"):
                    for char, plain in (("²", "^2"), ("³", "^3")):
                        symbols.setdefault(name.replace(char, plain), unit)
                elif length == "long" and len(name) > 1:
                    names.setdefault(name.casefold(), unit)
    for name, unit in _ALIASES.items():
        if name.upper() in _CASED or name in _CASED:
            symbols.setdefault(name.upper() if name.upper() in _CASED else name, unit)
        else:
            names.setdefault(name, unit)
    for code, name in _currency_names():
        (symbols if name.isupper() else names).setdefault(
            name if name.isupper() else name.casefold(), code
        )
    for symbol, unit in list(symbols.items()):
        if symbol not in _CASED_SYMBOLS and (len(symbol) > 1 or not symbol.isalpha()):
            names.setdefault(symbol.casefold(), unit)
    return symbols, names


def _currency_names() -> Iterator[tuple[str, str]]:
    """Yield (code, name) of each currency; the names of the major ones in all languages."""
    from babel.core import get_global
    from babel.numbers import get_currency_name, get_currency_symbol

    tender = {
        entry[0]
        for entries in get_global("territory_currencies").values()
        for entry in entries
        if entry[2] is None and entry[3]
    }

    for name, code in _CURRENCY_ALIASES.items():
        yield code, name
    for code in sorted(tender | set(_MAJOR)):
        if code not in _NOT_CODES:
            yield code, code
        for locale in ("en", *_OTHER_LANGUAGES) if code in _MAJOR else ("en",):
            for count in (1, 2):
                yield code, get_currency_name(code, count, locale=locale)
    for code in _MAJOR:
        yield code, get_currency_symbol(code, locale="en").casefold()


@cache
def currencies() -> frozenset[str]:
    """Return the ISO 4217 codes, and this module's names for those that several share."""
    from babel.numbers import list_currencies

    return frozenset(list_currencies()) | {"cent", "penny", "yen-or-yuan", "peso", "crown"}


@cache
def months() -> Mapping[str, int]:
    """Return the month of each name, in lower case, in all languages."""
    from babel.dates import get_month_names

    found: dict[str, int] = {"sept": 9}
    for locale in ("en", *_OTHER_LANGUAGES):
        for width in ("wide", "abbreviated"):
            for context in ("format", "stand-alone"):
                names = get_month_names(width, context, locale=locale)
                for number, name in names.items():
                    found.setdefault(name.rstrip(".").casefold(), number)
    for colliding in ("ago", "mars"):  # "5 days ago", the planet
        del found[colliding]
    return found


_SPELLED_CURRENCIES = {
    "USD": ("dollar", "dollars"), "EUR": ("euro", "euros"), "GBP": ("pound", "pounds"),
    "JPY": ("yen", "yen"), "cent": ("cent", "cents"), "penny": ("penny", "pence"),
    "yen-or-yuan": ("yen", "yen"), "peso": ("peso", "pesos"), "crown": ("crown", "crowns"),
}  # fmt: skip
_SPELLED_UNITS = {
    "degree": ("degree", "degrees"), "percentage-point": ("percentage point", "percentage points"),
    "permille": ("per mille", "per mille"), "permyriad": ("basis point", "basis points"),
    "tonne": ("tonne", "tonnes"), "milligram-ofglucose-per-deciliter": ("mg/dL", "mg/dL"),
    "foodcalorie": ("Cal", "Cal"), "watt-hour": ("watt-hour", "watt-hours"),
    "megawatt-hour": ("megawatt-hour", "megawatt-hours"),
    "gigawatt-hour": ("gigawatt-hour", "gigawatt-hours"),
}  # fmt: skip


@lru_cache(maxsize=1 << 10)
def unit_spelling(unit: str, *, plural: bool) -> str:
    """Return the English name of a unit or currency."""
    from babel.numbers import get_currency_name
    from babel.units import UnknownUnitError

    chosen = _SPELLED_CURRENCIES.get(unit) or _SPELLED_UNITS.get(unit)
    if chosen:
        return chosen[plural]
    if unit in currencies():
        return get_currency_name(unit, 2 if plural else 1, locale="en")
    try:
        spellings = [name for length, name in _spellings(unit, "en") if length == "long"]
    except UnknownUnitError:  # "megabit-per-second"
        head, per, tail = unit.partition("-per-")
        return f"{head}{'s' * plural}{per}{tail}".replace("-", " ")
    return spellings[plural] if len(spellings) > plural else spellings[0]


@cache
def _registry() -> "UnitRegistry[Any]":
    from pint import UnitRegistry

    registry: UnitRegistry[Any] = UnitRegistry(cache_folder=None)
    registry.define("permyriad = 1e-4")
    return registry


@lru_cache(maxsize=1 << 12)
def linear(unit: str, other: str) -> tuple[Fraction, Fraction] | None:
    """Return (factor, offset) that convert one unit to the other; None if there are none."""
    import pint

    registry = _registry()
    try:
        here, there = registry.parse_units(_for_pint(unit)), registry.parse_units(_for_pint(other))
        zero = registry.Quantity(0.0, here).to(there).magnitude
        one = registry.Quantity(1.0, here).to(there).magnitude
    except (pint.errors.PintError, ValueError):
        return None
    return Fraction(repr(one - zero)), Fraction(repr(zero))


def _for_pint(unit: str) -> str:
    """Return pint's expression for one of CLDR's units: "square-meter" is "meter**2"."""
    parts = []
    for part in unit.split("-per-"):
        found = re.fullmatch(r"(square|cubic)-(.+)", part)
        name = found[2] if found else part
        name = _PINT.get(name, name.replace("-hour", "*hour").replace("-", "_"))
        parts.append(f"({name})**{2 if found[1] == 'square' else 3}" if found else name)
    return "/".join(parts)
