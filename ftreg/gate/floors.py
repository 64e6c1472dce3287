"""Floors: the lowest allowed mean of a scorer, whatever the baseline's mean."""

import numpy as np

from ftreg.config.policy import GatePolicy
from ftreg.gate.aligned import AlignedScores, Positions, mean_over_seeds
from ftreg.gate.mean import mean_interval
from ftreg.gate.sequence import Seen, mean_bounds


def below_floors(
    new: AlignedScores,
    policy: GatePolicy,
    *,
    level: float,
    clusters: Positions | None,
    sequence: Seen | None,
) -> tuple[list[str], list[str]]:
    """Return a sentence for each floor that is, or may be, broken.

    A floor is met if the interval of the candidate's mean is entirely at or above it, and broken
    if it is entirely below. A missing score counts as 0. With a sequence, only the examples in it
    count, and the interval is valid at all times.

    Args:
        new: the candidate's scores.
        policy: its floors.
        level: error probability of each end of an interval.
        clusters: shape (examples,), or None.
        sequence: given if the examples are in order of arrival.
    """
    broken, doubtful = [], []
    for scorer, floor in sorted(policy.floors.items()):
        if scorer not in new.columns:
            doubtful.append(f"{scorer}: the candidate has no such scorer to hold to its floor")
            continue
        column, groups = new.columns[scorer], clusters
        if sequence is not None:
            column = column[sequence.all]
            groups = None if groups is None else groups[sequence.all]
        if not len(column):
            doubtful.append(f"{scorer}: no example to hold to its floor")
            continue
        missing = int(np.isnan(mean_over_seeds(column)).sum())
        scores = np.where(np.isnan(column), 0.0, column)
        interval = (
            mean_interval(scores, confidence=1 - 2 * level, clusters=groups)
            if sequence is None
            else mean_bounds(
                scores,
                floor=floor,
                gap=policy.margin_for(scorer),
                level=level,
                clusters=groups,
                largest=sequence.largest,
            )
        )
        found = (
            f"{scorer}: the candidate's mean is {100 * scores.mean():.1f} points "
            f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
        )
        if missing:
            found += f", with {missing} missing score{'s' * (missing != 1)} counted as 0"
        if interval.high < floor:
            broken.append(f"{found}, below its floor of {100 * floor:g}")
        elif interval.low < floor:
            doubtful.append(f"{found}; whether it keeps its floor of {100 * floor:g} is open")
    return broken, doubtful
