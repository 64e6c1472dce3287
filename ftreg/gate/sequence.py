"""Rows that are judged as they come: their order, and statistics that are valid at all times.

The order is a permutation derived from the dataset's digest. The rows seen so far are therefore a
random sample, and nobody can choose a lucky order.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ftreg.config.policy import GatePolicy, collapse_rule
from ftreg.errors import UsageError
from ftreg.gate.aligned import AlignedScores, Positions, at_worst, collapsed, lost_and_won, some
from ftreg.gate.betting import Stream, lower_bound, p_value
from ftreg.gate.interval import Interval
from ftreg.gate.units import DECIMALS, Floats
from ftreg.gate.verdict import BETTING, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The order in which examples were evaluated, and what is known of the others."""

    ids: Sequence[str]
    """The examples so far, with complete clusters. Critical ones that were evaluated before their
    turn are left out until it comes, because a mean over them is not a mean over random
    examples."""
    cohorts: Mapping[str, int] | None = None
    """`tag=value` to its number of examples in the complete dataset; None means that the cohorts
    given to `compare` are complete. The tests to correct for must not depend on what was seen."""
    largest_cluster: int | None = None
    """Size of the largest cluster in the complete dataset; None uses that given to `compare`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An `Order` as positions in the table of scores.

    `all` has those of all examples so far, in order, and `cohorts` those of each cohort; `totals`
    are the cohorts' sizes in the complete dataset, and `largest` is the size of the largest
    cluster.
    """

    all: Positions
    cohorts: Mapping[str, Positions]
    totals: Mapping[str, int]
    largest: int


def seeded_order(
    ids: Iterable[str], clusters: Mapping[str, str] | None = None, *, digest: str
) -> list[str]:
    """Return examples in the order in which they are evaluated, clusters together.

    They are sorted by the SHA-256 of the dataset's digest with a cluster's or an example's name:
    each dataset has its own order, and a part of it has the same.

    Args:
        ids: the examples, in any order.
        clusters: example id to its cluster, if the dataset has clusters.
        digest: the dataset's.
    """

    def drawn(name: str) -> str:
        return hashlib.sha256(f"{digest}\0{name}".encode()).hexdigest()

    groups = clusters or {}
    return sorted(ids, key=lambda name: (drawn(groups.get(name, name)), drawn(name)))


def read_order(
    order: Order,
    new: AlignedScores,
    members: Mapping[str, Positions],
    clusters: Mapping[str, str] | None,
) -> Seen:
    """Check an order against the available scores.

    Args:
        order: as given to `compare`.
        new: the candidate's scores.
        members: the positions of each cohort, as far as they are known.
        clusters: example id to cluster, if examples are not independent.

    Raises:
        UsageError: an example is named twice or does not exist, or a cluster is split.
    """
    places = {name: position for position, name in enumerate(new.ids)}
    if unknown := [name for name in order.ids if name not in places]:
        raise UsageError(f"order names examples that neither side has: {some(unknown)}")
    if len(set(order.ids)) < len(order.ids):
        raise UsageError("order names an example twice")
    names = [clusters.get(name) for name in order.ids] if clusters else []
    starts = [name for name, last in zip(names, [None, *names], strict=False) if name != last]
    if len(starts) > len(set(starts)):
        raise UsageError("order tears a cluster apart; name its examples one after the other")
    positions = np.array([places[name] for name in order.ids], dtype=np.int64)
    totals = order.cohorts
    if totals is None:
        totals = {name: len(found) for name, found in members.items()}
    inside = {
        name: positions[np.isin(positions, members[name])] if name in members else positions[:0]
        for name in sorted({*members, *totals})
    }
    largest = order.largest_cluster
    if largest is None and clusters:
        counts = np.unique(list(clusters.values()), return_counts=True)[1]
        largest = int(counts.max())
    return Seen(positions, inside, totals, largest or 1)


