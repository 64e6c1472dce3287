"""Splitting a text into sentences, claims and passages, by rules and in linear time."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from ftreg.scoring.clauses import begins_with_clause, clauses, is_other_language
from ftreg.scoring.courtesies import before_offer, is_courtesy, without_preamble
from ftreg.scoring.markup import Kind, Line, plain_lines

MAX_WORDS = 80
"""A longer unit is split: a sentence encoder reads some 200 word pieces and drops the rest."""

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
# Possessive, and never begun inside a run of marks: a text of dots alone stays linear. A capital
# may follow without a space; `_ends_sentence` distinguishes "at nine.Cars" and "torch.Tensor".
_MARK = re.compile(
    rf"(?<![.!?…])[.!?…]++[{re.escape(_CLOSING)}]*+(?=\s|$|[A-Z\u00c0-\u00de\u0391-\u03a9\u0410-\u042f])"
    rf"|[{_WIDE_MARKS}]+[\u300d\u300f\u201d\u2019]*|[{_OTHER_MARKS}]+"
    r"|(?<=[\u0370-\u03ff\u1f00-\u1fff]);(?=\s|$)"  # the Greek question mark
)
_WIDE_MARK = re.compile(rf"[{_WIDE_MARKS}{_OTHER_MARKS};]")
_LAST_WORD = re.compile(r"([^\W_](?:[\w.]*[^\W_])?)\W*$")
_BULLET = re.compile(
    r"^\s*(?:(?:[-*+•‣◦▪\u2013\u2014]|\(?\d{1,3}[.)]|\(?(?:[a-z][.)]|[A-Z]\)))\s+"
    r"(?:\[[ xX]\]\s+)?(?=\S)|\d{1,2}[.)](?=[^\W\d_][^\W\d_])"
    r"|(?:\d{1,2}\u3001|[\u2460-\u2473]|\uff08\d{1,2}\uff09)\s*(?=\S))"
)
_HEADING = re.compile(r"^\s*#{1,6}\s+(?=\S)")
_UNDERLINE = re.compile(r"^\s*(?:={3,}|-{3,})\s*$")
_ROW = re.compile(r"^\s*\|.*\|\s*$|\S \| \S")
_RULE_OF_TABLE = re.compile(r"^[\s|:-]*-[\s|:-]*$")
_CODE_LINE = re.compile(
    r"^\s*(?:(?:async\s+)?def\s+\w+\s*\(|class\s+\w+\s*[:({]|(?:from|import)\s+[\w.]+(?:\s+import\b|$)"
    r"|return\b(?=.*[\w)\]]\s*;?$)|(?:if|elif|else|for|while|try|except|with|finally)\b.*:\s*(?:#.*)?$"
    r"|@\w[\w.]*|#include\b|(?:public|private|static|const|let|var|func|fn|function)\s+\w+"
    r"|[\w.\[\]\"']+\s*(?:[-+*/|&]|:)?=\s*\S|.*[{};]\s*$|[\w.]+\(.*\)\s*;?$)"
)
_COMMENT = re.compile(r"(?:#|//)\s*(.+)$|\"\"\"|'''|/\*+|\*+/")
_WORD = re.compile(r"\w")


_DEFINITION = re.compile(r"\s*(?:(?:async\s+)?def|class|function|fn|func)\s+(?P<name>\w+)\s*[(:{<]")


@lru_cache(maxsize=1 << 10)
def is_code(text: str) -> bool:
    """Return whether most lines of a text are source code in some common language.

    A text that begins with a definition is code. A single line counts only if it is a definition.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return False
    undecorated = (line for line in lines if not line.lstrip().startswith("@"))
    if len(lines) > 1 and _DEFINITION.match(next(undecorated, "")):
        return True
    hits = sum(len(line) < 300 and bool(_CODE_LINE.match(line)) for line in lines)
    if len(lines) == 1:
        return bool(re.match(r"^\s*(?:(?:async\s+)?def|class|function|fn|func)\s+\w+.*[:{]", text))
    return hits * 2 >= len(lines)


def defined_name(code: str) -> str | None:
    """Return the name of the first function or class that source code defines."""
    found = next(filter(None, map(_DEFINITION.match, code.splitlines())), None)
    return found and found["name"]


# Before a dot without a blank after it, these are modules: "np.Array".
_MODULES_LIST = """
    np pd tf os sys nn self this std torch numpy pandas java math system
"""
_MODULES = frozenset(_MODULES_LIST.split())
_ENDINGS_LIST = """
    com org net edu gov io js py md txt pdf html json csv
"""
_ENDINGS = frozenset(_ENDINGS_LIST.split())


