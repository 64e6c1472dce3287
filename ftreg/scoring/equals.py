"""Whether an output is one of the accepted answers, after a chosen normalisation."""

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from ftreg.errors import UsageError, did_you_mean
from ftreg.records.samples import Sample, Score
from ftreg.scoring.answers import (
    answer_words,
    answers_date,
    last_value,
    numbers_of,
    one_value,
    whole_value,
    word_readings,
)
from ftreg.scoring.patterns import LONGEST_MATCH, compile_pattern, within_limit
from ftreg.scoring.samplewise import SamplewiseScorer, UncheckableError
from ftreg.scoring.value_reader import number_of
from ftreg.scoring.values import same, values

_HANGUL = re.compile(r"[\uac00-\ud7af]{2,}")


def parse_number(text: str) -> float | None:
    """Return the number that makes up a text, or the last one in it; None without one.

    "1,250.5", "$12", "40 %" (40.0), "3 x 10^8" and "The answer is 7." are read; the last number
    counts because worked answers end with their result.
    """
    value = last_value(text)
    return None if value is None or isinstance(value.amount, tuple) else float(number_of(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualsOptions:
    """How an output is compared with the accepted answers; see `Equals`."""

    mode: str
    tolerance: float
    relative_tolerance: float
    separator: str | None
    ignore_case: bool


def _exact(output: str, answer: str, options: EqualsOptions) -> float:
    return float(output == answer)


def _normalized(output: str, answer: str, options: EqualsOptions) -> float:
    mine, wanted = whole_value(output), whole_value(answer)
    if mine is not None and wanted is not None and one_value(mine, wanted):
        return 1.0
    return float(not set(word_readings(output)).isdisjoint(word_readings(answer)))


def _contains(output: str, answer: str, options: EqualsOptions) -> float:
    """Whether the output contains the answer as consecutive complete words, or its value."""
    for text in word_readings(output):
        for wanted in word_readings(answer):
            if not wanted:
                return float(not text)
            if any(_stands(wanted, text, at) for at in range(len(text) - len(wanted) + 1)):
                return 1.0
    value = whole_value(answer)
    return float(value is not None and any(one_value(value, one) for one in values(output)))


def _stands(wanted: Sequence[str], text: Sequence[str], at: int) -> bool:
    """Whether words are at a place in a text; a Korean particle may follow the last of them."""
    end = at + len(wanted) - 1
    last, there = wanted[-1], text[end]
    fits = there == last or (there.startswith(last) and _HANGUL.fullmatch(last) is not None)
    return fits and text[at:end] == wanted[:-1]


def _overlap(output: str, answer: str, options: EqualsOptions) -> float:
    """F1 of the words, as in SQuAD."""
    mine, wanted = answer_words(output, joined=True), answer_words(answer, joined=True)
    if not mine or not wanted:
        return float(mine == wanted)
    shared = sum((Counter(mine) & Counter(wanted)).values())
    return 2 * shared / (len(mine) + len(wanted))


def _numeric(output: str, answer: str, options: EqualsOptions) -> float:
    wanted, mine = last_value(answer), last_value(output)
    if wanted is None:
        raise UncheckableError(f"the reference {answer!r} contains no number")
    if isinstance(wanted.amount, tuple):
        return float(mine is not None and answers_date(mine, wanted))
    number = number_of(wanted)
    if abs(number) > sys.float_info.max:
        raise UncheckableError("the number of the reference is too large")
    if mine is None:
        return 0.0
    allowed = max(options.tolerance, options.relative_tolerance * abs(float(number)))
    near = (abs(amount - number) <= allowed for amount in numbers_of(mine, wanted))
    return float(any(near) or same(mine, wanted))


def _regex(output: str, answer: str, options: EqualsOptions) -> float:
    """Whether a pattern in Python's syntax matches the complete output."""
    pattern = compile_pattern(answer, ignore_case=options.ignore_case)
    with within_limit(answer):
        return float(
            any(
                pattern.fullmatch(text, timeout=LONGEST_MATCH)
                for text in dict.fromkeys((output, output.strip()))
            )
        )


def _json(output: str, answer: str, options: EqualsOptions) -> float:
    try:
        wanted = _parse_json(answer)
    except (ValueError, RecursionError) as error:
        raise UncheckableError(f"the reference is not valid JSON: {error}") from error
    try:
        return float(same_json(_parse_json(output), wanted))
    except (ValueError, RecursionError):  # nested deeper than the accepted answer
        return 0.0


def _parse_json(text: str) -> Any:
    """Decode strict JSON. Integers may have any length, which Python's `int` refuses."""
    return json.loads(text, parse_int=Decimal, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def same_json(left: Any, right: Any) -> bool:
    """Compare decoded JSON; unlike Python's `==`, true is not 1, but 1.0 is.

    Without recursion, so that whatever can be decoded can be compared.
    """
    pending = [(left, right)]
    while pending:
        one, other = pending.pop()
        if isinstance(one, bool) or isinstance(other, bool):
            same = one is other
        elif isinstance(one, dict) and isinstance(other, dict):
            same = one.keys() == other.keys()
            pending.extend((one[key], other[key]) for key in one if same)
        elif isinstance(one, list) and isinstance(other, list):
            same = len(one) == len(other)
            pending.extend(zip(one, other, strict=False))
        else:
            same = one == other
        if not same:
            return False
    return True


_MODES: Mapping[str, Callable[[str, str, EqualsOptions], float]] = {
    "exact": _exact,
    "normalized": _normalized,
    "contains": _contains,
    "overlap": _overlap,
    "numeric": _numeric,
    "regex": _regex,
    "json": _json,
}


class Equals(SamplewiseScorer):
    """1 if the output is an accepted answer, otherwise 0; the best alternative counts.

    Needs no model.

    Args:
        mode: `exact`; `normalized` (the same words and values, see `answer_words`); `contains` (the
            output contains the answer's words consecutively, or its value); `overlap` (graded: F1
            of the words); `numeric` (the last value of the output); `regex` (the reference is a
            pattern that matches the complete output, with or without surrounding space); `json`
            (equal as JSON values).
        tolerance: `numeric`: the absolute difference that still counts as equal.
        relative_tolerance: `numeric`: the same as a share of the accepted number.
        separator: splits a reference text into several accepted answers.
        ignore_case: `regex`: ignore case.

    Raises:
        UsageError: the mode is unknown, or an option's value is invalid.
    """

    name = "equals"
    version = 3

    def __init__(
        self,
        *,
        mode: str = "normalized",
        tolerance: float = 0.0,
        relative_tolerance: float = 1e-9,
        separator: str | None = None,
        ignore_case: bool = False,
    ) -> None:
        options = EqualsOptions(
            mode=mode,
            tolerance=tolerance,
            relative_tolerance=relative_tolerance,
            separator=separator,
            ignore_case=ignore_case,
        )
        if options.mode not in _MODES:
            raise UsageError(
                f"equals: {options.mode!r} is not a mode{did_you_mean(options.mode, _MODES)} "
                f"(known: {', '.join(_MODES)})"
            )
        for name in ("tolerance", "relative_tolerance"):
            value = getattr(options, name)
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise UsageError(f"equals: {name} must be a number of at least 0, found {value!r}")
        if separator is not None and not (isinstance(separator, str) and separator):
            raise UsageError(f"equals: separator must be a non-empty string, found {separator!r}")
        self.options = options
        self.levels = None if mode == "overlap" else 2

    def _score_one(self, sample: Sample) -> Score:
        answers = self._answers(sample)
        if not answers:
            return Score(None, "no reference")
        compare = _MODES[self.options.mode]
        found = [compare(sample.output, answer, self.options) for answer in answers]
        best = max(range(len(found)), key=found.__getitem__)
        evidence = {"mode": self.options.mode, "closest": answers[best], "support": found[best]}
        return Score(round(found[best], 6), evidence=(evidence,))

    def _answers(self, sample: Sample) -> list[str]:
        """Return the accepted answers, each once and in order."""
        separator = self.options.separator
        if separator is None:
            return list(dict.fromkeys(sample.references))
        pieces = (piece.strip() for text in sample.references for piece in text.split(separator))
        return list(dict.fromkeys(pieces))
