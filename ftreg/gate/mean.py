"""The confidence interval of one side's mean score."""

import numpy as np

from ftreg.gate import seeds
from ftreg.gate.aligned import Positions, mean_over_seeds
from ftreg.gate.interval import Guards, Interval, estimate_intervals
from ftreg.gate.units import DECIMALS, Floats, units_of

# Scores lie within half a unit of it, which is the worst that an unseen example can do.
_CENTRE = 0.5


def mean_interval(
    scores: Floats,
    *,
    confidence: float,
    clusters: Positions | None = None,
) -> Interval:
    """Return the two-sided interval of a mean score, by the methods of a mean delta.

    It assumes only that scores are in [0, 1]. For scores of 0 and 1 it is the interval of Clopper
    and Pearson, or slightly wider.

    Args:
        scores: shape (examples,), or (examples, seeds) to cover the noise of seeds; none missing,
            at least one example.
        confidence: of the interval.
        clusters: shape (examples,), or None.
    """
    deltas = np.round(mean_over_seeds(scores) - _CENTRE, DECIMALS)
    units = units_of(deltas, clusters)
    guards = Guards.of([units], worst=_CENTRE)
    (estimate,) = estimate_intervals(guards, confidence=confidence, level=(1 - confidence) / 2)
    interval = estimate.interval
    if units.count > 1:
        noise = seeds.seed_noise(None, scores, units, clusters)
        if noise is not None:
            interval = seeds.widen(interval, units.mean, noise, confidence=confidence)
    return Interval(max(0.0, interval.low + _CENTRE), min(1.0, interval.high + _CENTRE))
