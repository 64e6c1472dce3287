"""Compare a candidate with its baseline, example by example, and decide."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ftreg.config.policy import GatePolicy
from ftreg.errors import UsageError, did_you_mean
from ftreg.gate import decide
from ftreg.gate.aligned import (
    AlignedScores,
    Positions,
    all_ids,
    cluster_numbers,
    mean_over_seeds,
    read_side,
    slices,
    some,
)
from ftreg.gate.budgets import CostRow, Costs, hold_to_budgets, over_budget
from ftreg.gate.critical import critical_drops, unscored_critical
from ftreg.gate.floors import below_floors
from ftreg.gate.measure import is_constant, measure_rows, paired_units
from ftreg.gate.planning import planned
from ftreg.gate.sequence import Order, Seen, read_order
from ftreg.gate.spending import Looks, pass_policy, spent
from ftreg.gate.units import Units
from ftreg.gate.verdict import PRIMARY, Row, Verdict
from ftreg.records.samples import Scores

# Nobody reads the needed examples of very many rows, and each row takes as long as a verdict.
_PLANNED = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Scores on items asked in addition to the examples: scorer to item to score.

    Items have no cohorts or clusters, and none is critical.
    """

    baseline: Scores
    candidate: Scores
    anchor: Scores | None = None


def compare(
    baseline: Scores,
    candidate: Scores,
    policy: GatePolicy | None = None,
    *,
    cohorts: Mapping[str, Mapping[str, str]] | None = None,
    critical: Collection[str] = (),
    clusters: Mapping[str, str] | None = None,
    anchor: Scores | None = None,
    leaked: float | None = None,
    levels: Mapping[str, int | None] | None = None,
    looks: Looks | None = None,
    order: Order | None = None,
    plan: bool = True,
    probes: Probes | None = None,
    costs: Costs | None = None,
    noise: Mapping[str, float] | None = None,
) -> Verdict:
    """Compare a candidate's scores with its baseline's, paired by example id.

    The order of the mappings does not matter, and the same input gives the same verdict.

    Args:
        baseline: scorer to example id to score in [0, 1] or None, or to a list with one per seed.
        candidate: the same, of the candidate.
        policy: when a candidate passes; None uses the defaults.
        cohorts: example id to its tags.
        critical: ids of examples that must not get worse.
        clusters: example id to the cluster it belongs to, where examples are not independent.
        anchor: scores of a pinned older baseline, against slow drift.
        leaked: share of the examples that the candidate was trained on; None if unknown.
        levels: scorer to its number of distinct scores, None for any; guessed if absent.
        looks: how often these examples were looked at before; None means this is the first look.
        order: the order in which examples came, for a verdict by bets, valid whenever one stops.
        plan: whether rows say how many examples would decide, which takes longer; not with bets.
        probes: scores of further scorers, each on its own items; not with `order`.
        costs: what answers cost; None if unknown.
        noise: scorer to the standard deviation of an example's change when generated again.

    Raises:
        UsageError: a score is not a number in [0, 1], an example lacks a cluster or a seed, a
            scorer or cohort of the policy does not exist, or an order does not fit the seeds, the
            policy or the examples.
    """
    policy, seen = policy or GatePolicy(), looks or Looks()
    ids = all_ids(baseline, candidate)
    old, new, oldest = _sides(baseline, candidate, anchor, ids, levels or {})
    _refuse_order(order, policy, (old, new, oldest), critical)
    how = _how(policy, seen, order, new, slices(ids, cohorts), clusters)
    tables = [_Table(old, new, oldest, how), *_probe_tables(probes, how, levels or {})]
    _check_names(policy, tables, how.members)
    rows = _settled(tables, policy, looks=seen, plan=plan and order is None)
    drops, fallen = critical_drops(old, new, critical, policy, noise=noise or {})
    spent_on, low, unsure = _held_to_limits(tables, policy, rows, costs, clusters=clusters)
    found = decide.regressions(rows, policy) + decide.critical_regressions(drops) + low
    doubts = decide.doubts(rows) + fallen + unscored_critical(old, new, critical) + unsure
    doubts += decide.nothing_compared(rows, anchored=anchor is not None)
    doubts += decide.leakage(leaked, policy) + decide.exhaustion(policy, seen)
    verdict = _verdict(rows, found, doubts, policy, looks=seen)
    return replace(verdict, critical=tuple(drops), looks=looks, costs=tuple(spent_on))


def _sides(
    baseline: Scores,
    candidate: Scores,
    anchor: Scores | None,
    ids: Sequence[str],
    levels: Mapping[str, int | None],
) -> tuple[AlignedScores, AlignedScores, AlignedScores | None]:
    return (
        replace(read_side(baseline, ids, side="baseline"), levels=levels),
        read_side(candidate, ids, side="candidate"),
        None if anchor is None else read_side(anchor, ids, side="anchor"),
    )


