"""The BCa bootstrap interval of a mean delta."""

from statistics import NormalDist

import numpy as np

from ftreg.gate.units import Floats, Units

_NORMAL = NormalDist()


def bca(units: Units, *, level: float) -> tuple[float, float]:
    """Return the ends of the bias-corrected and accelerated bootstrap interval of the mean.

    Efron, "Better bootstrap confidence intervals", JASA 82 (1987). For a mean the bias correction
    equals the acceleration to second order, so no resamples are needed: DiCiccio and Efron, "More
    accurate confidence intervals in exponential families", Biometrika 79 (1992), section 4.

    Args:
        units: at least two.
        level: error probability of each end, such as 0.025.
    """
    values = units.values()
    if not np.ptp(values):
        return units.mean, units.mean
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
