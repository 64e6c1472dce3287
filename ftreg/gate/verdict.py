"""The gate's result: a verdict, a row per scorer and slice, and the reasons in words."""

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
    """One scorer on one slice. Numbers are None if nothing could be compared."""

    # The docstrings below the fields are the descriptions of `ftreg schema verdict`.
    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    scorer: str
    cohort: str = PRIMARY
    """`all`, or the cohort as `tag=value`."""
    against: Literal["baseline", "anchor"] = "baseline"
    """What the candidate is compared with. Its mean is `baseline_mean` in both cases."""
    gated: bool
    """Whether the verdict can pass only if this row does."""
    examples: int
    """Examples of the slice."""
    n: int
    """Those with a score on both sides, which are compared."""
    units: int
    """Independent units among them: clusters if there are any, else examples."""
    effective_units: float | None = None
    """The effective number of clusters of equal size, which is compared with the minimum for a
    pass. None if nothing could be compared, and in older records."""
    missing_baseline: int
    """Examples of the slice without a score in the baseline (or anchor)."""
    missing_candidate: int
    """Examples of the slice without a score in the candidate."""
    baseline_mean: float | None = None
    candidate_mean: float | None = None
    delta: float | None = None
    """Candidate minus baseline, the mean over the paired examples. Below 0 is a drop."""
    interval: Interval | None = None
    """Two-sided confidence interval of `delta`, which decides a pass."""
    delta_at_worst: float | None = None
    """`delta` if every score missing only in the candidate were 0, and every one missing only in
    the baseline 1. None if no score is missing."""
    low_at_worst: float | None = None
    """The lower end of its interval, which decides a pass."""
    p_unscored: float | None = None
    """p value of the candidate failing to be scored more often than the baseline: McNemar's
    test."""
    margin: float
    """The allowed mean drop."""
    standard_error: float | None = None
    """Of `delta`; clustered if there are clusters, over seeds if there are several."""
    baseline_seeds: int = 1
    """Training seeds of the baseline (or anchor). With one, the noise of seeds is not covered."""
    candidate_seeds: int = 1
    """Training seeds of the candidate."""
    baseline_seed_deviation: float | None = None
    """Standard deviation of the baseline's mean score between seeds; None with one seed."""
    candidate_seed_deviation: float | None = None
    """The same for the candidate."""
    example_error: float | None = None
    """The part of `standard_error` due to examples, given these seeds; None if both sides have one
    seed. It overlaps with `seed_error` by the differences of an example between seeds."""
    seed_error: float | None = None
    """The part due to seeds, given these examples."""
    p_value: float | None = None
    """p value of any drop, one-sided, for this row alone: McNemar's test, or sign flips."""
    p_guarded: float | None = None
    """The same by the interval's guard, which does not assume symmetric deltas."""
    p_seeds: float | None = None
    """The same with the noise of the seeds; None if both sides have one seed."""
    p_adjusted: float | None = None
    """The largest of these p values after Holm's correction over all tested rows, and over the
    candidates that the baseline (or anchor) was chosen from."""
    p_beyond: float | None = None
    """p value of a drop of more than the margin, one-sided, for this row alone."""
    p_beyond_adjusted: float | None = None
    """`p_beyond` after the same corrections."""
    collapsed: int | None = None
    """Units with an example that dropped by at least the policy's `collapse.drop` (default 0.5)."""
    collapsed_at_most: float | None = None
    """The exact upper confidence bound of their share (Clopper and Pearson 1934); None if the
    policy sets no `collapse`."""
    detectable_drop: float | None = None
    """The smallest true drop that this row alone shows to be beyond its margin with a probability
    of 80 %. None for a row that need not pass."""
    n_needed: int | None = None
    """Examples with which a candidate as good as the baseline passes with a probability of 80 %.
    None if no number is enough, and for a row that need not pass."""
    n_needed_range: tuple[int, int] | None = None
    """The range of `n_needed` given the uncertainty of the deltas, with a probability of 90 %."""
    method: str = "none"
    """The interval's method."""
    constant: bool = False
    """Whether the scorer gave every example of both sides the same score."""
    outcome: Outcome = "undecided"
    grade: Grade | None = None
    """Why the row is undecided; None if it is decided."""
    note: str = ""
    """What a reader should know about this row."""

    @property
    def name(self) -> str:
        """The row in words: scorer, and cohort or anchor."""
        where = self.scorer if self.cohort == PRIMARY else f"{self.scorer}, {self.cohort}"
        return f"{where}, against the anchor" if self.against == "anchor" else where


def largest_p_value(row: Row) -> float:
    """Return the largest p value of a row's tests; 0 if there were none."""
    return max(row.p_value or 0.0, row.p_guarded or 0.0, row.p_seeds or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalDrop:
    """A critical example that got worse."""

    scorer: str
    id: str
    baseline: float
    candidate: float
    tolerance: float = 0.0
    """The allowed drop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The gate's decision on a candidate.

    `reasons` are plain sentences: for a regression everything that got worse, for an undecided
    verdict everything that prevents a pass.
    """

    outcome: Outcome
    rows: tuple[Row, ...]
    reasons: tuple[str, ...]
    critical: tuple[CriticalDrop, ...] = ()
    policy: Mapping[str, Any]
    """The policy that decided, JSON-ready."""
    looks: Looks | None = None
    """How often the rows had been looked at; None if unknown."""
    costs: tuple[CostRow, ...] = ()
    """What answers cost, for each cost with a budget in the policy."""
    level: float | None = None
    """The error of the intervals if it is not 1 - confidence, because `spend_error` is on."""

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that gates."""
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
            ValueError: it is not a verdict; names the key.
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
