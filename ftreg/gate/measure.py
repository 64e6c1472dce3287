"""One row of a comparison: the statistics of one scorer on one slice, before any decision."""

import hashlib
from dataclasses import replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ftreg.config.policy import Collapse, GatePolicy
from ftreg.gate import sample_size, seeds
from ftreg.gate.aligned import Positions, mean_over_seeds
from ftreg.gate.interval import (
    Scale,
    estimate_interval,
    largest_change,
    p_values,
    scale_of,
    worst_change,
)
from ftreg.gate.units import DECIMALS, Floats, Units, units_of
from ftreg.gate.verdict import PRIMARY, Row


def measure_row(
    baseline: Floats,
    candidate: Floats,
    policy: GatePolicy,
    *,
    scorer: str,
    scale: Scale,
    cohort: str = PRIMARY,
    against: Literal["baseline", "anchor"] = "baseline",
    clusters: Positions | None = None,
    seen: float = 0.0,
    unseen_gains: bool = False,
    constant: bool = False,
) -> Row:
    """Measure one scorer on one slice; the outcome is left undecided.

    Args:
        baseline: shape (examples of the slice,), or (examples of the slice, seeds); NaN where there
            is no score. An example counts if every seed of both sides has a score for it.
        candidate: the same examples.
        policy: confidence, margins, resamples and seed are read.
        scorer: its name.
        scale: how finely it scores.
        cohort: the slice.
        against: whose scores `baseline` are.
        clusters: shape (examples of the slice,), or None.
        seen: the largest change that the scorer is known to make elsewhere.
        unseen_gains: whether the p values of a drop reckon with examples that gain all they can,
            though none of the sample does; else with none that change more than those seen.
        constant: whether all of its scores, on all examples and both sides, are the same.
    """
    old, new = mean_over_seeds(baseline), mean_over_seeds(candidate)
    both, units = _paired(old, new, clusters)
    row = _counted(old, new, both, units, policy, scorer=scorer, cohort=cohort, against=against)
    row = replace(
        row,
        baseline_seeds=_seeds(baseline),
        candidate_seeds=_seeds(candidate),
        constant=constant,
    )
    if row.n == 0 or (cohort != PRIMARY and row.n < policy.min_cohort):
        return row
    # A stream of draws that the interval, the p values and the seeds take from in this order.
    generator = generator_of(policy.seed, against, scorer, cohort)
    seen = max(seen, largest_change(units))
    gain = 1 - float(old[both].min()) if unseen_gains else seen
    row = _with_statistics(
        row, units, policy, scale=scale, seen=seen, gain=gain, generator=generator
    )
    groups = None if clusters is None else clusters[both]
    row = _with_collapsed(row, (new - old)[both], policy, groups)
    if units.count < 2:
        return row
    noise = seeds.seed_noise(baseline[both], candidate[both], units, groups)
    if noise is not None:
        row = _with_seeds(row, units, noise, policy, generator)
    return row if both.all() else _at_worst(row, old, new, policy, scale=scale, clusters=clusters)


def _with_collapsed(
    row: Row, deltas: Floats, policy: GatePolicy, clusters: Positions | None
) -> Row:
    """Return the row with how many units collapsed."""
    from ftreg.gate.stats import share_at_most

    drop = (policy.collapse or Collapse()).drop
    fell = deltas <= -drop + 10.0**-DECIMALS
    count = int(fell.sum()) if clusters is None else len(set(clusters[fell].tolist()))
    most = share_at_most(count, total=row.units, level=1 - policy.confidence)
    return replace(row, collapsed=count, collapsed_at_most=most)


def _at_worst(
    row: Row,
    old: Floats,
    new: Floats,
    policy: GatePolicy,
    *,
    scale: Scale,
    clusters: Positions | None,
) -> Row:
    """Return the row with what the missing scores may hide.

    A score is often missing because the output was bad, so none is taken to be like the others.
    """
    from ftreg.gate.stats import mcnemar

    assert row.interval is not None and row.delta is not None
    lost, won = ~np.isnan(old) & np.isnan(new), np.isnan(old) & ~np.isnan(new)
    old, new = np.where(won, 1.0, old), np.where(lost, 0.0, new)
    _, units = _paired(old, new, clusters)
    estimate = estimate_interval(
        units,
        scale=scale,
        confidence=policy.confidence,
        worst=worst_change(scale, seen=largest_change(units), unseen_drop=policy.unseen_drop),
        resamples=policy.resamples,
        generator=generator_of(policy.seed, row.against, row.scorer, row.cohort, "at worst"),
    )
    return replace(
        row,
        delta_at_worst=units.mean,
        # The seeds' part of the interval is that of the scores which are there.
        low_at_worst=min(estimate.interval.low, row.interval.low + units.mean - row.delta),
        p_unscored=mcnemar(int(lost.sum()), int(won.sum())),
    )


def _counted(
    old: Floats,
    new: Floats,
    both: NDArray[np.bool_],
    units: Units,
    policy: GatePolicy,
    *,
    scorer: str,
    cohort: str,
    against: Literal["baseline", "anchor"],
) -> Row:
    """Return the row with its counts, its margin, and the means of what can be compared."""
    primary, anchored = cohort == PRIMARY, against == "anchor"
    row = Row(
        scorer=scorer,
        cohort=cohort,
        against=against,
        gated=not anchored and (primary or policy.requires(cohort)),
        examples=len(both),
        n=int(both.sum()),
        units=units.count,
        missing_baseline=int(np.isnan(old).sum()),
        missing_candidate=int(np.isnan(new).sum()),
        margin=policy.anchor_margin if anchored else policy.margin_for(scorer),
        note="nothing to compare",
    )
    if row.n == 0:
        return row
    return replace(
        row,
        baseline_mean=float(old[both].mean()),
        candidate_mean=float(new[both].mean()),
        delta=units.mean,
        note=f"too small to gate: {row.n} examples, fewer than min_cohort {policy.min_cohort}",
    )


