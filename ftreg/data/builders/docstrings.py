"""Pairs of a Python function and the first sentence of its docstring, from pinned wheels.

A row's `input` is the function without its docstring, its `reference` the sentence. The same recipe
gives the same bytes on every machine and Python version. Rows are ordered by a hash of their ids,
so the first N of a split are a fair sample of all its packages.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ftreg.config.base import Section
from ftreg.config.load import validate
from ftreg.data.builders.python_source import (
    Documented,
    argument_count,
    documented_functions,
    has_loop,
    without_docstring,
)
from ftreg.errors import UsageError
from ftreg.files import marked_yaml
from ftreg.files.store import write_jsonl
from ftreg.services.wheels import fetch_wheel

_Count = Annotated[int, Field(ge=0)]


class Package(Section):
    """A wheel that functions are taken from."""

    requirement: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.]+$")]
    """Exact requirement, `networkx==3.6.1`."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hex digest of the wheel."""
    license: str
    """SPDX expression of the package's licence."""
    import_name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The package's folder in the wheel, also the value of the tag `package`."""
    skip: list[str] = Field(default_factory=list)
    """Modules that are left out, with all below them."""


class Bounds(Section):
    """From `min` to `max`, both included."""

    min: _Count
    max: _Count

    def __contains__(self, value: int) -> bool:
        return self.min <= value <= self.max


class Filters(Section):
    """Which pairs are kept."""

    code_characters: Bounds
    """Length of the function without its docstring."""
    summary_words: Bounds
    """Length of the sentence."""
    summary_overlap: _Count = 1
    """How many words of the sentence have to occur in the code, or it could not be told from it."""


class Recipe(Section):
    """The builder's settings."""

    builder: Literal["docstrings"]
    """This builder."""
    seed: int
    """Goes into every hash: another seed is another split and another order."""
    eval_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of each package's modules, at least one, whose functions are held out."""
    packages: Annotated[list[Package], Field(min_length=1)]
    """The wheels; where two functions repeat each other, the earlier package keeps its own."""
    filters: Filters
    """Which pairs are kept."""


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        UsageError: it is missing or invalid; one line per mistake, with its location.
    """
    return validate(Recipe, marked_yaml.read(path), where=str(path))


def run(path: Path, folder: Path) -> Mapping[str, Path]:
    """Build what the recipe at `path` describes; see `build`."""
    return build(read_recipe(path), folder)


def build(recipe: Recipe, folder: Path) -> Mapping[str, Path]:
    """Write `train.jsonl` and `eval.jsonl` into `folder`.

    No module is in both splits, and no function text and no summary occurs twice.

    Returns:
        The file of each split.

    Raises:
        UsageError: a wheel cannot be fetched or read, or a split would be empty.
    """
    splits: dict[str, list[tuple[str, dict[str, Any]]]] = {"train": [], "eval": []}
    seen: set[str] = set()
    for package in recipe.packages:
        wheel = fetch_wheel(package.requirement, package.sha256)
        found = list(documented_functions(wheel, package.import_name, package.skip))
        held_out = _held_out({item.module for item in found}, recipe)
        for item in found:
            row = _row(item, package.import_name, recipe.filters)
            if row is None:
                continue
            keys = {row["id"], _folded(row["input"]), _folded(row["reference"])}
            if seen & keys:
                continue
            seen |= keys
            split = "eval" if item.module in held_out else "train"
            splits[split].append((_hash(recipe.seed, row["id"]), row))
    written = {}
    for name, rows in splits.items():
        if not rows:
            raise UsageError(f"the recipe leaves no row for the split {name!r}; loosen its filters")
        written[name] = folder / f"{name}.jsonl"
        write_jsonl(written[name], (row for _, row in sorted(rows, key=lambda pair: pair[0])))
    return written


def _hash(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()


def _held_out(modules: set[str], recipe: Recipe) -> set[str]:
    """Return the modules of one package that are its part of the eval split.

    It does not depend on the filters: with the same seed, share and wheels, no version holds out
    what another one trains on.
    """
    ranked = sorted(modules, key=lambda module: _hash(recipe.seed, module))
    return set(ranked[: max(1, round(recipe.eval_share * len(ranked)))])


def _folded(text: str) -> str:
    """Return a key that is equal for texts that differ only in case, spacing and punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))


