"""The BCa bootstrap interval of a mean delta."""

from statistics import NormalDist

import numpy as np

from ftreg.gate.units import Floats, Units

# Resampled values held at once, so that memory does not grow with examples times resamples.
_CHUNK = 1 << 21

_NORMAL = NormalDist()


def bca(
    units: Units, *, level: float, resamples: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Return the ends of the bias-corrected and accelerated bootstrap interval of the mean.

    Units are drawn with replacement, so that with clusters this is the cluster bootstrap.
    Efron, "Better bootstrap confidence intervals", JASA 82 (1987).

    Args:
        units: at least two, not all of one value.
        level: error probability of each end, such as 0.025.
        resamples: number of resamples.
        generator: source of randomness.
    """
    estimate = units.mean
    means = resampled_means(units, resamples, generator)
    below = np.count_nonzero(means < estimate) + 0.5 * np.count_nonzero(means == estimate)
    # Half a resample from either end keeps the quantile finite.
    share = min(max(below, 0.5), resamples - 0.5) / resamples
    bias = _NORMAL.inv_cdf(float(share))
    acceleration = _acceleration(units.values())
    shares = []
    for z in (_NORMAL.inv_cdf(level), -_NORMAL.inv_cdf(level)):
        shifted = bias + z
        shares.append(_NORMAL.cdf(bias + shifted / max(1 - acceleration * shifted, 1e-6)))
    low, high = np.quantile(means, shares)
    return float(low), float(high)


def bca_large(units: Units, *, level: float) -> tuple[float, float]:
    """Return the BCa interval of a mean in closed form, for many units.

    For a mean the bias correction equals the acceleration to second order, and the interval needs
    no resamples: DiCiccio and Efron, "More accurate confidence intervals in exponential families",
    Biometrika 79 (1992), section 4. Cost and memory are linear in the number of units.
    """
    values = units.values()
    error = float(values.std()) / float(np.sqrt(units.count))
    acceleration = _acceleration(values)
    ends = []
    for z in (_NORMAL.inv_cdf(level), -_NORMAL.inv_cdf(level)):
        shifted = acceleration + z
        ends.append(units.mean + error * shifted / (1 - acceleration * shifted) ** 2)
    return ends[0], ends[1]


def _acceleration(values: Floats) -> float:
    centred = values - values.mean()
    return float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))


def resampled_means(units: Units, resamples: int, generator: np.random.Generator) -> Floats:
    """Return the mean delta of each resample, shape (resamples,); units are drawn whole."""
    count = units.count
    step = max(1, _CHUNK // count)
    means = np.empty(resamples)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = generator.integers(0, count, (stop - start, count), dtype=np.uint32)
        totals = units.sums[drawn].sum(axis=1)
        sizes = units.sizes[drawn].sum(axis=1) if units.clustered else count
        means[start:stop] = totals / sizes
    return means