def with_betting(
    row: Row,
    old: Floats,
    new: Floats,
    policy: GatePolicy,
    *,
    clusters: Positions | None,
    largest: int,
) -> Row:
    """Return the row with its interval and p values, which are valid whenever one stops.

    Args:
        row: with its counts and means.
        old: shape (examples of the slice,), in order of arrival, NaN if there is no score.
        new: the same for the candidate.
        policy: confidence and the definition of a collapse.
        clusters: shape (examples of the slice,), or None.
        largest: size of the largest possible cluster.
    """
    deltas = np.round(new - old, DECIMALS)
    stream = _stream(deltas, clusters, largest)
    margin, level = row.margin, (1 - policy.confidence) / 2
    low = lower_bound(stream, bound=-margin, gap=margin, level=level)
    high = -lower_bound(-stream, bound=margin, gap=margin, level=level)
    flags = collapsed(old, new, drop=collapse_rule(policy).drop)
    fell = _any_of(flags.astype(np.float64), clusters)
    row = replace(
        row,
        method=BETTING,
        interval=Interval(low, high),
        p_value=p_value(-stream, bound=0.0, gap=margin),
        p_beyond=p_value(-stream, bound=margin, gap=margin),
        collapsed=int(fell.sum()),
        collapsed_at_most=_share_at_most(fell, policy),
    )
    if not np.any(lost_and_won(old, new)):
        return row
    filled_old, filled_new = at_worst(old, new)
    worst = np.round(filled_new - filled_old, DECIMALS)
    lowest = lower_bound(_stream(worst, clusters, largest), bound=-margin, gap=margin, level=level)
    return replace(row, delta_at_worst=float(np.nanmean(worst)), low_at_worst=min(low, lowest))


def mean_bounds(
    scores: Floats,
    *,
    floor: float,
    gap: float,
    level: float,
    clusters: Positions | None,
    largest: int,
) -> Interval:
    """Return the anytime-valid interval of a mean score.

    Args:
        scores: shape (examples,), in order of arrival; none missing.
        floor: the mean that matters, in [0, 1].
        gap: the distance from it that should be detected.
        level: error probability of each end.
        clusters: shape (examples,), or None.
        largest: examples that a cluster may have.
    """
    stream = _stream(2 * scores - 1, clusters, largest)
    low = lower_bound(stream, bound=2 * floor - 1, gap=2 * gap, level=level)
    high = -lower_bound(-stream, bound=1 - 2 * floor, gap=2 * gap, level=level)
    return Interval((1 + low) / 2, (1 + high) / 2)


def _share_at_most(fell: Floats, policy: GatePolicy) -> float:
    """Return the upper bound of the share of collapsed units."""
    share = collapse_rule(policy).share
    stream = Stream(1 - 2 * fell, np.ones(len(fell)))
    level = 1 - policy.confidence
    return (1 - lower_bound(stream, bound=1 - 2 * share, gap=2 * share, level=level)) / 2


def _stream(values: Floats, clusters: Positions | None, largest: int) -> Stream:
    """Group the values that exist into units."""
    there = ~np.isnan(values)
    if clusters is None:
        return Stream(values[there], np.ones(int(there.sum())))
    starts = _starts(clusters)
    if not len(starts):
        return Stream(np.zeros(0), np.zeros(0))
    sums = np.add.reduceat(np.where(there, values, 0.0), starts)
    sizes = np.add.reduceat(there.astype(np.float64), starts)
    return Stream(np.round(sums, DECIMALS) / largest, sizes / largest)


def _any_of(flags: Floats, clusters: Positions | None) -> Floats:
    """Return 1 for each unit with an example of 1."""
    if clusters is None or not len(flags):
        return flags
    return np.asarray(np.maximum.reduceat(flags, _starts(clusters)))


def _starts(clusters: Positions) -> Positions:
    """Return where each cluster begins; its examples are consecutive."""
    return np.flatnonzero(np.diff(clusters, prepend=-1))
