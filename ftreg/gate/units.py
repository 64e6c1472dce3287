"""The independent units of a comparison: examples, or clusters of examples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Finer than any score means, coarser than what arithmetic loses: 0.3 - 0.1 is 0.2. Deltas that are
# equal must be equal to the last bit, or there would be no ties.
DECIMALS = 12


@dataclass(frozen=True, slots=True)
class Units:
    """Paired deltas, summed over examples that vary together.

    `sums` and `sizes` have shape (units,): the sum of a unit's deltas and its number of examples.
    Without clusters every size is 1. Their mean delta is `sums.sum() / sizes.sum()`.
    """

    sums: Floats
    sizes: Floats

    @property
    def count(self) -> int:
        """Number of units."""
        return len(self.sums)

    @property
    def effective(self) -> float:
        """Effective number of equally large units: Kish, "Survey Sampling" (1965)."""
        return float(self.sizes.sum() ** 2 / (self.sizes**2).sum()) if self.count else 0.0

    @property
    def furthest(self) -> float:
        """The largest possible of `values()` if examples gain 1: that of the largest unit."""
        return float(self.sizes.max() / self.sizes.mean()) if self.count else 1.0

    @property
    def mean(self) -> float:
        """Mean delta over the examples, in [-1, 1]."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def clustered(self) -> bool:
        """Whether a unit may hold several examples."""
        return bool((self.sizes != 1).any())

    def values(self) -> Floats:
        """Return one value per unit, whose plain mean is the mean delta.

        For clusters this is the ratio estimator linearised at the mean,
        `mean + (sum - mean * size) / mean_size`: a cluster's contribution to the mean's error.
        """
        if not self.clustered:
            return self.sums
        mean = self.mean
        values = mean + (self.sums - mean * self.sizes) / self.sizes.mean()
        return np.asarray(np.round(values, DECIMALS))

    def spread(self) -> float:
        """Return the standard deviation of `values()`; 0 for a single unit or equal values."""
        values = self.values()
        # The rounding of the mean would otherwise pass for a spread.
        return float(values.std(ddof=1)) if np.ptp(values) > 0 else 0.0

    def standard_error(self) -> float:
        """Return the standard error of the mean delta.

        With clusters it is the clustered standard error of Miller, "Adding error bars to evals"
        (arXiv 2411.00640), section 2.2, times sqrt(G / (G - 1)) for G clusters.
        """
        return self.spread() / float(np.sqrt(self.count)) if self.count else 0.0


def units_of(deltas: Floats, clusters: NDArray[np.int64] | None = None) -> Units:
    """Group deltas into units.

    Args:
        deltas: shape (examples,), each in [-1, 1].
        clusters: shape (examples,), the cluster's number of each example, or None.
    """
    if clusters is None:
        return Units(deltas, np.ones(len(deltas)))
    _, numbers = np.unique(clusters, return_inverse=True)
    return Units(
        np.round(np.bincount(numbers, weights=deltas), DECIMALS),
        np.bincount(numbers).astype(np.float64),
    )