def _starts_glued(before: str, mark: str, after: str) -> bool:
    """Whether a sentence ends and the next one starts without a space between them.

    "It opens at nine.Cars cost 30 euros", but not "a random.Random instance".
    """
    last, first = _LAST_WORD.search(before), _LETTERS.match(after)
    if last is None or first is None or not (before[-1].islower() or before[-1] in "0123456789)]%"):
        return False
    word, following = first.group(), after[first.end() : first.end() + 1]
    if following not in {" ", ",", "'", "\u2019", "-", ""} or word[1:] != word[1:].lower():
        return False  # "pd.DataFrame", "os.Path(", "java.Util.List"
    if last.group(1).lower() in _MODULES or word.lower() in _ENDINGS or _ADDRESS.search(before):
        return False
    if not mark.startswith(".") or word.lower() in _FRESH:
        return True
    return begins_with_clause(after) or is_other_language(f"{before} {after}")


_LETTERS = re.compile(r"[^\W\d_]+")
_ADDRESS = re.compile(r"(?:://|www\.|@|\w\.\w)\S*$")


def _ends_sentence(before: str, mark: str, after: str) -> bool:
    """Judge a mark by the text before it (its last ~40 characters) and the text after it."""
    stripped = mark.rstrip(_CLOSING)
    glued, after = bool(after) and not after[0].isspace(), after.lstrip()
    if glued and not _WIDE_MARK.match(mark) and not _starts_glued(before, mark, after):
        return False
    if not stripped.startswith(".") or not after:
        in_title = mark != stripped and after[:1].islower()  # the show "Who is it?" was
        return not (in_title or (stripped.startswith("…") and after[:1].islower()))
    if len(stripped) > 1:  # an ellipsis continues if a lower-case letter follows
        return not after[0].islower()
    if before[-1:].isspace():  # tokenised text: every mark is separate
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
        after = paragraph[found.end() : found.end() + 80]
        if _ends_sentence(before, found.group(), after):
            yield paragraph[start : found.end()]
            start = found.end()
    yield paragraph[start:]


def _cut_long(unit: str) -> Iterator[str]:
    """Split a unit longer than `MAX_WORDS` at its commas if there are any, otherwise at words."""
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


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def _without_tables(lines: Sequence[Line]) -> Iterator[Line]:
    """Write each row of a table as one sentence: "Vehicle: car, Fare: 30 euros"."""
    header: list[str] = []
    for place, line in enumerate(lines):
        if line.kind is Kind.CODE or not (_ROW.search(line.text) or "-|-" in line.text):
            header = []
            yield line
            continue
        follows = lines[place + 1].text if place + 1 < len(lines) else ""
        if "|" in follows and _RULE_OF_TABLE.match(follows):
            header = _cells(line.text)
            yield Line(", ".join(filter(None, header)), Kind.HEADING)
        elif not _RULE_OF_TABLE.match(line.text):
            named = zip([*header, *[""] * line.text.count("|")], _cells(line.text), strict=False)
            said = [f"{name}: {cell}" if name else cell for name, cell in named if cell]
            yield Line("\u2022 " + ", ".join(said), line.kind)


def _paragraphs(text: str) -> Iterator[Line]:
    """Yield paragraphs, list items and headings; wrapped lines are joined."""
    pending: list[str] = []
    kind = Kind.PROSE
    for line in _without_tables(list(plain_lines(text))):
        if len(pending) == 1 and _UNDERLINE.match(line.text):
            kind = Kind.HEADING
        marker = _BULLET.match(line.text) or _HEADING.match(line.text)
        body = line.text[marker.end() :] if marker else line.text
        goes_on = (
            pending
            and not marker
            and body.strip()[:1].islower()
            and kind is line.kind is Kind.PROSE
        )
        if pending and not goes_on:
            yield Line(" ".join(pending), kind)
            pending = []
        if body.strip():
            kind = line.kind if not pending else kind
            pending.append(body.strip())
    if pending:
        yield Line(" ".join(pending), kind)


def _units(text: str) -> list[Line]:
    """Return the sentences of a text, in order, and the kind of line each comes from."""
    return [
        Line(piece, paragraph.kind)
        for paragraph in _paragraphs(unicodedata.normalize("NFC", text))
        for sentence in _cut_sentences(paragraph.text)
        for piece in _cut_long(sentence)
        if _WORD.search(piece)
    ]


def sentences(text: str) -> list[str]:
    """Split prose into sentences, in order, without citation markers and other markup.

    Knows abbreviations, initials, decimals, ellipses, lists, headings, tables, wrapped lines,
    tokenised text (" . "), a missing space ("at nine.Cars cost"), and the full stops of Chinese,
    Japanese, Arabic and Hindi. Whitespace inside a sentence becomes one space. Units without a
    letter or digit are dropped.
    """
    return [unit.text for unit in _units(text)]


