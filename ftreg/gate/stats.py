"""Exact bounds of a share, and quantiles of t: the parts of the gate that use scipy."""

from scipy import special


def share_at_most(count: int, *, total: int, level: float) -> float:
    """Return the upper confidence bound of a share, given `count` of `total`.

    Clopper and Pearson, Biometrika 26 (1934).
    """
    return 1.0 if count == total else float(special.betaincinv(count + 1, total - count, 1 - level))


def t_quantile(level: float, freedom: int) -> float:
    """Return the upper quantile of Student's t, which is exceeded with probability `level`."""
    return -float(special.stdtrit(freedom, level))


def t_p_value(t: float, freedom: float) -> float:
    """Return the probability that Student's t is at most `t`."""
    return float(special.stdtr(freedom, t))