def _settled(
    tables: Sequence["_Table"], policy: GatePolicy, *, looks: Looks, plan: bool
) -> list[Row]:
    """Return the rows of all tables, which are one family of tests."""
    rows = [row for table in tables for row in _measured(table)]
    fixed = set().union(*(table.scorers for table in tables if table.fixed))
    rows = decide.settle(rows, policy, strict=tables[0].how.policy, looks=looks, fixed=fixed)
    if plan:
        rows = _planned(rows, tables, drop_level=looks.drop_levels(1 - policy.confidence))
    return rows


def _verdict(
    rows: Sequence[Row],
    found: Sequence[str],
    doubts: Sequence[str],
    policy: GatePolicy,
    *,
    looks: Looks,
) -> Verdict:
    """Return the verdict that follows from regressions and doubts."""
    return Verdict(
        outcome="regression" if found else "undecided" if doubts else "pass",
        rows=tuple(rows),
        reasons=tuple(found or doubts or [decide.summary(rows, policy)]),
        policy=policy.model_dump(mode="json"),
        level=spent(policy, looks),
    )


@dataclass(frozen=True, slots=True)
class _How:
    """The settings by which rows are measured, for every scorer.

    A pass must meet the policy adjusted for all looks; a regression the policy itself.
    """

    policy: GatePolicy
    members: Mapping[str, Positions]
    clusters: Positions | None
    sequence: Seen | None


def _how(
    policy: GatePolicy,
    looks: Looks,
    order: Order | None,
    new: AlignedScores,
    members: Mapping[str, Positions],
    clusters: Mapping[str, str] | None,
) -> _How:
    strict = pass_policy(policy, looks)
    if order is None:
        return _How(strict, members, cluster_numbers(new.ids, clusters), None)
    sequence = read_order(order, new, members, clusters)
    numbers = cluster_numbers(new.ids, clusters, needed=order.ids)
    return _How(strict, sequence.cohorts, numbers, sequence)


@dataclass(frozen=True, slots=True)
class _Table:
    """Scorers with the same examples: both sides, the anchor, and how to measure them."""

    old: AlignedScores
    new: AlignedScores
    anchor: AlignedScores | None
    how: _How
    fixed: bool = False
    """Whether its items are complete, so that none is unseen: those of a probe."""

    @property
    def scorers(self) -> set[str]:
        """The scorers of either side."""
        return {*self.old.columns, *self.new.columns}


def _probe_tables(
    probes: Probes | None, how: _How, levels: Mapping[str, int | None]
) -> list[_Table]:
    """Return a table for each probe, since each has its own items."""
    if probes is None:
        return []
    tables = []
    own = replace(how, members={}, clusters=None)
    for scorer in sorted({*probes.baseline, *probes.candidate}):
        old, new, oldest = (
            {name: column for name, column in (side or {}).items() if name == scorer}
            for side in (probes.baseline, probes.candidate, probes.anchor)
        )
        sides = _sides(old, new, oldest or None, all_ids(old, new), levels)
        tables.append(_Table(*sides, own, fixed=True))
    return tables


def _held_to_limits(
    tables: Sequence[_Table],
    policy: GatePolicy,
    rows: Sequence[Row],
    costs: Costs | None,
    *,
    clusters: Mapping[str, str] | None,
) -> tuple[list[CostRow], list[str], list[str]]:
    """Return the rows of budgets, and sentences for budgets and floors that are or may be broken.

    Each table is checked against its scorers' floors, and the first against those of no table.
    """
    level = decide.limit_level(rows, policy, strict=tables[0].how.policy)
    spent_on = hold_to_budgets(costs, policy, level=level, clusters=clusters)
    broken, doubtful = [], []
    elsewhere = set().union(*(table.scorers for table in tables[1:]))
    for place, table in enumerate(tables):
        floors = {
            scorer: floor
            for scorer, floor in policy.floors.items()
            if (scorer not in elsewhere if place == 0 else scorer in table.scorers)
        }
        held = policy.model_copy(update={"floors": floors})
        how = table.how
        found = below_floors(
            table.new, held, level=level, clusters=how.clusters, sequence=how.sequence
        )
        broken += found[0]
        doubtful += found[1]
    dear, open_ = over_budget(spent_on)
    return spent_on, broken + dear, doubtful + open_


def _measured(table: _Table) -> list[Row]:
    """Measure every scorer, over all examples and in each cohort, then against the anchor."""
    old, new, anchor, how = table.old, table.new, table.anchor, table.how
    shared = sorted(old.columns.keys() & new.columns.keys())
    rows, unseen = [], not table.fixed
    for scorer in shared:
        rows += _rows(scorer, old, new, how, unseen=unseen)
    for scorer in sorted(old.columns.keys() ^ new.columns.keys()):
        rows.append(_one_sided(scorer, old, new, how.policy))
    for scorer in shared if anchor is not None else ():
        if anchor is not None and scorer in anchor.columns:
            oldest = replace(anchor, levels=old.levels)
            rows += _rows(scorer, oldest, new, how, against="anchor", unseen=unseen)
    return rows