def _code_units(text: str) -> list[str]:
    """Split code into comments, docstring sentences and statements, one per line, in order."""
    units: list[str] = []
    for line in text.splitlines():
        found = _COMMENT.search(line)
        code = line[: found.start()] if found and found.group(1) else line
        units.extend(_cut_long(code.strip().strip("\"'")))
        if found and found.group(1):
            units.extend(_cut_long(found.group(1)))
    return [unit for unit in units if _WORD.search(unit)]


_OPENING = "\"'\u201c\u2018\u00ab([\u300c\u00bf*"
_QUESTION = re.compile(r"[?\uff1f\u061f][!?\uff01\uff1f]*$|[\u0370-\u03ff\u1f00-\u1fff];$")


def is_question(sentence: str) -> bool:
    """Return whether a sentence is a question; ending in a quoted question is not enough."""
    core = sentence.rstrip(_CLOSING + " \u300d\u300f*")
    closed = core != sentence.rstrip() and not sentence.lstrip().startswith(tuple(_OPENING))
    return not closed and _QUESTION.search(core) is not None


def passages(text: str) -> list[str]:
    """Split a context into the units that claims are compared with: sentences, or lines of code.

    A question is not evidence of what it asks, so it is left out; its answer is kept.
    """
    if is_code(text):
        return _code_units(text)
    return [
        unit.text for unit in _units(text) if unit.kind is Kind.CODE or not is_question(unit.text)
    ]


_SMALL_TALK_LIST = """
    ok okay sure thanks thank you hi hello hey oh ah wow sorry please bye goodbye welcome hmm haha
    lol here
"""
_ASSENT_LIST = """
    well indeed right certainly of course great good nice cool absolutely definitely exactly
"""
_ASSENT = frozenset(_ASSENT_LIST.split())
_SMALL_TALK = frozenset(_SMALL_TALK_LIST.split()) | _ASSENT
_POINTING = frozenset(["you", "here"])
"""On their own these answer who and where."""
_LETTERS_OR_DIGITS = re.compile(r"[^\W\d_]+|\d+")


def _consists_of(unit: str, known: frozenset[str]) -> bool:
    found = set(_LETTERS_OR_DIGITS.findall(unit.lower()))
    return found <= known and not found <= _POINTING


def _stated(sentence: str) -> str:
    """Return what a sentence states, or "" if it is a question, a courtesy or a lead-in."""
    if is_question(sentence):
        sentence = before_offer(sentence)
    for _ in range(2):  # as it is, and without its preamble
        if not sentence or _consists_of(sentence, _SMALL_TALK) or is_courtesy(sentence):
            return ""
        sentence = without_preamble(sentence)
    led_in = sentence.rstrip("*_ ").endswith((":", "\uff1a")) and not re.search(r"\d", sentence)
    return "" if led_in or is_question(sentence) else sentence


def _key(claim: str) -> str:
    """Return what equal claims share: no case, spaces or punctuation (except in numbers)."""
    folded = unicodedata.normalize("NFKC", claim).casefold()
    kept = [
        sign
        if unicodedata.category(sign)[0] in "LNMS"
        or sign in "%#@*/&"
        or (folded[place + 1 : place + 2].isdigit() and sign in ".,:-/\u2212")
        else " "
        for place, sign in enumerate(folded)
    ]
    return " ".join("".join(kept).split())


def _first_of_equals(found: Sequence[str]) -> list[str]:
    first: dict[str, str] = {}
    for claim in found:
        first.setdefault(_key(claim), claim)
    return list(first.values())


def claims(text: str) -> list[str]:
    """Split an output into claims: what its sentences state, each thing once, in order.

    A sentence is split where a comma or semicolon separates two clauses. Questions, courtesies,
    headings and lead-ins state nothing; of "Based on the context, X" the claim is X. A bare "Yes"
    or "No" is a claim: it answers the question. Code has a claim per line and comment.
    """
    if is_code(text):
        return [
            unit for unit in dict.fromkeys(_code_units(text)) if not _consists_of(unit, _SMALL_TALK)
        ]
    units = _units(text)
    body = [place for place, unit in enumerate(units) if unit.kind is not Kind.HEADING]
    found = []
    for place, unit in enumerate(units):
        if unit.kind is Kind.CODE:
            found.append(unit.text)
        elif unit.kind is Kind.PROSE or not body or place > body[-1]:
            found += [part for part in clauses(_stated(unit.text)) if _WORD.search(part)]
    if not found:  # "Of course." is an answer where nothing else is said
        found = [unit.text for unit in units if _consists_of(unit.text, _ASSENT)]
    return _first_of_equals(found)
