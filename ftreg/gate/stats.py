"""Exact statistics of paired binary scores; the only module of the gate that needs scipy."""

import numpy as np
from scipy import special, stats

# Nodes of the quadrature over the changed share; the bound is then good to about 1e-7.
_NODES = 400


def mcnemar(losses: int, gains: int) -> float:
    """Return the exact one-sided p value of a drop from discordant pairs (1 when there are none).

    McNemar, Psychometrika 12 (1947): given that a pair changed, a loss is as likely as a gain.
    """
    if losses + gains == 0:
        return 1.0
    return float(stats.binom.sf(losses - 1, losses + gains, 0.5))


def paired_lower_bound(losses: int, gains: int, *, total: int, level: float) -> float:
    """Return a lower confidence bound for the mean delta of paired binary scores.

    It is Gaffke's bound (see `ftreg.gate.guard`) for deltas of -1, 0 and 1: the `level` quantile
    of gained minus lost share under a Dirichlet distribution with one more loss than seen. Without
    gains it is the exact bound of Clopper and Pearson.

    Args:
        losses: pairs that went from 1 to 0.
        gains: pairs that went from 0 to 1.
        total: all pairs, unchanged ones too.
        level: error probability, such as 0.025.

    Returns:
        The bound, in [-1, 1].
    """
    if losses == total:
        return -1.0
    if gains == 0:
        return -float(special.betaincinv(losses + 1, total - losses, 1 - level))
    if losses + gains == total:
        return 1 - 2 * float(special.betaincinv(losses + 1, gains, 1 - level))
    # Changed share T and the part of it that is lost, V, are independent beta variables, and
    # the mean delta is T (1 - 2 V): integrate over T, solve for the quantile by bisection.
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    changed = special.betaincinv(losses + gains + 1, total - losses - gains, (nodes + 1) / 2)
    low, high = -1.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        lost = np.clip((1 - middle / changed) / 2, 0, 1)
        below = (weights / 2) @ (1 - special.betainc(losses + 1, gains, lost))
        low, high = (middle, high) if below < level else (low, middle)
    return (low + high) / 2
