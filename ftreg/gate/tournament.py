"""Compare several evaluations with each other, pair by pair, and rank them.

Two evaluations are distinguishable by a scorer if the interval of their delta excludes 0 and the
two-sided p value after Holm's correction is at most 1 - confidence. The rows over all examples are
one family of tests, those of the cohorts another. A tournament gates nothing, and assumes that no
example changes by more than those seen. An evaluation's possible ranks follow from the
distinguishable pairs, and hold simultaneously: Mogstad, Romano, Shaikh and Wilhelm, "Inference for
ranks", Review of Economic Studies 91 (2024).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ftreg.config.policy import GatePolicy
from ftreg.gate.aligned import (
    AlignedScores,
    Positions,
    all_ids,
    cluster_numbers,
    mean_over_seeds,
    read_side,
    seeds_of,
    slices,
)
from ftreg.gate.contest import Contest, Mean, Pair
from ftreg.gate.interval import Interval
from ftreg.gate.mean import mean_interval
from ftreg.gate.measure import measure_rows
from ftreg.gate.permutation import holm
from ftreg.gate.units import Floats
from ftreg.gate.verdict import PRIMARY, Row, largest_p_value
from ftreg.records.samples import Scores

# A share of exactly max_missing does not exceed it.
_ROUNDING = 1e-12


def hold_tournament(
    sides: Mapping[str, Scores],
    policy: GatePolicy | None = None,
    *,
    cohorts: Mapping[str, Mapping[str, str]] | None = None,
    clusters: Mapping[str, str] | None = None,
) -> list[Contest]:
    """Compare evaluations by every scorer, over all examples and in each cohort.

    The order of the mappings does not matter.

    Args:
        sides: evaluation's id to its scores, as `ftreg.gate.compare` takes them.
        policy: confidence, max_missing and min_cohort are read.
        cohorts: example id to its tags.
        clusters: example id to the cluster it belongs to, if examples are not independent.

    Returns:
        The contests over all examples by scorer, then those of each cohort.

    Raises:
        UsageError: a score is not a number in [0, 1], or an example lacks a cluster or a seed.
    """
    policy = policy or GatePolicy()
    ids = all_ids(*sides.values())
    tables = {name: read_side(sides[name], ids, side=name) for name in sorted(sides)}
    numbers = cluster_numbers(ids, clusters)
    scorers = sorted(set().union(*(table.columns for table in tables.values())))
    everything = np.arange(len(ids), dtype=np.int64)
    contests = []
    for family in ({PRIMARY: everything}, slices(ids, cohorts)):
        measured = [
            _contest(scorer, cohort, positions, tables, policy, numbers)
            for cohort, positions in family.items()
            for scorer in scorers
        ]
        contests += _settle(measured, policy)
    return contests


def _contest(
    scorer: str,
    cohort: str,
    positions: Positions,
    tables: Mapping[str, AlignedScores],
    policy: GatePolicy,
    clusters: Positions | None,
) -> Contest:
    whole = {
        name: table.columns[scorer] for name, table in tables.items() if scorer in table.columns
    }
    scored = {name: ~np.isnan(mean_over_seeds(column)) for name, column in whole.items()}
    everywhere = np.logical_and.reduce(list(scored.values()))
    rows = positions[everywhere[positions]]
    slice_ = _Slice(scorer, cohort, positions, policy, clusters)
    means = tuple(
        Mean(
            evaluation=name,
            missing=int((~scored[name][positions]).sum()),
            seeds=seeds_of(column),
            mean=float(mean_over_seeds(column[rows]).mean()) if len(rows) else None,
            interval=slice_.interval(column, rows),
        )
        for name, column in whole.items()
    )
    met = [
        slice_.pair((one, other), whole[one], whole[other], scored[one] & scored[other])
        for one, other in combinations(whole, 2)
    ]
    pairs = tuple(pair for pair in met if pair is not None)
    note = ""
    if slice_.small(len(positions)):
        note = f"too small: {len(positions)} examples, fewer than min_cohort {policy.min_cohort}"
    elif len(pairs) < len(met):
        note = (
            f"{len(met) - len(pairs)} of {len(met)} pairs are not compared: more examples lack a "
            f"score than max_missing {policy.max_missing:g} allows, or too few are left"
        )
    return Contest(
        scorer=scorer,
        cohort=cohort,
        examples=len(positions),
        n=len(rows),
        means=means,
        pairs=pairs,
        note=note,
    )


@dataclass(frozen=True, slots=True)
class _Slice:
    """What all means and pairs of one contest have in common."""

    scorer: str
    cohort: str
    positions: Positions
    policy: GatePolicy
    clusters: Positions | None

    def small(self, count: int) -> bool:
        """Whether there are too few examples to say anything."""
        return count == 0 or (self.cohort != PRIMARY and count < self.policy.min_cohort)

    def interval(self, column: Floats, rows: Positions) -> Interval | None:
        """The interval of the mean over some rows, all of them scored."""
        if self.small(len(rows)):
            return None
        return mean_interval(
            column[rows],
            confidence=self.policy.confidence,
            clusters=self._clusters(rows),
        )

    def pair(
        self, names: tuple[str, str], before: Floats, after: Floats, both: NDArray[np.bool_]
    ) -> Pair | None:
        """Measure a pair, in both directions; `names` are in alphabetical order.

        None if too many scores are missing; `both` marks the examples with both scores.
        """
        rows = self.positions[both[self.positions]]
        missing, examples = len(self.positions) - len(rows), len(self.positions)
        if self.small(len(rows)) or missing > self.policy.max_missing * examples + _ROUNDING:
            return None
        drop = self._measured(before, after, rows)
        rise = self._measured(after, before, rows)
        assert drop.delta is not None and drop.interval is not None
        return Pair(
            first=names[0],
            second=names[1],
            n=len(rows),
            delta=drop.delta,
            interval=drop.interval,
            # The smaller of two one-sided p values, doubled.
            p_value=min(1.0, 2 * min(largest_p_value(drop), largest_p_value(rise))),
        )

    def _measured(self, before: Floats, after: Floats, rows: Positions) -> Row:
        (row,) = measure_rows(
            before,
            after,
            self.policy,
            scorer=self.scorer,
            slices={self.cohort: rows},
            clusters=self.clusters,
            unseen=False,
        )
        return row

    def _clusters(self, rows: Positions) -> Positions | None:
        return None if self.clusters is None else self.clusters[rows]


def _settle(contests: Sequence[Contest], policy: GatePolicy) -> list[Contest]:
    """Correct the p values over a family of contests, then derive ranks and winners."""
    adjusted = iter(holm([pair.p_value for contest in contests for pair in contest.pairs]))
    settled = []
    for contest in contests:
        pairs = []
        for pair in contest.pairs:
            p_adjusted = next(adjusted)
            clear = pair.interval.low > 0 or pair.interval.high < 0
            apart = clear and p_adjusted <= 1 - policy.confidence
            pairs.append(replace(pair, p_adjusted=p_adjusted, told_apart=apart))
        settled.append(_ranked(replace(contest, pairs=tuple(pairs))))
    return settled


def _ranked(contest: Contest) -> Contest:
    if not contest.pairs:
        return contest
    count = len(contest.means)
    means, winner = [], None
    for mean in contest.means:
        deltas = [
            pair.delta if pair.second == mean.evaluation else -pair.delta
            for pair in contest.pairs
            if pair.told_apart and mean.evaluation in (pair.first, pair.second)
        ]
        better, worse = sum(delta > 0 for delta in deltas), sum(delta < 0 for delta in deltas)
        means.append(replace(mean, ranks=(1 + worse, count - better)))
        if better == count - 1:
            winner = mean.evaluation
    return replace(contest, means=tuple(means), winner=winner)
