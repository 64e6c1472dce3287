"""The rows of a comparison: one scorer's statistics on its slices, before any decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ftreg.config.policy import GatePolicy, collapse_rule
from ftreg.gate import seeds
from ftreg.gate.aligned import (
    Positions,
    at_worst,
    collapsed,
    lost_and_won,
    mean_over_seeds,
    seeds_of,
)
from ftreg.gate.interval import Estimate, Guards, estimate_intervals, p_values
from ftreg.gate.permutation import sign_flip
from ftreg.gate.sequence import Seen, with_betting
from ftreg.gate.units import DECIMALS, Floats, Units, units_of
from ftreg.gate.verdict import PRIMARY, Row


@dataclass(frozen=True, slots=True)
class _Slice:
    """The scores of one slice, shape (examples,) or (examples, seeds), NaN if missing.

    `old` and `new` are the sides' means over their seeds, and `both` marks the examples that have
    one on both sides.
    """

    cohort: str
    baseline: Floats
    candidate: Floats
    clusters: Positions | None
    old: Floats
    new: Floats
    both: NDArray[np.bool_]

    @classmethod
    def of(
        cls, cohort: str, baseline: Floats, candidate: Floats, clusters: Positions | None
    ) -> "_Slice":
        """Take the scores of both sides and the examples' clusters."""
        old, new = mean_over_seeds(baseline), mean_over_seeds(candidate)
        both = ~(np.isnan(old) | np.isnan(new))
        return cls(cohort, baseline, candidate, clusters, old, new, both)

    @property
    def groups(self) -> Positions | None:
        """The clusters of the examples with both scores."""
        return None if self.clusters is None else self.clusters[self.both]


def measure_rows(
    baseline: Floats,
    candidate: Floats,
    policy: GatePolicy,
    *,
    scorer: str,
    slices: Mapping[str, Positions],
    against: Literal["baseline", "anchor"] = "baseline",
    clusters: Positions | None = None,
    unseen: bool = True,
    constant: bool = False,
    sequence: Seen | None = None,
) -> list[Row]:
    """Measure one scorer on each slice; outcomes stay undecided.

    Args:
        baseline: shape (examples,), or (examples, seeds); NaN if there is no score. An example
            counts if every seed of both sides has a score for it.
        candidate: the same examples.
        policy: confidence and margins are read.
        scorer: its name.
        slices: a cohort's name to the positions of its examples.
        against: whose scores `baseline` are.
        clusters: shape (examples,), or None.
        unseen: whether to account for unseen examples that lose or gain everything; else no example
            is assumed to change by more than those seen.
        constant: whether all of its scores, on all examples and both sides, are the same.
        sequence: given if the examples are in order of arrival and more may come; the results are
            then valid at all times.
    """
    rows: list[Row] = []
    measured = []
    for cohort, positions in slices.items():
        slice_ = _Slice.of(
            cohort,
            baseline[positions],
            candidate[positions],
            None if clusters is None else clusters[positions],
        )
        units = _units(slice_)
        row = _counted(slice_, units, policy, scorer=scorer, against=against, constant=constant)
        if sequence is not None:
            row = _in_sequence(row, slice_, units, policy, sequence=sequence)
        elif row.n > 0 and (cohort == PRIMARY or row.n >= policy.min_cohort):
            measured.append((len(rows), slice_, units))
        rows.append(row)
    found = _with_statistics(
        [(rows[at], units) for at, _, units in measured], policy, unseen=unseen
    )
    for (at, slice_, units), row in zip(measured, found, strict=True):
        rows[at] = _completed(row, slice_, units, policy)
    return rows


def _completed(row: Row, slice_: _Slice, units: Units, policy: GatePolicy) -> Row:
    """Return the row with collapses, the noise of seeds, and what missing scores may hide."""
    both = slice_.both
    row = _with_collapsed(row, slice_, policy)
    if units.count < 2:
        return row
    noise = seeds.seed_noise(slice_.baseline[both], slice_.candidate[both], units, slice_.groups)
    if noise is not None:
        row = _with_seeds(row, units, noise, policy)
    one_side = np.isnan(slice_.old) != np.isnan(slice_.new)
    return _at_worst(row, slice_, policy) if one_side.any() else row


def _in_sequence(
    row: Row, slice_: _Slice, units: Units, policy: GatePolicy, *, sequence: Seen
) -> Row:
    """Return the row with statistics that are valid at all times.

    Which cohorts are tested depends on the complete dataset: depending on the examples so far would
    be a choice made after looking.
    """
    total = sequence.totals.get(row.cohort, 0)
    if row.cohort != PRIMARY and total < policy.min_cohort:
        few = f"{total} examples, fewer than min_cohort {policy.min_cohort}"
        return replace(row, note=f"too small to gate: {few}")
    row = replace(row, note="nothing to compare" if row.n == 0 else "")
    found = with_betting(
        row,
        slice_.old,
        slice_.new,
        policy,
        clusters=slice_.clusters,
        largest=sequence.largest,
    )
    return replace(found, standard_error=units.standard_error())


def _with_collapsed(row: Row, slice_: _Slice, policy: GatePolicy) -> Row:
    """Return the row with its collapsed units; a missing candidate score is a collapse."""
    known = ~np.isnan(slice_.old)
    drop = collapse_rule(policy).drop
    fell = collapsed(slice_.old[known], slice_.new[known], drop=drop)
    count, total = int(fell.sum()), len(fell)
    if slice_.clusters is not None:
        groups = slice_.clusters[known]
        count, total = len(set(groups[fell].tolist())), len(set(groups.tolist()))
    row = replace(row, collapsed=count)
    if policy.collapse is None:
        return row
    from ftreg.gate.stats import share_at_most

    most = share_at_most(count, total=total, level=1 - policy.confidence)
    return replace(row, collapsed_at_most=most)


