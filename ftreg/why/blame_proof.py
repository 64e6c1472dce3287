"""Which rows are suspected, and whether leaving them out of training proves it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ftreg.config.policy import GatePolicy
from ftreg.gate import Interval, compare
from ftreg.gate.verdict import PRIMARY

# Share of all rows. The effect of bad rows also shows in similar good ones, so no gap in the
# ranking marks where the bad ones end.
_SHARE = 0.05
_FEWEST = 5


def choose_suspects(harms: Sequence[float], *, count: int | None = None) -> list[int]:
    """Return the positions of the suspected rows, the most harmful first.

    Args:
        harms: one value per row; see `ftreg.why.influence.harm_of_rows`.
        count: how many; None means 5 % of all rows, at least five. One row is always left.
    """
    order = np.argsort(-np.array(harms), kind="stable")
    if count is None:
        count = max(_FEWEST, round(_SHARE * len(harms)))
    return [int(at) for at in order[: min(count, len(harms) - 1)]]


def random_rows(rows: int, *, without: Collection[int], count: int, seed: int) -> list[int]:
    """Return the positions of `count` other rows, drawn at random; depends only on the seed."""
    others = np.setdiff1d(np.arange(rows), np.array(sorted(without), dtype=np.int64))
    generator = np.random.default_rng([seed, rows])
    return sorted(generator.choice(others, min(count, len(others)), replace=False).tolist())


@dataclass(frozen=True, slots=True)
class Effect:
    """The extra effect of leaving out the suspects instead of as many random rows.

    `gain` is the difference of the mean scores over examples and seeds, and `p_value` that of a
    gain beyond `margin`.
    """

    gain: float
    interval: Interval
    p_value: float
    margin: float


def gain_of_leaving_out(
    random: Mapping[str, Sequence[float | None]],
    without: Mapping[str, Sequence[float | None]],
    *,
    margin: float,
    confidence: float,
    clusters: Mapping[str, str] | None = None,
) -> Effect | None:
    """Compare the runs without the suspects with those without random rows, using the gate.

    The interval includes the noise of examples and of training seeds. None if no example was scored
    in all runs.

    Args:
        random: example id to its scores without random rows, one per seed.
        without: the same without the suspects.
        margin: the largest gain that does not count.
        confidence: of the interval.
        clusters: example id to cluster.
    """
    policy = GatePolicy(margin=margin, confidence=confidence, max_missing=1.0)
    verdict = compare({"score": without}, {"score": random}, policy, clusters=clusters, plan=False)
    row = next(row for row in verdict.rows if row.cohort == PRIMARY)
    if row.delta is None or row.interval is None or row.p_beyond is None:
        return None
    return Effect(
        gain=-row.delta,
        interval=Interval(-row.interval.high, -row.interval.low),
        p_value=row.p_beyond,
        margin=margin,
    )
