"""What the gate found: a verdict, a row per scorer and slice, and the reasons in words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ftreg.config.policy import GatePolicy
from ftreg.errors import ExitCode
from ftreg.files.checking import first_problem
from ftreg.gate.budgets import CostRow
from ftreg.gate.interval import Interval
from ftreg.gate.spending import Looks

Outcome = Literal["pass", "regression", "undecided"]
Grade = Literal["worse", "few", "unknown"]
"""Why a row is undecided: it is certainly worse, but perhaps within the margin; there are too few
examples to tell; or it cannot be computed."""

PRIMARY = "all"
"""The slice of all examples."""

BETTING = "betting"
"""The method of rows whose statements hold at every moment, see `ftreg.gate.betting`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One scorer on one slice. Numbers are None where nothing could be compared."""

    # The docstrings below the fields are the descriptions of `ftreg schema verdict`.
    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    scorer: str
    cohort: str = PRIMARY
    """`all`, or the cohort as `tag=value`."""
    against: Literal["baseline", "anchor"] = "baseline"
    """What the candidate is compared with; its mean is `baseline_mean` in both cases."""
    gated: bool
    """Whether the verdict can only pass if this row does."""
    examples: int
    """Examples of the slice."""
    n: int
    """Those of them with a score on both sides, which are compared."""
    units: int
    """Independent units among them: clusters where there are clusters, else examples."""
    effective_units: float | None = None
    """As many clusters of equal size tell as much, which is what the fewest clusters of a pass
    count; None where nothing could be compared, and in older records."""
    missing_baseline: int
    """Examples of the slice without a score in the baseline (or anchor)."""
    missing_candidate: int
    """Examples of the slice without a score in the candidate."""
    baseline_mean: float | None = None
    candidate_mean: float | None = None
    delta: float | None = None
    """Candidate minus baseline, the mean over the paired examples; below 0 is a drop."""
    interval: Interval | None = None
    """Two-sided confidence interval of `delta`, the one that a pass is decided by."""
    delta_at_worst: float | None = None
    """`delta` if every score that only the candidate lacks were 0, and every one that only the
    baseline lacks 1; None where no score is missing."""
    low_at_worst: float | None = None
    """The lower end of its interval: what a pass is decided by."""
    p_unscored: float | None = None
    """Of the candidate failing to be scored more often than the baseline: McNemar's test."""
    margin: float
    """The mean drop that is allowed."""
    standard_error: float | None = None
    """Of `delta`; clustered where there are clusters, over seeds where there are several."""
    baseline_seeds: int = 1
    """Training seeds of the baseline (or anchor); with one its noise is not covered."""
    candidate_seeds: int = 1
    """Training seeds of the candidate."""
    baseline_seed_deviation: float | None = None
    """Standard deviation of the mean score from seed to seed; None with one seed."""
    candidate_seed_deviation: float | None = None
    """The same of the candidate."""
    example_error: float | None = None
    """The part of `standard_error` that examples make, as if there were no other seeds; None where
    both sides have one. It overlaps with `seed_error` by what an example does from seed to seed."""
    seed_error: float | None = None
    """The part that seeds make, as if there were no other examples."""
    p_value: float | None = None
    """Of a drop at all, one-sided, for this row alone: McNemar's test, or sign flips."""
    p_guarded: float | None = None
    """The same by the interval's guard, which does not suppose that deltas are symmetric."""
    p_seeds: float | None = None
    """The same with the noise of the seeds; None where both sides have one seed."""
    p_adjusted: float | None = None
    """The largest of them after Holm's correction over all rows that were tested, and over the
    candidates that the baseline (or anchor) was chosen from."""
    p_beyond: float | None = None
    """Of a drop of more than the margin, one-sided, for this row alone."""
    p_beyond_adjusted: float | None = None
    """`p_beyond` after the same corrections."""
    collapsed: int | None = None
    """Units in which an example fell by at least the policy's `collapse.drop` (0.5 unless set)."""
    collapsed_at_most: float | None = None
    """The upper confidence bound of their share, exact (Clopper and Pearson 1934); None where the
    policy sets no `collapse`."""
    detectable_drop: float | None = None
    """The smallest true drop that this row alone proves to be beyond its margin with a probability
    of 80 %; None for a row that need not pass."""
    n_needed: int | None = None
    """Examples with which a candidate as good as the baseline passes with a probability of 80 %;
    None where no number does, and for a row that need not pass."""
    n_needed_range: tuple[int, int] | None = None
    """The range around `n_needed` for what the deltas seen leave open, with a probability of 90 %.
    """
    method: str = "none"
    """How the interval was made."""
    constant: bool = False
    """Whether the scorer gave every example of both sides the same score."""
    outcome: Outcome = "undecided"
    grade: Grade | None = None
    """Why the row is undecided; None where it is not."""
    note: str = ""
    """What a reader should know about this row."""

    @property
    def name(self) -> str:
        """The row in words: scorer, and cohort or anchor."""
        where = self.scorer if self.cohort == PRIMARY else f"{self.scorer}, {self.cohort}"
        return f"{where}, against the anchor" if self.against == "anchor" else where


def largest_p_value(row: Row) -> float:
    """Return that of the tests that were made of a row; 0 where none was."""
    return max(row.p_value or 0.0, row.p_guarded or 0.0, row.p_seeds or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalDrop:
    """A critical example that got worse."""

    scorer: str
    id: str
    baseline: float
    candidate: float
    tolerance: float = 0.0
    """The drop that was allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The decision of the gate over a candidate.

    `reasons` are plain sentences: for a regression everything that got worse, for an undecided
    verdict everything that stands in the way of a pass.
    """

    outcome: Outcome
    rows: tuple[Row, ...]
    reasons: tuple[str, ...]
    critical: tuple[CriticalDrop, ...] = ()
    policy: Mapping[str, Any]
    """The policy it was decided by, JSON-ready."""
    looks: Looks | None = None
    """How often the rows had been looked at; None where that is not known."""
    costs: tuple[CostRow, ...] = ()
    """What answers took, of those costs that the policy has a budget for."""
    level: float | None = None
    """What the intervals leave of 1, where it is not 1 - confidence: `spend_error` is on."""

    @property
    def exit_code(self) -> ExitCode:
        """What a command that gates ends with."""
        if self.outcome == "regression":
            return ExitCode.REGRESSION
        if self.outcome == "undecided" and not self.let_through:
            return ExitCode.UNDECIDED
        return ExitCode.OK

    @property
    def let_through(self) -> bool:
        """Whether the policy lets an undecided verdict through."""
        worse = any(row.gated and row.grade == "worse" for row in self.rows)
        return bool(self.policy["allow_undecided"] and (not worse or self.policy["allow_worse"]))

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-ready data."""
        value = asdict(self)
        value["reasons"] = list(self.reasons)
        for key in ("rows", "critical", "costs"):
            value[key] = list(value[key])
        for row in [*value["rows"], *value["costs"]]:
            if row["interval"] is not None:
                row["interval"] = list(row["interval"])
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Verdict":
        """Return the verdict that `to_dict` made `value` of.

        Raises:
            ValueError: it is none; names the key.
        """
        try:
            policy = GatePolicy.model_validate(value.get("policy"), strict=False)
            found: Verdict = _adapter().validate_python({**value, "policy": {}})
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error
        return replace(found, policy=policy.model_dump(mode="json"))


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Verdict]:
    return TypeAdapter(Verdict)
