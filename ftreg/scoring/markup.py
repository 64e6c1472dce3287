"""The text without its markup: HTML, Markdown emphasis, links and citation markers."""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from ftreg.scoring.words import words

_HEADING = re.compile(r"^\s*#{1,6}\s+(?=\S)")
_BOLD_LINE = re.compile(r"^\s*(\*\*|__)([^*_\n]{1,120})\1:?\s*$")
_SAYS_MORE = re.compile(
    r"[.!?\u3002\uff01\uff1f]$|:\s*\S|[$\u20ac\u00a3\u00a5%]"
    r"|^(?:yes|no|ja|nein|oui|non|s\u00ed|si|s\u00ec|sim|n\u00e3o|nee|tak|nie|\u0434\u0430"
    r"|\u043d\u0435\u0442|\u662f|\u5426)\b|^[\d.,: -]+$",
    re.IGNORECASE,
)
_INLINE_BULLET = re.compile(r"(?<=\S)[ \t][\u2022\u2023\u25e6\u25aa][ \t]")
_FENCE = re.compile(r"^\s*(?:```|~~~)")
_CODE_SPAN = re.compile(r"(?<!`)(`++)(?=\S)([^`\n]{1,300})(?<=\S)\1(?!`)")
_HELD = "\ue000"  # replaces a code span while its line is read

_COMMENT = re.compile(r"<!--(?:(?!-->|<!--).)*+-->", re.DOTALL)
_BREAK_TAG = re.compile(
    r"</?(?:br|hr|p|div|li|ul|ol|dl|dt|dd|h[1-6]|table|thead|tbody|tr|blockquote|section|article"
    r"|header|footer|pre|summary|details)\b[^<>\n]{0,1000}>",
    re.IGNORECASE,
)
_CELL_TAG = re.compile(r"</t[dh]>\s{0,20}<t[dh]\b[^<>\n]{0,1000}>", re.IGNORECASE)
_RAISED_TAG = re.compile(r"<sup\b[^<>\n]{0,200}>\s{0,9}(\[?\d[\d, \]]{0,20})</sup>", re.IGNORECASE)
_INLINE_TAG = re.compile(
    r"</?(?:b|i|u|s|q|a|em|strong|span|sup|sub|small|big|mark|del|ins|cite|font|center|abbr|code"
    r"|kbd|td|th|img|tt|var)(?:\s[^<>\n]{0,1000})?/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")

_EMPHASIS = (
    re.compile(r"(?<![0-9A-Za-z*])(\*{2,3})(?=[^\s*])([^*\n]{1,500})(?<=\S)\1(?!\*)"),
    re.compile(r"(?<![\w*])(\*)(?=[^\s*])([^*\n]{1,500})(?<=\S)\1(?![\w*])"),
    re.compile(
        r"(?<!\w)(__?)(?!(?:init|main|name|call|all|new|str|repr|len|doc|file|dict|class)__)(?=[^\s_])([^_\n]{1,500})(?<=\S)\1(?!\w)"
    ),
    re.compile(r"(~~)(?=[^\s~])([^~\n]{1,500})(?<=\S)\1"),
)
_LINK = re.compile(
    r"!?\[(\[[^\[\]\n]{1,40}\]|[^\[\]\n]{0,300})\]\([^()\s]{0,1000}(?:\([^()\s]{0,200}\)[^()\s]{0,200})?"
    r"(?: \"[^\"\n]{0,300}\")?\)"
)
_ESCAPED = re.compile(r"\\\[(\^?\d{1,3}(?:, ?\d{1,3}){0,9})\\\]")
_DEFINITION = re.compile(r"^\s*\[\^?[\w -]{1,40}\]:\s*(?:<?https?://\S+\s*$)?")