def _at_worst(row: Row, slice_: _Slice, policy: GatePolicy) -> Row:
    """Return the row with what the missing scores may hide.

    A score is often missing because the output was bad, so missing scores are not assumed to be
    like the others.
    """
    assert row.interval is not None and row.delta is not None
    lost, won = lost_and_won(slice_.old, slice_.new)
    filled = at_worst(slice_.old, slice_.new)
    units = _units(_Slice.of(slice_.cohort, *filled, slice_.clusters))
    (estimate,) = _intervals(Guards.of([units]), policy)
    return replace(
        row,
        delta_at_worst=units.mean,
        # The seeds' part of the interval uses the scores that exist.
        low_at_worst=min(estimate.interval.low, row.interval.low + units.mean - row.delta),
        p_unscored=sign_flip(units_of(won.astype(np.float64) - lost, slice_.clusters).sums),
    )


def _intervals(guards: Guards, policy: GatePolicy) -> list[Estimate]:
    """Return the intervals that a policy decides by: false passes are as rare as it promises."""
    error = 1 - policy.confidence
    return estimate_intervals(guards, confidence=policy.confidence, level=error)


def _counted(
    slice_: _Slice,
    units: Units,
    policy: GatePolicy,
    *,
    scorer: str,
    against: Literal["baseline", "anchor"],
    constant: bool,
) -> Row:
    """Return the row with its counts, its margin, and the means over the paired examples."""
    primary, anchored = slice_.cohort == PRIMARY, against == "anchor"
    old, new, both = slice_.old, slice_.new, slice_.both
    n = int(both.sum())
    return Row(
        scorer=scorer,
        cohort=slice_.cohort,
        against=against,
        # All looks together are to be within the anchor's margin, which each has to prove.
        gated=(policy.spend_error or not anchored) and (primary or policy.requires(slice_.cohort)),
        examples=len(both),
        n=n,
        units=units.count,
        effective_units=units.effective if n else None,
        missing_baseline=int(np.isnan(old).sum()),
        missing_candidate=int(np.isnan(new).sum()),
        baseline_mean=float(old[both].mean()) if n else None,
        candidate_mean=float(new[both].mean()) if n else None,
        delta=units.mean if n else None,
        baseline_seeds=seeds_of(slice_.baseline),
        candidate_seeds=seeds_of(slice_.candidate),
        margin=policy.anchor_margin if anchored else policy.margin_for(scorer),
        constant=constant,
        note=f"too small to gate: {n} examples, fewer than min_cohort {policy.min_cohort}"
        if n
        else "nothing to compare",
    )


def _with_statistics(
    measured: Sequence[tuple[Row, Units]], policy: GatePolicy, *, unseen: bool
) -> list[Row]:
    """Return the rows with their intervals and p values, as if there were one seed."""
    rows = [units for _, units in measured]
    seen = max((float(np.abs(units.values()).max()) for units in rows), default=0.0)
    guards = Guards.of(rows, worst=1.0 if unseen or not seen else seen)
    estimates = _intervals(guards, policy)
    tests = p_values(guards, margins=[row.margin for row, _ in measured])
    return [
        replace(
            row,
            interval=estimate.interval,
            method=estimate.method,
            standard_error=units.standard_error(),
            p_value=test.exchanged,
            p_guarded=test.guarded,
            p_beyond=test.beyond,
        )
        for (row, units), estimate, test in zip(measured, estimates, tests, strict=True)
    ]


def _with_seeds(row: Row, units: Units, noise: seeds.SeedNoise, policy: GatePolicy) -> Row:
    """Return the row with the seeds' noise in its interval and p values."""
    assert row.interval is not None and row.p_beyond is not None
    interval = seeds.widen(row.interval, units.mean, noise, confidence=policy.confidence)
    return replace(
        row,
        interval=interval,
        method=f"{row.method}; seeds by t",
        standard_error=noise.standard_error,
        example_error=noise.example_error,
        seed_error=noise.seed_error,
        baseline_seed_deviation=noise.deviations[0],
        candidate_seed_deviation=noise.deviations[1],
        p_seeds=seeds.seeds_p_value(units.mean, noise),
        p_beyond=max(row.p_beyond, seeds.seeds_p_value(units.mean, noise, margin=row.margin)),
    )


def is_constant(*sides: Floats) -> bool:
    """Return whether all scores of some sides are the same, with at least two."""
    together = np.concatenate([side.ravel() for side in sides])
    found = together[~np.isnan(together)]
    return len(found) > 1 and float(np.ptp(found)) == 0


def paired_units(baseline: Floats, candidate: Floats, *, clusters: Positions | None) -> Units:
    """Return the paired deltas of a slice by unit, as used for its row.

    Args:
        baseline: the scores of the slice, as in `measure_rows`.
        candidate: the same examples.
        clusters: shape (examples of the slice,), or None.
    """
    return _units(_Slice.of(PRIMARY, baseline, candidate, clusters))


def _units(slice_: _Slice) -> Units:
    """Return the paired deltas of a slice by unit."""
    both = slice_.both
    return units_of(np.round((slice_.new - slice_.old)[both], DECIMALS), slice_.groups)