# --- from docstrings to summaries

_MARKUP = (
    (re.compile(r":(?!rfc)[a-z:]+:`[~.]*([^`<>]+)`"), r"`\1`"),  # :func:`~a.b`
    (re.compile(r"``([^`]+)``"), r"`\1`"),
    (re.compile(r"(?<![\w*])\*{1,2}([A-Za-z_]\w*)\*{1,2}(?![\w*])"), r"`\1`"),  # *name*
)
_SENTENCE = re.compile(r".+?\.(?=\s+[A-Z`(]|\s*$)")
# A full stop before the last: an abbreviation, or a sentence that continues after a typo.
_BROKEN = re.compile(r"\.\s|\.\.|\b(?:e\.?g|i\.?e|etc|cf|vs|al|[A-Z])\.$")
# Doctests, fields, directives, formulas, tables, addresses, Epydoc.
_FOREIGN = re.compile(r">>>|::|://|[A-Z]\{|\$|\\|\||@|[=<>*_~]{2}|:\w+:| - ")
# Beginnings of sentences that do not describe what the function does.
_ASIDE = re.compile(
    r"(?:see|alias|deprecated|todo|fixme|notes?|notice|warning|same|similar|identical|analogous|like"
    r"|called|temporarily|(?:an? |the )?(?:\w+ )?(?:variant|version)|equivalent|helper|wrapper"
    r"|convenience|shortcut|synonym|inherits?|overrides?|examples?|usage|internal|experimental"
    r"|author|copyright|please|as|if|in|is|does|for|when|since|because"
    r"|th(?:is|ese) \w+ (?:is|are|was|were|will|can|may|should|has|have)"
    r"|this (?:is|was|should|has|will|can|may))\b",
    re.IGNORECASE,
)
_NOT_FOR_USE = re.compile(r"demo|(?:^|\.)tests?(?:_|$)", re.IGNORECASE)
_CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def _summary(docstring: str) -> str | None:
    """Return the first sentence of a docstring as plain text; None if it has none."""
    paragraph = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0]
    if re.search(r"\n\s*(?:[-*+] |\d+[.)] |[-=~^]{3,}|:\w|@\w)", paragraph):
        return None  # a list, a heading or fields follow without a blank line
    text = " ".join(paragraph.split())
    for pattern, plain in _MARKUP:
        text = pattern.sub(plain, text)
    found = _SENTENCE.match(text)
    if not found:
        return None
    sentence = found[0]
    letters = sum(character.isalpha() and character.isascii() for character in sentence)
    good = (
        "A" <= sentence[0] <= "Z"
        and not _BROKEN.search(sentence)
        and not _FOREIGN.search(sentence)
        and not _ASIDE.match(sentence)
        and "deprecated" not in sentence.casefold()
        and sentence.count("`") % 2 == 0
        and sentence.count("(") == sentence.count(")")
        and letters + sentence.count(" ") >= 0.85 * len(sentence)
    )
    return sentence if good else None


def _word_stems(text: str) -> set[str]:
    """Return the beginnings of the longer words, identifiers split: enough to detect matches."""
    return {word.casefold()[:5] for word in _CAMEL.findall(text) if len(word) >= 4}


# --- rows


def _row(found: Documented, package: str, filters: Filters) -> dict[str, Any] | None:
    """Return the row of a function, or None if the filters exclude it."""
    summary = None if _NOT_FOR_USE.search(found.qualname) else _summary(found.docstring)
    code = without_docstring(found) if summary else None
    if summary is None or code is None:
        return None
    if len(code) not in filters.code_characters:
        return None
    if len(summary.split()) not in filters.summary_words:
        return None
    if len(_word_stems(summary) & _word_stems(code)) < filters.summary_overlap:
        return None
    return {
        "id": found.id,
        "input": code,
        "reference": summary,
        "tags": {
            "package": package,
            "module": found.module,
            "kind": "method" if found.method else "function",
            "length": _grade(code.count("\n") + 1, {"short": 8, "medium": 16}, "long"),
            "arguments": _grade(argument_count(found), {"none": 0, "few": 2}, "many"),
            "loops": "yes" if has_loop(found) else "no",
        },
    }


def _grade(value: int, upto: Mapping[str, int], beyond: str) -> str:
    return next((name for name, limit in upto.items() if value <= limit), beyond)
