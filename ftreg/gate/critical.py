"""Critical examples, which must not get worse, whatever the mean does."""

import math
from collections.abc import Collection, Mapping
from statistics import NormalDist

import numpy as np

from ftreg.config.policy import GatePolicy
from ftreg.gate.aligned import AlignedScores, mean_over_seeds, some
from ftreg.gate.units import Floats
from ftreg.gate.verdict import CriticalDrop

# Rounding of a subtraction is not a drop.
_ROUNDING = 1e-12
# A normal distribution's standard deviation over its median absolute deviation.
_NORMAL_MAD = 1.4826
# A larger drop never passes silently, whatever the other examples do.
_MOST = 0.1
_NORMAL = NormalDist()
# A scorer with more distinct scores than this has many levels; the first scores show it.
_LEVELS = 5
_LOOKED_AT = 1000


def critical_drops(
    old: AlignedScores,
    new: AlignedScores,
    critical: Collection[str],
    policy: GatePolicy,
    *,
    noise: Mapping[str, float],
) -> tuple[list[CriticalDrop], list[str]]:
    """Return every critical example and scorer with a drop beyond the tolerance.

    With several seeds their mean counts: one unlucky seed of three is no reason to stop a release.

    Args:
        old: the baseline's scores.
        new: the candidate's.
        critical: ids of examples.
        policy: its tolerance; None estimates how much scores vary.
        noise: scorer to the standard deviation of an example's change between two generations of
            one checkpoint, if measured.

    Returns:
        The drops, and a sentence for each large drop that may be chance.
    """
    drops, open_ = [], []
    positions = _positions(old, critical)
    shared = sorted(set(old.columns) & set(new.columns)) if positions else []
    # The level holds for all critical scores of all scorers together.
    level = (1 - policy.confidence) / max(1, len(shared) * len(positions))
    for scorer in shared:
        olds, news = mean_over_seeds(old.columns[scorer]), mean_over_seeds(new.columns[scorer])
        tolerance = policy.critical_tolerance
        if tolerance is None:
            both = old.columns[scorer], new.columns[scorer]
            few = has_few_levels(*both, levels=old.levels.get(scorer, 0))
            spread = 0.0 if few else _spread(np.delete(news - olds, positions))
            # Of two generations neither is the better, so that half of what Chebyshev's inequality
            # allows lies on either side.
            again = noise.get(scorer, 0.0) * math.sqrt(0.5 / level)
            tolerance = max(-_NORMAL.inv_cdf(level) * spread, again)
        for position in positions:
            before, after = float(olds[position]), float(news[position])
            fallen = before - after  # NaN where a side has no score
            name = old.ids[position]
            if fallen > tolerance + _ROUNDING:
                drop = CriticalDrop(
                    scorer=scorer, id=name, baseline=before, candidate=after, tolerance=tolerance
                )
                drops.append(drop)
            elif policy.critical_tolerance is None and fallen > _MOST + _ROUNDING:
                open_.append(
                    f"{scorer}: the critical example {name!r} fell ({100 * before:.1f} to "
                    f"{100 * after:.1f} points), which may be chance: by as much as "
                    f"{100 * tolerance:.1f} points scores of this scorer vary"
                )
    return drops, open_


def has_few_levels(*sides: Floats, levels: int | None = 0) -> bool:
    """Return whether a scorer has only few levels, so that no change is noise.

    Args:
        sides: all of its scores on some sides, of shape (examples,) or (examples, seeds).
        levels: the number of distinct scores of one seed that it declares, None for any number;
            0 if it declares none: then 0 and 1, halves, thirds or quarters count as few.
    """
    if levels is None:
        return False
    together = np.concatenate([side.ravel() for side in sides])
    found = together[~np.isnan(together)]
    if not levels and len(set(found[:_LOOKED_AT].tolist())) > _LEVELS:
        return False
    distinct = np.array(sorted(set(found.tolist())))  # np.unique loads numpy.ma first
    # More distinct scores than declared: the declaration is wrong.
    if levels and levels > 2 and len(distinct) <= levels:
        return True
    if np.isin(distinct, (0.0, 1.0)).all():
        return True
    return 2 <= len(distinct) <= _LEVELS and any(
        np.allclose(distinct * parts, np.round(distinct * parts), rtol=0, atol=1e-6)
        for parts in (2, 3, 4)
    )


def _spread(deltas: Floats) -> float:
    """Return a robust standard deviation of the changes, from their median absolute deviation."""
    changed = deltas[~np.isnan(deltas) & (deltas != 0)]
    if not len(changed):
        return 0.0
    return _NORMAL_MAD * float(np.median(np.abs(changed - np.median(changed))))


def unscored_critical(
    old: AlignedScores, new: AlignedScores, critical: Collection[str]
) -> list[str]:
    """Return a sentence for each way in which critical examples escape the comparison.

    An example without a baseline score by some scorer cannot drop there; one without any baseline
    score, or one that the candidate lost, may hide a failure.
    """
    shared = sorted(set(old.columns) & set(new.columns))
    found = []
    measured = np.zeros(len(old.ids), dtype=bool)
    positions = _positions(old, critical)
    for scorer in shared:
        scored = ~np.isnan(mean_over_seeds(old.columns[scorer]))
        measured |= scored
        lost = scored & np.isnan(mean_over_seeds(new.columns[scorer]))
        names = [old.ids[position] for position in positions if lost[position]]
        if names:
            found.append(f"{scorer}: the candidate has no score for critical {some(names)}")
    known = set(old.ids)
    blind = sorted(name for name in critical if name not in known)
    blind += [old.ids[position] for position in positions if not measured[position]]
    if blind:
        found.append(f"critical examples without a score in the baseline: {some(blind)}")
    return found


def _positions(old: AlignedScores, critical: Collection[str]) -> list[int]:
    wanted = set(critical)
    return [position for position, name in enumerate(old.ids) if name in wanted]
