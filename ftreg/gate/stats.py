"""Exact statistics of paired binary scores, and quantiles of t: what the gate needs scipy for."""

from collections.abc import Callable

import numpy as np
from scipy import optimize, special, stats

# Nodes of the quadrature over the changed share: good to 1e-5 of a score point, and to 1e-8 where
# more than a few pairs changed.
_NODES = 64


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
    below = _mean_below(losses, gains, total)
    # The bound lies above the one that leaves the gains out, and below the mean delta.
    floor = -float(special.betaincinv(losses + 1, total - losses, 1 - level))
    ceiling = (gains - losses) / total
    return float(optimize.brentq(lambda d: below(d) - level, floor, ceiling, xtol=1e-9))


def paired_drop_p_value(losses: int, gains: int, *, total: int, margin: float) -> float:
    """Return the p value of a drop of more than `margin`: the level at which it is just ruled out.

    It is the one that belongs to the upper end of the interval whose lower end is
    `paired_lower_bound`, with one more gain than seen.

    Args:
        losses: pairs that went from 1 to 0.
        gains: pairs that went from 0 to 1.
        total: all pairs, unchanged ones too.
        margin: the drop that is allowed, in [0, 1).
    """
    return _mean_below(gains, losses, total)(margin)


def _mean_below(losses: int, gains: int, total: int) -> Callable[[float], float]:
    """Return the distribution function of gained minus lost share, with one more loss than seen."""
    if losses == total:
        return lambda delta: 1.0
    if gains == 0:
        return lambda delta: float(
            special.betaincc(losses + 1, total - losses, min(max(-delta, 0.0), 1.0))
        )
    if losses + gains == total:
        return lambda delta: float(special.betaincc(losses + 1, gains, (1 - delta) / 2))
    # Changed share T and the part of it that is lost, V, are independent beta variables, and
    # the mean delta is T (1 - 2 V): integrate over T.
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    changed = special.betaincinv(losses + gains + 1, total - losses - gains, (nodes + 1) / 2)

    def below(delta: float) -> float:
        lost = np.clip((1 - delta / changed) / 2, 0, 1)
        return float((weights / 2) @ special.betaincc(losses + 1, gains, lost))

    return below


def share_at_most(count: int, *, total: int, level: float) -> float:
    """Return the upper confidence bound of a share of which `count` of `total` were seen.

    Clopper and Pearson, Biometrika 26 (1934).
    """
    return 1.0 if count == total else float(special.betaincinv(count + 1, total - count, 1 - level))


def t_quantile(level: float, freedom: int) -> float:
    """Return the upper quantile of Student's t: it is exceeded with probability `level`."""
    return -float(special.stdtrit(freedom, level))