def _refuse_order(
    order: Order | None,
    policy: GatePolicy,
    sides: tuple[AlignedScores, AlignedScores, AlignedScores | None],
    critical: Collection[str],
) -> None:
    """If there is an order, refuse what has no anytime-valid statement."""
    if order is None:
        return
    if policy.mode == "threshold":
        raise UsageError(
            "mode threshold knows no error rates, which early stopping would raise; set mode to "
            "paired, or evaluate all examples"
        )
    columns = [column for side in sides if side for column in side.columns.values()]
    if any(column.ndim > 1 for column in columns):
        raise UsageError(
            "several training seeds cannot be judged before all examples are evaluated; compare "
            "one seed with one, or evaluate all examples"
        )
    new = sides[1]
    scored = ~np.all([np.isnan(column) for column in new.columns.values()], axis=0)
    places = np.flatnonzero(scored).tolist()
    known = {*order.ids, *critical}
    rest = [new.ids[place] for place in places if new.ids[place] not in known]
    if rest:
        raise UsageError(f"order lacks examples of the candidate: {some(rest)}")


def _check_names(
    policy: GatePolicy, tables: Sequence[_Table], members: Mapping[str, Positions]
) -> None:
    scorers = sorted(set().union(*(table.scorers for table in tables)))
    for key, named in (
        ("margins", policy.margins),
        ("floors", policy.floors),
    ):
        for name in named if scorers else ():
            if name not in scorers:
                raise UsageError(
                    f"{key} names the scorer {name!r}, which no side has"
                    f"{did_you_mean(name, scorers)}"
                )
    tags = {cohort.partition("=")[0] for cohort in members}
    for name in policy.cohorts if policy.cohorts != "all" else ():
        if name not in members and name not in tags:
            raise UsageError(
                f"cohorts names {name!r}, but no example has that tag or value"
                f"{did_you_mean(name, [*members, *tags])}"
            )


def _rows(
    scorer: str,
    old: AlignedScores,
    new: AlignedScores,
    how: _How,
    *,
    against: Literal["baseline", "anchor"] = "baseline",
    unseen: bool,
) -> list[Row]:
    """Measure one scorer on all examples and in each cohort."""
    before, after = old.columns[scorer], new.columns[scorer]
    whole = np.arange(len(before)) if how.sequence is None else how.sequence.all
    return measure_rows(
        before,
        after,
        how.policy,
        scorer=scorer,
        slices={PRIMARY: whole, **how.members},
        against=against,
        clusters=how.clusters,
        unseen=unseen,
        constant=is_constant(before, after),
        sequence=how.sequence,
    )


def _planned(
    rows: Sequence[Row],
    tables: Sequence[_Table],
    *,
    drop_level: Mapping[str, float],
) -> list[Row]:
    """Return the rows with what more examples would show, for the first that must pass."""
    asked: dict[int, Units] = {}
    for place, row in enumerate(rows):
        table = next((each for each in tables if row.scorer in each.scorers), None)
        # A probe has no further items.
        if len(asked) == _PLANNED or table is None or table.fixed:
            continue
        if not row.gated or row.against != "baseline" or row.interval is None or row.units < 2:
            continue
        how = table.how
        before, after = table.old.columns[row.scorer], table.new.columns[row.scorer]
        positions = how.members.get(row.cohort, np.arange(len(before)))
        asked[place] = paired_units(
            before[positions],
            after[positions],
            clusters=None if how.clusters is None else how.clusters[positions],
        )
    found = planned(
        [(rows[place], units) for place, units in asked.items()],
        policy=tables[0].how.policy,
        drop_level=drop_level["baseline"],
    )
    plans = dict(zip(asked, found, strict=True))
    return [plans.get(place, row) for place, row in enumerate(rows)]


def _one_sided(scorer: str, old: AlignedScores, new: AlignedScores, policy: GatePolicy) -> Row:
    """Return the row of a scorer that only one side has."""
    examples = len(old.ids)
    present = old if scorer in old.columns else new
    absent = "candidate" if present is old else "baseline"
    unscored = int(np.isnan(mean_over_seeds(present.columns[scorer])).sum())
    return Row(
        scorer=scorer,
        cohort=PRIMARY,
        gated=True,
        examples=examples,
        n=0,
        units=0,
        missing_baseline=unscored if present is old else examples,
        missing_candidate=unscored if present is new else examples,
        margin=policy.margin_for(scorer),
        note=f"the {absent} has no such scorer",
    )
