"""The results of a tournament: contests of one scorer on one slice, with means and pairs."""

from dataclasses import dataclass, replace

from pydantic import ConfigDict

from ftreg.gate.interval import Interval

COMPARISON_SCHEMA = 1
"""Version of what `ftreg compare --json` prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """One evaluation's mean score on a slice."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    evaluation: str
    """Its id."""
    missing: int
    """Examples of the slice without a score."""
    seeds: int
    """Training seeds; with one, noise between seeds is not covered."""
    mean: float | None = None
    """Over the examples for which every evaluation has a score; null if there are none."""
    interval: Interval | None = None
    """Two-sided confidence interval of the mean."""
    ranks: tuple[int, int] | None = None
    """The best and the worst rank it may have (1 is best). They differ if it is not distinguishable
    from its neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two evaluations, compared by one scorer on one slice."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    first: str
    second: str
    n: int
    """Examples with a score on both sides, which are compared."""
    delta: float
    """Second minus first, the mean over these examples."""
    interval: Interval
    """Two-sided confidence interval of `delta`."""
    p_value: float
    """Two-sided, for this pair alone."""
    p_adjusted: float = 1.0
    """After Holm's correction over the family."""
    told_apart: bool = False

    def turned(self) -> "Pair":
        """The same pair the other way round."""
        low, high = self.interval
        return replace(
            self,
            first=self.second,
            second=self.first,
            delta=-self.delta,
            interval=Interval(-high, -low),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """All evaluations by one scorer on one slice."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    scorer: str
    cohort: str
    """`all`, or the cohort as `tag=value`."""
    examples: int
    """Examples of the slice."""
    n: int
    """Those for which every evaluation has a score; the means are over these."""
    means: tuple[Mean, ...]
    """One per evaluation with this scorer."""
    pairs: tuple[Pair, ...] = ()
    """Every pair once, except those with too little to compare."""
    winner: str | None = None
    """The evaluation that is distinguishable from every other, and better; null if there is
    none."""
    note: str = ""
    """Which pairs are not compared, and why."""

    def pair(self, first: str, second: str) -> Pair | None:
        """The pair of two evaluations, with its delta as `second` minus `first`."""
        for pair in self.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.first, pair.second) == (second, first):
                return pair.turned()
        return None

    def mean(self, evaluation: str) -> float | None:
        """The mean of one evaluation; None if it has none."""
        return next((item.mean for item in self.means if item.evaluation == evaluation), None)
