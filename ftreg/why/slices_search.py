"""Which groups of examples got worse: searched on one half of them, tested on the other.

Among a thousand groups, some always look worse. So the groups are ranked by the deltas of one half
of the examples, and the top few are tested, by the gate's tests, on the other half, which played no
part in the selection (Cox, "A note on data-splitting for the evaluation of significance levels",
Biometrika 62, 1975). Then the halves are swapped, and each direction gets half of the error
probability: a group that one half did not show has a second chance. The tests of one direction
share it by Holm's correction, with larger weights for groups that stood out more clearly in the
search: weights chosen on other data do not inflate the error (Genovese, Roeder and Wasserman,
"False discovery control with p-value weighting", Biometrika 93, 2006, section 2).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ftreg.config.policy import GatePolicy
from ftreg.gate.aligned import Positions, mean_over_seeds
from ftreg.gate.measure import measure_rows
from ftreg.gate.permutation import holm
from ftreg.gate.units import Floats, units_of
from ftreg.gate.verdict import Row
from ftreg.why.slices_described import DescribedSlice

LEAST_TESTED = 5
"""The fewest examples of a group in either half."""
# Groups tested per scorer, and how far a group must stand out in the search.
_MOST_TESTED = 8
_STANDS_OUT = 2.0
# How far the examples that a wider group adds must stand out.
_WIDENED = 3.0
# Beyond this the search is certain, and larger weights would only lose precision.
_MOST_WEIGHT = 1e9
_NORMAL = NormalDist()


def least_members(examples: int) -> int:
    """Return the fewest examples of a group: 1 % of all, and enough for either half."""
    return max(4 * LEAST_TESTED, math.ceil(examples / 100))


@dataclass(frozen=True, slots=True)
class Halves:
    """The positions of the examples for the search, and of those for the tests.

    Examples of one cluster are in one half.
    """

    search: Positions
    test: Positions

    @classmethod
    def of(cls, names: Sequence[str]) -> "Halves":
        """Split examples by the SHA-256 of their ids, or of their clusters' names.

        The same names give the same halves, whatever their order and their scores.
        """
        unique = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).digest())
        sizes = dict.fromkeys(unique, 0)
        for name in names:
            sizes[name] += 1
        searched: set[str] = set()
        filled = 0
        for name in unique:
            if 2 * (filled + sizes[name]) <= len(names):
                searched.add(name)
                filled += sizes[name]
        mask = np.array([name in searched for name in names], dtype=np.bool_)
        return cls(np.flatnonzero(mask), np.flatnonzero(~mask))

    def both_ways(self) -> "tuple[Halves, Halves]":
        """Return the halves as they are, and swapped."""
        return self, Halves(self.test, self.search)


@dataclass(frozen=True, slots=True)
class Sides:
    """One scorer's scores on both sides, shape (examples,) or (examples, seeds); NaN: missing."""

    scorer: str
    baseline: Floats
    candidate: Floats

    def deltas(self) -> Floats:
        """Candidate minus baseline, shape (examples,); NaN if one of them is missing."""
        return mean_over_seeds(self.candidate) - mean_over_seeds(self.baseline)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedSlice:
    """A group that stood out in the search on one half, and its test on the other half.

    `positions` are its examples in both halves, without those of the groups before it, which
    `without` names. `row` is measured on the test half. `p_value` is the larger of two: for a drop
    beyond the margin, and for doing worse than the other examples.
    """

    slice: DescribedSlice
    without: tuple[str, ...]
    positions: Positions
    searched_delta: float
    weight: float
    row: Row
    p_value: float
    p_adjusted: float = 1.0

    def is_much_of(self, other: "TestedSlice") -> bool:
        """Whether both are for the same scorer and have a Jaccard index of at least one half."""
        both = len(np.intersect1d(self.positions, other.positions, assume_unique=True))
        return self.row.scorer == other.row.scorer and 3 * both >= len(self.positions) + len(
            other.positions
        )


def find_worse(
    sides: Sequence[Sides],
    slices: Sequence[DescribedSlice],
    halves: Halves,
    policy: GatePolicy,
    *,
    clusters: Positions | None = None,
) -> list[TestedSlice]:
    """Return the groups that were tested, the clearest first; `p_adjusted` says which are worse.

    If none of the tested groups dropped by more than its margin, the probability that any is called
    worse at the level `1 - confidence` is at most that level. Of two largely overlapping groups,
    one from each direction, the clearer one is returned.

    Args:
        sides: one per scorer.
        slices: the groups to search.
        halves: of the examples.
        policy: provides the margins and the confidence.
        clusters: shape (examples,), the cluster number of each example, or None.
    """
    tested = [
        item
        for way in halves.both_ways()
        for item in _one_way(sides, slices, way, policy, clusters)
    ]
    told: list[TestedSlice] = []
    for item in sorted(tested, key=lambda item: (item.p_adjusted, item.p_value)):
        if not any(item.is_much_of(other) for other in told):
            told.append(item)
    return told