def _with_statistics(
    row: Row,
    units: Units,
    policy: GatePolicy,
    *,
    scale: Scale,
    seen: float,
    gain: float,
    generator: np.random.Generator,
) -> Row:
    """Return the row with its interval, p values and what it can see, as of one seed."""
    worst = worst_change(scale, seen=seen, unseen_drop=policy.unseen_drop)
    estimate = estimate_interval(
        units,
        scale=scale,
        confidence=policy.confidence,
        worst=worst,
        resamples=policy.resamples,
        generator=generator,
    )
    found = p_values(
        units,
        scale=scale,
        gain=gain,
        margin=row.margin,
        resamples=policy.resamples,
        generator=generator,
    )
    error = units.standard_error()
    return replace(
        row,
        interval=estimate.interval,
        method=estimate.method,
        standard_error=error,
        p_value=found.exchanged,
        p_guarded=found.guarded,
        p_beyond=found.beyond,
        # Without a spread, what could go unseen is all that is known.
        detectable_drop=(
            sample_size.detectable_drop(error, confidence=policy.confidence)
            if error
            else units.mean - estimate.interval.low
        ),
        n_needed=_needed(units, worst, policy, row.margin),
    )


def _seeds(column: Floats) -> int:
    return column.shape[1] if column.ndim > 1 else 1


def _with_seeds(
    row: Row,
    units: Units,
    noise: seeds.SeedNoise,
    policy: GatePolicy,
    generator: np.random.Generator,
) -> Row:
    """Return the row with the seeds' noise in its interval, p value and what it can see."""
    assert row.interval is not None and row.p_beyond is not None
    level = 1 - policy.confidence
    normal = NormalDist()
    test = noise.reach(-normal.inv_cdf(level) * noise.example_error, level=level)
    passes = units.mean > -row.margin
    needed = seeds.examples_needed(
        noise,
        examples=row.n,
        room=row.margin + units.mean if passes else -units.mean,
        level=level / 2 if passes else level,
        power=sample_size.POWER,
    )
    alone = row.n_needed
    return replace(
        row,
        interval=seeds.widen(
            row.interval,
            units,
            noise,
            confidence=policy.confidence,
            resamples=policy.resamples,
            generator=generator,
        ),
        method=f"{row.method}; seeds by t",
        standard_error=noise.standard_error,
        example_error=noise.example_error,
        seed_error=noise.seed_error,
        baseline_seed_deviation=noise.baseline.deviation if noise.baseline else None,
        candidate_seed_deviation=noise.candidate.deviation if noise.candidate else None,
        p_seeds=seeds.seeds_p_value(units.mean, noise),
        p_beyond=max(row.p_beyond, seeds.seeds_p_value(units.mean, noise, margin=row.margin)),
        detectable_drop=test + normal.inv_cdf(sample_size.POWER) * noise.standard_error,
        n_needed=None if needed is None or alone is None else max(needed, alone),
    )


def scale_between(*sides: Floats) -> Scale:
    """Return how finely a scorer scores, from all of its scores on some sides."""
    together = np.concatenate([side.ravel() for side in sides])
    scale = scale_of(together[~np.isnan(together)])
    if scale is Scale.BINARY and any(side.ndim > 1 for side in sides):
        return Scale.COARSE  # a mean over seeds is neither 0 nor 1
    return scale


def is_constant(*sides: Floats) -> bool:
    """Return whether all scores of some sides are one and the same, of two at least."""
    together = np.concatenate([side.ravel() for side in sides])
    found = together[~np.isnan(together)]
    return len(found) > 1 and float(np.ptp(found)) == 0


def largest_change_of(
    baseline: Floats, candidate: Floats, clusters: Positions | None = None
) -> float:
    """Return the largest change to reckon with for a scorer, from all of its examples."""
    _, units = _paired(mean_over_seeds(baseline), mean_over_seeds(candidate), clusters)
    return largest_change(units) if units.count else 0.0


def _paired(
    baseline: Floats, candidate: Floats, clusters: Positions | None
) -> tuple[NDArray[np.bool_], Units]:
    """Return which examples have both scores, and their deltas by unit."""
    both = ~(np.isnan(baseline) | np.isnan(candidate))
    deltas = np.round(candidate[both] - baseline[both], DECIMALS)
    return both, units_of(deltas, None if clusters is None else clusters[both])


def _needed(units: Units, worst: float, policy: GatePolicy, margin: float) -> int | None:
    """Return how many examples, clusters counted by their examples, would decide either way."""
    passing = units.mean > -margin
    if passing:
        needed = sample_size.examples_for_pass(
            units.spread(),
            margin=margin,
            delta=units.mean,
            confidence=policy.confidence,
            worst=worst,
        )
    else:
        needed = sample_size.examples_for_regression(
            units.spread(), delta=units.mean, confidence=policy.confidence
        )
    if needed is None:
        return None
    examples = int(np.ceil(needed * units.sizes.mean()))
    if not passing:
        return examples
    clustered = units.clustered
    least = policy.least_units(margin, clustered=clustered) * units.sizes.mean()
    return max(examples, int(np.ceil(least)))  # a pass has a minimum


def generator_of(seed: int, *names: str) -> np.random.Generator:
    """Return a stream of draws for one row alone, so that adding a scorer changes no other row."""
    digest = hashlib.sha256("\0".join((str(seed), *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
