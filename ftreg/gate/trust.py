"""Whether a scorer can be trusted for gating, on rows like those that people labelled."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

from ftreg.errors import ExitCode
from ftreg.gate.agreement import Agreement, Measured
from ftreg.gate.interval import Interval

Finding = Literal["met", "not met", "undecided"]
Trust = Literal["trusted", "not trusted", "undecided"]

_RECORD = ConfigDict(use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustBars:
    """The bars that a scorer must clear."""

    __pydantic_config__ = _RECORD

    min_auroc: float = 0.7
    """The lower end of the AUROC's interval must be above it."""
    min_gain: float = 0.0
    """The lower end of the gain over word overlap must be above it; -1 disables this."""
    max_missing: float = 0.0
    """Share of the labelled rows that may lack a score; the same default as the gate's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One of the bars, and whether it is cleared."""

    __pydantic_config__ = _RECORD

    name: Literal["auroc", "gain", "missing"]
    bar: float
    value: float
    interval: Interval | None
    """Of the value; null for the share of rows without a score, which is not an estimate."""
    finding: Finding
    """`met` or `not met` if the interval is entirely on one side of the bar, else `undecided`."""
    rows_needed: int | None
    """If undecided: about how many rows like these would meet it if the value stays the same; null
    if the value is not above the bar."""


def hold_to(bars: TrustBars, agreement: Agreement, *, missing: int) -> tuple[Criterion, ...]:
    """Check an agreement against the bars.

    Args:
        bars: what must be cleared.
        agreement: over the rows with a label and a score.
        missing: rows with a label and without a score.
    """
    found = [_by_interval("auroc", bars.min_auroc, agreement.auroc, agreement.rows)]
    if agreement.gain is not None and bars.min_gain > -1:
        found.append(_by_interval("gain", bars.min_gain, agreement.gain, agreement.rows))
    share = missing / (agreement.rows + missing)
    found.append(
        Criterion(
            name="missing",
            bar=bars.max_missing,
            value=share,
            interval=None,
            finding="met" if share <= bars.max_missing else "not met",
            rows_needed=None,
        )
    )
    return tuple(found)


def _by_interval(
    name: Literal["auroc", "gain"], bar: float, measured: Measured, rows: int
) -> Criterion:
    value, (low, high) = measured.value, measured.interval
    needed = None
    finding: Finding = "met" if low > bar else "not met" if high <= bar else "undecided"
    if finding == "undecided" and value > bar:
        # An interval's half shrinks with the square root of the rows.
        needed = math.ceil(rows * ((value - low) / (value - bar)) ** 2)
    return Criterion(
        name=name,
        bar=bar,
        value=value,
        interval=measured.interval,
        finding=finding,
        rows_needed=needed,
    )


def trust(criteria: Iterable[Criterion]) -> Trust:
    """Return the result: trusted only if all criteria are met, not trusted if any is not.

    All must hold, so no correction is needed: a scorer that falls short of a bar clears it with a
    probability of at most about 2.5 %.
    """
    findings = {criterion.finding for criterion in criteria}
    if "not met" in findings:
        return "not trusted"
    return "undecided" if "undecided" in findings else "trusted"


def exit_code_of(found: Trust) -> ExitCode:
    """Return the exit code of a command."""
    return ExitCode.OK if found == "trusted" else ExitCode.UNDECIDED