def _one_way(
    sides: Sequence[Sides],
    slices: Sequence[DescribedSlice],
    halves: Halves,
    policy: GatePolicy,
    clusters: Positions | None,
) -> list[TestedSlice]:
    """Search on one half and test on the other; adjusted for all tests, and for two directions."""
    tested = []
    for each in sides:
        for item in _search(each, slices, halves.search, margin=policy.margin_for(each.scorer)):
            measured = _test(each, item, halves, policy, clusters)
            tested += [] if measured is None else [measured]
    adjusted = holm([item.p_value for item in tested], [item.weight for item in tested])
    return [
        replace(item, p_adjusted=min(1.0, 2 * p)) for item, p in zip(tested, adjusted, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A group that stands out in the search."""

    slice: DescribedSlice
    without: tuple[DescribedSlice, ...]
    z: float
    delta: float


def _search(
    sides: Sides, slices: Sequence[DescribedSlice], half: Positions, *, margin: float
) -> list[_Candidate]:
    """Repeatedly select the group that stands out most, without the examples selected before."""
    deltas = sides.deltas()
    open_ = np.zeros(len(deltas), dtype=np.bool_)
    open_[half] = True
    open_ &= ~np.isnan(deltas)
    owners = np.repeat(np.arange(len(slices)), [len(item.positions) for item in slices])
    members = np.concatenate([item.positions for item in slices] or [np.empty(0, np.int64)])
    taken: list[_Candidate] = []
    while len(taken) < _MOST_TESTED and open_.sum() > 2 * LEAST_TESTED:
        z, means = _standing_out(deltas, open_, owners, members, count=len(slices))
        z[means >= -margin] = -np.inf
        if not len(z) or z.max() < _STANDS_OUT:
            break
        best = _widened(int(z.argmax()), deltas, open_, owners, members)
        before = tuple(
            item.slice
            for item in taken
            if np.isin(slices[best].positions, item.slice.positions).any()
        )
        taken.append(_Candidate(slices[best], before, float(z[best]), float(means[best])))
        open_[slices[best].positions] = False
    return taken


def _widened(
    best: int,
    deltas: Floats,
    open_: NDArray[np.bool_],
    owners: NDArray[np.int64],
    members: Positions,
) -> int:
    """Return a wider group whose other examples are worse too, or else the group itself.

    Some part of a group that dropped always dropped most.
    """
    count = int(owners.max()) + 1
    inside = np.zeros(len(deltas), dtype=np.bool_)
    inside[members[owners == best]] = True
    whole = np.bincount(owners, weights=inside[members], minlength=count) == inside.sum()
    z, _ = _standing_out(deltas, open_ & ~inside, owners, members, count=count)
    z[~whole] = -np.inf
    return int(z.argmax()) if z.max() >= _WIDENED else best


def _standing_out(
    deltas: Floats,
    open_: NDArray[np.bool_],
    owners: NDArray[np.int64],
    members: Positions,
    *,
    count: int,
) -> tuple[Floats, Floats]:
    """Return how many standard errors each group is worse than the rest, and its mean delta.

    A group of equal deltas gets the spread of all examples, or it would seem certain.
    """
    usable = open_[members]
    owners, values = owners[usable], deltas[members[usable]]
    sizes = np.bincount(owners, minlength=count).astype(np.float64)
    sums = np.bincount(owners, weights=values, minlength=count)
    squares = np.bincount(owners, weights=values**2, minlength=count)
    everyone = deltas[open_]
    rest = len(everyone) - sizes
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums / sizes
        spread = np.sqrt(np.maximum(squares / sizes - means**2, everyone.var()))
        below = (everyone.sum() - sums) / rest - means
        z = below / (spread * np.sqrt(1 / sizes + 1 / rest))
    z[(sizes < LEAST_TESTED) | (rest < LEAST_TESTED) | ~np.isfinite(z)] = -np.inf
    return z, np.where(sizes > 0, means, 0.0)


def _test(
    sides: Sides,
    item: _Candidate,
    halves: Halves,
    policy: GatePolicy,
    clusters: Positions | None,
) -> TestedSlice | None:
    """Measure a group on the test half; None if that has too few of its examples."""
    positions = item.slice.positions
    for other in item.without:
        positions = np.setdiff1d(positions, other.positions, assume_unique=True)
    mine = np.intersect1d(positions, halves.test, assume_unique=True)
    (row,) = measure_rows(
        sides.baseline,
        sides.candidate,
        policy.model_copy(update={"min_cohort": LEAST_TESTED}),
        scorer=sides.scorer,
        slices={item.slice.words: mine},
        clusters=clusters,
    )
    if row.p_beyond is None:
        return None
    others = np.setdiff1d(halves.test, mine, assume_unique=True)
    apart = _worse_than(sides.deltas(), mine, others, clusters)
    return TestedSlice(
        slice=item.slice,
        without=tuple(other.words for other in item.without),
        positions=positions,
        searched_delta=item.delta,
        weight=min(1 / max(_NORMAL.cdf(-item.z), 1 / _MOST_WEIGHT), _MOST_WEIGHT),
        row=row,
        p_value=max(row.p_beyond, apart),
    )


def _worse_than(
    deltas: Floats, mine: Positions, others: Positions, clusters: Positions | None
) -> float:
    """Return the one-sided p value of lower deltas than elsewhere: Welch, Biometrika 34 (1947)."""
    from ftreg.gate.stats import t_p_value

    sides = []
    for positions in (mine, others):
        there = positions[~np.isnan(deltas[positions])]
        units = units_of(deltas[there], None if clusters is None else clusters[there])
        if units.count < 2:
            return 1.0
        sides.append((units.mean, units.standard_error() ** 2, units.count - 1))
    (low, variance, freedom), (high, other, more) = sides
    if variance + other == 0:
        return 0.0 if low < high else 1.0
    degrees = (variance + other) ** 2 / (variance**2 / freedom + other**2 / more)
    return t_p_value((low - high) / math.sqrt(variance + other), degrees)
