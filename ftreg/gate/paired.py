"""Compare a candidate with its baseline, example by example, and decide."""

from collections.abc import Collection, Mapping, Sequence
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
)
from ftreg.gate.critical import critical_drops, unscored_critical
from ftreg.gate.floors import below_floors
from ftreg.gate.measure import is_constant, measure_rows, scale_between, with_plan
from ftreg.gate.verdict import PRIMARY, Outcome, Row, Verdict
from ftreg.records.samples import Scores

# Of very many rows nobody reads how many examples each needs, and each takes as long as a verdict.
_PLANNED = 24


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
    plan: bool = True,
) -> Verdict:
    """Hold a candidate's scores against its baseline's, paired by example id.

    The order of the mappings does not matter, and the same input gives the same verdict.

    Args:
        baseline: scorer to example id to score in [0, 1], or None where it could not be computed;
            where several seeds were trained, a list of these, one a seed.
        candidate: the same, of the candidate.
        policy: when a candidate passes; None takes every default.
        cohorts: example id to its tags.
        critical: ids of examples that may not get worse.
        clusters: example id to the cluster it belongs to, where examples are not independent.
        anchor: scores of a pinned older baseline, against slow drift.
        leaked: share of the examples that the candidate was trained on; None if not known.
        plan: whether rows say what their examples can show and how many would decide, which costs
            several times what the verdict does.

    Raises:
        UsageError: a score is no number in [0, 1], an example lacks a cluster or a seed, or the
            policy names a scorer or cohort that is not there.
    """
    policy = policy or GatePolicy()
    ids = all_ids(baseline, candidate)
    old = read_side(baseline, ids, side="baseline")
    new = read_side(candidate, ids, side="candidate")
    members = slices(ids, cohorts)
    numbers = cluster_numbers(ids, clusters)
    _check_names(policy, old, new, members)

    oldest = None if anchor is None else read_side(anchor, ids, side="anchor")
    rows = _judged(old, new, oldest, policy, members=members, clusters=numbers, plan=plan)
    drops = critical_drops(old, new, critical, policy)
    broken, doubtful = below_floors(new, policy, numbers)
    reasons = decide.regressions(rows, policy) + decide.critical_regressions(drops) + broken
    outcome: Outcome = "regression"
    if not reasons:
        doubts = decide.doubts(rows) + unscored_critical(old, new, critical) + doubtful
        doubts += _nothing_compared(rows, anchored=oldest is not None)
        doubts += decide.leakage(leaked, policy)
        outcome = "undecided" if doubts else "pass"
        reasons = doubts or [decide.summary(rows)]
    return Verdict(
        outcome=outcome,
        rows=tuple(rows),
        reasons=tuple(reasons),
        critical=tuple(drops),
        policy=policy.model_dump(mode="json"),
    )


def _nothing_compared(rows: Sequence[Row], *, anchored: bool) -> list[str]:
    """Return a sentence for the anchor, and for the baseline, if no score could be compared."""
    found = []
    if anchored and not any(row.n for row in rows if row.against == "anchor"):
        found.append("the anchor: it has no score in common with the candidate")
    if not any(row.gated for row in rows):
        found.append("nothing to compare: neither side has a scorer")
    return found


def _judged(
    old: AlignedScores,
    new: AlignedScores,
    anchor: AlignedScores | None,
    policy: GatePolicy,
    *,
    members: Mapping[str, Positions],
    clusters: Positions | None,
    plan: bool,
) -> list[Row]:
    """Return the rows with their outcomes and, where asked, with what more examples would show."""
    rows = _measured(old, new, anchor, policy, members=members, clusters=clusters)
    rows = decide.settle(rows, policy)
    if plan:
        rows = _planned(rows, old, new, policy, members=members, clusters=clusters)
    return rows


def _measured(
    old: AlignedScores,
    new: AlignedScores,
    anchor: AlignedScores | None,
    policy: GatePolicy,
    *,
    members: Mapping[str, Positions],
    clusters: Positions | None,
) -> list[Row]:
    """Measure every scorer, over all examples and in each cohort, then against the anchor."""
    shared = sorted(old.columns.keys() & new.columns.keys())
    rows = []
    for scorer in shared:
        rows += _rows(scorer, old, new, policy, members=members, clusters=clusters)
    for scorer in sorted(old.columns.keys() ^ new.columns.keys()):
        rows.append(_lonely(scorer, old, new, policy))
    for scorer in shared if anchor is not None else ():
        if anchor is not None and scorer in anchor.columns:
            rows += _rows(
                scorer, anchor, new, policy, members=members, clusters=clusters, against="anchor"
            )
    return rows


def _check_names(
    policy: GatePolicy, old: AlignedScores, new: AlignedScores, members: Mapping[str, Positions]
) -> None:
    scorers = sorted(set(old.columns) | set(new.columns))
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
    policy: GatePolicy,
    *,
    members: Mapping[str, Positions],
    clusters: Positions | None,
    against: Literal["baseline", "anchor"] = "baseline",
) -> list[Row]:
    """Measure one scorer on all examples and in each cohort."""
    before, after = old.columns[scorer], new.columns[scorer]
    return measure_rows(
        before,
        after,
        policy,
        scorer=scorer,
        scale=scale_between(before, after),
        slices={PRIMARY: np.arange(len(before)), **members},
        against=against,
        clusters=clusters,
        unseen_gains=True,
        constant=is_constant(before, after),
    )


def _planned(
    rows: Sequence[Row],
    old: AlignedScores,
    new: AlignedScores,
    policy: GatePolicy,
    *,
    members: Mapping[str, Positions],
    clusters: Positions | None,
) -> list[Row]:
    """Return the rows with what more examples would show, of the first that must pass."""
    found, left = [], _PLANNED
    for row in rows:
        if row.gated and row.interval is not None and left:
            left -= 1
            before, after = old.columns[row.scorer], new.columns[row.scorer]
            positions = members.get(row.cohort, np.arange(len(before)))
            row = with_plan(
                row,
                before[positions],
                after[positions],
                policy,
                scale=scale_between(before, after),
                clusters=None if clusters is None else clusters[positions],
            )
        found.append(row)
    return found


def _lonely(scorer: str, old: AlignedScores, new: AlignedScores, policy: GatePolicy) -> Row:
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