_SOURCE = (
    r"(?:docs?|documents?|sources?|refs?|references?|citations?|passages?|contexts?|chunks?"
    r"|snippets?|notes?|footnotes?|fn|pp?|pages?|quellen?|dokumente?|fuentes?|documentos?|fonti?e?"
    r"|bron|id|文档|文献|来源|資料|出典)"
)
_NUMBERS = r"\d{1,3}(?:\s?[-\u2013,;\u3001]\s?\d{1,3}){0,20}"
_NAMED = (
    rf"(?:see )?{_SOURCE}[.:#]?\s?#?\d{{1,4}}"
    rf"(?:\s?[,;&\u2013-]\s?(?:{_SOURCE}[.:#]?\s?)?#?\d{{1,4}}){{0,20}}"
    r"|sources?|refs?|cite|link|[^\[\]()\n]{0,60}\bpp?\. ?\d{1,4}(?:-\d{1,4})?"
    r"|[^\[\]()\n]{1,60}\bet al\.?,? ?\d{4}[a-z]?"
    r"|(?:sources?|quelle|fuente|fonte|出典|来源)\s?[:\uff1a][^\[\]()\n]{1,100}"
)
_IN_SQUARE_BRACKETS = re.compile(
    rf"(?<![ \t])([ \t]*+)(?:\^?[\[\uff3b]{{1,2}}(?P<numbers>{_NUMBERS})[\]\uff3d]{{1,2}}\^?"
    rf"(?:,?[ \t]?\[{_NUMBERS}\]){{0,20}}"
    rf"|\^?\[(?:\^[\w-]{{1,40}}|{_NAMED}|citation needed|\d{{1,3}}\u2020[^\[\]\n]{{0,80}})\]"
    rf"|[\u3010\u3014\u3016](?:{_NUMBERS}|\d{{1,3}}(?::\d{{1,3}})?\u2020[^\u3010\u3011\n]{{0,80}}"
    rf"|{_NAMED})[\u3011\u3015\u3017])",
    re.IGNORECASE,
)
_IN_PARENTHESES = re.compile(
    r"(?<![ \t])([ \t]++)(?:\(\d{1,2}(?:, ?\d{1,2}){0,9}\)(?=[ \t]*+(?:[.,;:!?\u3002]|$))"
    rf"|\((?:see )?\[{_NUMBERS}\]\)|\((?:{_NAMED})\))",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBER_AT_END = re.compile(
    r"[ \t]\((\d{1,2})(?:, ?\d{1,2}){0,9}\)(?=[ \t]*+(?:[.,;:!?\u3002]|$|\n))"
)
_RAISED = re.compile(
    r"(?:(?<=[^\W\d_]{3})|(?<=[.,;:!?)\"\u201d\u3002])|(?<=:\d\d))"
    r"(?:\^\d{1,3}(?:,\d{1,3}){0,9}"
    r"|[\u00b9\u00b2\u00b3\u2070\u2074-\u2079]{1,3}"
    r"(?:[,\u207b][\u00b9\u00b2\u00b3\u2070\u2074-\u2079]{1,3}){0,9})(?!\w|\s?[-+*/=^])"
)
_LAST_WORD = re.compile(r"([\w.]{1,40})\W{0,3}$")
# A list of numbers after one of these is what is said, and not where it was read.
_BEFORE_VALUES_LIST = """
    is are was were be equals equal returns return gives prints yields contains output interval
    range vector list array tuple set point coordinates matrix row column index between
"""
_BEFORE_VALUES = frozenset(_BEFORE_VALUES_LIST.split())
_BEFORE_INDEX_LIST = """
    array arr list lst args argv data items item values value row rows col cols column columns
    matrix vec vector nums numbers dict tuple tensor shape size string str words lines line grid
    result results output input index keys params buffer stack queue map table
"""
_BEFORE_INDEX = frozenset(_BEFORE_INDEX_LIST.split())
_BEFORE_POWER_LIST = """
    feet foot inch inches yard yards mile miles metre metres meter meters alpha beta gamma delta
    sigma theta lambda omega rho tau phi psi log exp sin cos tan
"""
_BEFORE_POWER = frozenset(_BEFORE_POWER_LIST.split())
_MARKS_AFTER = ".,;:!?)\u3002\uff0c\uff1b\uff1f\uff01\u3001"


def _last_word(text: str, end: int) -> str:
    found = _LAST_WORD.search(text, max(0, end - 44), end)
    return found.group(1) if found else ""


def _is_index_or_value(found: re.Match[str], *, counts_from_zero: bool) -> bool:
    """Whether numbers in brackets are part of the text: `array[1]`, "returns [1, 2]"."""
    numbers, text, start = found["numbers"], found.string, found.start()
    if numbers is None:
        return False
    if re.search(r"\b0\b", numbers):
        return True
    word, before = _last_word(text, start), text[max(0, start - 1) : start]
    if found.group(1):  # a space is before it
        listed = before == ":" and not re.fullmatch(_SOURCE, word, re.IGNORECASE)
        return before == "=" or ("," in numbers and (listed or word.lower() in _BEFORE_VALUES))
    if not before.isalnum() and before not in ("_", "]"):
        return False
    return (
        counts_from_zero
        or before in "_]"
        or len(word) == 1
        or word.lower() in _BEFORE_INDEX
        or not (word.isalpha() or word[0].isdigit())
        or any(a.islower() and b.isupper() for a, b in pairwise(word))
        or text[found.end() : found.end() + 2].lstrip()[:1] in ("=", "+", "*", "<")
    )


def _gap(found: re.Match[str]) -> str:
    """What replaces a marker: a space, unless a mark, a space or the end of the text follows."""
    after = found.string[found.end() : found.end() + 1]
    if after == "[" and _IN_SQUARE_BRACKETS.match(found.string, found.end()):
        return ""
    return "" if not after or after.isspace() or after in _MARKS_AFTER else " "


@dataclass(frozen=True)
class _Conventions:
    """What brackets with a number mean in a text."""

    counts_from_zero: bool
    """`[0]` is an index, and so is `[1]` after a word."""
    cites_in_parentheses: bool
    """(1) and (2) are citations; (13) and (85) are figures."""

    @classmethod
    def of(cls, text: str) -> "_Conventions":
        found = [int(number) for number in _NUMBER_AT_END.findall(text)]
        return cls(
            re.search(r"\w\[0\]", text) is not None,
            bool(found) and 1 <= min(found) <= 2 and max(found) <= 2 * len(found) + 2,
        )


def _without_citations(text: str, conventions: _Conventions) -> str:
    def square(found: re.Match[str]) -> str:
        kept = _is_index_or_value(found, counts_from_zero=conventions.counts_from_zero)
        return found.group() if kept else _gap(found)

    def round_(found: re.Match[str]) -> str:
        number = found.group().strip(" \t()")
        spelt_out = words(_last_word(found.string, found.start())) == [number]  # one (1) copy
        kept = number[0].isdigit() and (spelt_out or not conventions.cites_in_parentheses)
        return found.group() if kept else _gap(found)

    def raised(found: re.Match[str]) -> str:
        kept = _last_word(found.string, found.start()).lower() in _BEFORE_POWER
        return found.group() if kept else _gap(found)

    text = _IN_PARENTHESES.sub(round_, text)
    text = _IN_SQUARE_BRACKETS.sub(square, text)
    return _RAISED.sub(raised, text)


def _link_text(found: re.Match[str]) -> str:
    text = "" if found.group().startswith("!") else found.group(1)
    return f"[{text}]" if text.strip("^[]").isdigit() else text


def _plain(line: str, conventions: _Conventions) -> str:
    """Return a line of prose without its markup; a break in HTML becomes a line break."""
    spans: list[str] = []
    if "`" in line and _HELD not in line:
        spans = [found.group(2) for found in _CODE_SPAN.finditer(line)]
        line = _CODE_SPAN.sub(_HELD, line)
    if "<" in line:
        line = _RAISED_TAG.sub(lambda found: "^" + found.group(1).strip(), line)
        line = _BREAK_TAG.sub("\n", _CELL_TAG.sub(" | ", line))
        line = _INLINE_TAG.sub("", line)
    if "&" in line:
        line = _ENTITY.sub(lambda found: html.unescape(found.group()), line)
    if "[" in line:
        line = _ESCAPED.sub(r"[\1]", line)
        line = _LINK.sub(_link_text, _DEFINITION.sub("", line))
    line = _without_citations(line, conventions)
    for emphasis in _EMPHASIS:
        line = emphasis.sub(r"\2", line)
    line = _INLINE_BULLET.sub("\n\u2022 ", line)
    if not spans:
        return line
    held = iter(spans)
    return re.sub(_HELD, lambda _: next(held), line)


class Kind(StrEnum):
    """What a line is."""

    PROSE = "prose"
    HEADING = "heading"
    CODE = "code"


class Line(NamedTuple):
    """A line without its markup, except the marks of lists, headings and tables."""

    text: str
    kind: Kind


def _kind_of(line: str) -> Kind:
    """Detect a heading: `## Fares`, or a line that is all bold and has no final full stop."""
    bold = _BOLD_LINE.match(line)
    if _HEADING.match(line) or (bold and not _SAYS_MORE.search(bold.group(2))):
        return Kind.HEADING
    return Kind.PROSE


def plain_lines(text: str) -> Iterator[Line]:
    """Yield the lines of a text without HTML, emphasis, links and citation markers.

    Code between fences and in backticks is kept as it is, and `array[1]` is never a citation.
    """
    fenced, conventions = False, _Conventions.of(text)
    for line in _COMMENT.sub("", text).splitlines():
        if _FENCE.match(line):
            fenced = not fenced
            yield Line("", Kind.PROSE)
        elif fenced:
            yield Line(line, Kind.CODE)
        elif not line.strip():
            yield Line("", Kind.PROSE)
        else:
            for part in _plain(line, conventions).split("\n"):
                yield Line(part, _kind_of(line))
