"""The result of a gate: the verdict, its printed form, and the reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ftreg
from ftreg.config.policy import GatePolicy
from ftreg.errors import ExitCode
from ftreg.gate import CostRow, CriticalDrop, Looks, Outcome, Row, Verdict
from ftreg.records.layout import GATE_SCHEMA
from ftreg.records.printed import OPTIONAL, Printed, printed


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """The reports that a gate writes, besides `report.md` in the evaluation's folder."""

    html: bool = True
    """`report.html`, in the evaluation's folder."""
    junit: Path | None = None
    """The verdict as JUnit XML."""
    comment: Path | None = None
    """The Markdown report, cut to what the comment of a pull request takes."""
    summary: Path | None = None
    """A file that the Markdown report is added to, such as `$GITHUB_STEP_SUMMARY`."""


@printed
class PrintedVerdict(Printed):
    """What `ftreg gate --json` and a gating `ftreg eval --json` print."""

    schema_version: int = GATE_SCHEMA
    """Version of this form; it goes up when the meaning of a key does."""
    ftreg: str = ftreg.__version__
    """The version that gated."""
    baseline: str
    """Id of the evaluation that it was held against."""
    candidate: str
    """Id of the evaluation that was judged."""
    report: Path | None
    """Path of the Markdown report; null where two files of scores were gated."""
    html: Path | None
    """Path of the HTML report; null likewise, and with --no-report."""
    exit_code: int
    """What the command ends with: 0, 1 or 3."""
    outcome: Outcome
    """Undecided where too little can be said either way."""
    rows: tuple[Row, ...]
    """One per scorer and cohort."""
    reasons: tuple[str, ...]
    """Plain sentences: what got worse, or what stands in the way of a pass."""
    critical: tuple[CriticalDrop, ...]
    """Examples tagged as critical that got worse."""
    policy: GatePolicy
    """What was decided by; the schema `policy` describes it."""
    looks: Looks | None = field(default=None, metadata=OPTIONAL)
    """How often the rows had been looked at; left out where no ledger is kept of them."""
    level: float | None = field(default=None, metadata=OPTIONAL)
    """What the intervals leave of 1, where `spend_error` is on; left out: 1 - confidence."""
    costs: tuple[CostRow, ...] | None = field(default=None, metadata=OPTIONAL)
    """What answers took, where the policy has a budget for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """A verdict, its subject, and the files that were written.

    `baseline` and `candidate` are the headers of the evaluations. `baseline_file` is the file in
    `baselines/` that the baseline was read from, if any; `report` and `html` are the reports, None
    if there is none.
    """

    baseline: Mapping[str, Any]
    candidate: Mapping[str, Any]
    verdict: Verdict
    baseline_file: Path | None = None
    report: Path | None = None
    html: Path | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that gates."""
        return self.verdict.exit_code

    @property
    def printed(self) -> PrintedVerdict:
        """Return the result as printed by `--json`."""
        return PrintedVerdict(
            baseline=self.baseline["id"],
            candidate=self.candidate["id"],
            report=self.report,
            html=self.html,
            exit_code=int(self.exit_code),
            outcome=self.verdict.outcome,
            rows=self.verdict.rows,
            reasons=self.verdict.reasons,
            critical=self.verdict.critical,
            policy=GatePolicy.model_validate(self.verdict.policy, strict=False),
            looks=self.verdict.looks,
            level=self.verdict.level,
            costs=self.verdict.costs or None,
        )
