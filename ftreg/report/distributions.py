"""The distribution of a column of scores: a histogram, and quantiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BINS = 20
"""Bins of equal width over [0, 1]; a score of 1 falls into the last."""
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One side's scores by one scorer; values are None if there is no score."""

    shares: Sequence[float]
    """The share of the scores in each bin, in [0, 1]."""
    n: int
    missing: int
    mean: float | None
    quantiles: Sequence[float | None]
    """The 10, 25, 50, 75 and 90 % quantiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """One scorer's scores on each side, and the highest bar of all."""

    scorer: str
    sides: Mapping[str, Spread]
    top: float


def distributions(
    sides: Mapping[str, Mapping[str, Mapping[str, float | None]]],
) -> list[Distribution]:
    """Describe the scores of every scorer of the last side.

    Args:
        sides: "baseline" and "candidate", or one of them, to scorer to example id to score.
    """
    *_, newest = sides.values()
    found = []
    for scorer in newest:
        spreads = {
            side: _spread(scores[scorer]) for side, scores in sides.items() if scorer in scores
        }
        top = max(share for spread in spreads.values() for share in spread.shares)
        found.append(Distribution(scorer=scorer, sides=spreads, top=top or 1.0))
    return found


def _spread(column: Mapping[str, float | None]) -> Spread:
    present = np.array([value for value in column.values() if value is not None])
    missing = len(column) - len(present)
    if not len(present):
        return Spread(
            shares=[0.0] * BINS, n=0, missing=missing, mean=None, quantiles=[None] * len(_QUANTILES)
        )
    # A value that is a bin's edge belongs above it, whatever the last bit of its division says.
    bins = np.minimum(np.floor(present * BINS + 1e-9).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    return Spread(
        shares=[float(count) / len(present) for count in counts],
        n=len(present),
        missing=missing,
        mean=float(present.mean()),
        quantiles=[float(value) for value in np.quantile(present, _QUANTILES)],
    )
