"""Which hybrid to train next, and when the answer stands: group testing with noise.

The plan is a function of the runs so far, so a search that was killed goes on where it was.

1. Both ends are trained with several seeds: is there a difference beyond that of seeds?
2. Each possible cause (one factor; one that does most of it; two that only hurt together; either
   of two; two that add up; all of them a little) says where every hybrid would lie between both
   ends. The next hybrid is the one that the causes disagree about most, each weighted by its
   probability: for one factor of equally probable ones that halves them, as in binary search with
   noise (Horstein, "Sequential transmission using noiseless feedback", IEEE Transactions on
   Information Theory 9, 1963), and causes that halves do not tell apart get hybrids that do.
3. What is suspected is proved: it alone in the good recipe, and all but it in the bad one, with as
   many seeds as its share of the delta needs; of two, each must add to what the other does. No
   probability decides, but the intervals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftreg.gate.interval import Interval
from ftreg.why.effects import CONFIDENCE, Measured, Run, Share, Weights, delta_of, part_of

Answer = Literal["culprit", "pair", "noise", "undecided"]
Floats = NDArray[np.float64]
Hybrids = NDArray[np.int64]

MAJORITY = 0.5
"""The share of the delta that a culprit certainly explains more than."""
# Runs of each end after which it is asked whether they differ, and the error of all looks together.
_LOOKS = (2, 3, 4, 6, 8)
_LOOKS_ERROR = 0.02
_SUSPECTED = 0.9
_STANDS_OUT = 0.6
# Runs of a hybrid that a proof begins with, and ends with.
_PROOFS = (2, 8)
# A cause is seldom the whole of the delta: this much of it is left to all the other factors.
_TOLERANCE = 0.15
# How probable each kind of cause is before the first run, all of its kind together.
_PRIORS = {
    **{"one": 0.5, "most": 0.15, "both": 0.15, "sum": 0.07, "either": 0.05, "all": 0.05},
    "unlike": 0.03,
}
_MOST = 0.7
_MOST_HYBRIDS = 1024


class Cause(NamedTuple):
    """One of the possible causes: the factors in it, how they act, and who may add the rest."""

    factors: tuple[int, ...]
    kind: str
    rest: tuple[int, ...] = ()

    @property
    def bits(self) -> int:
        """A bit for each of its factors."""
        return sum(1 << factor for factor in self.factors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the runs say.

    `suspects` are the factors of the answer, and `share` theirs. `delta` is that of both ends,
    trained with other seeds than the two checkpoints. `more_runs` is about how many runs more
    would tell, None where no number would.
    """

    answer: Answer
    why: str
    delta: Share | None = None
    suspects: tuple[int, ...] = ()
    share: Share | None = None
    more_runs: int | None = None


Next = Finding | int
"""The answer, or the hybrid to train next."""


def next_step(
    factors: int, runs: Sequence[Run], *, observed: float, resolution: float = 1e-9
) -> Next:
    """Return the hybrid that is to be trained next, or the answer.

    Args:
        factors: number of factors in which the ends differ, at least 1.
        runs: those that are done, in any order.
        observed: the delta of the two checkpoints that are asked about. They raised the question,
            so they are no evidence; but a delta that seeds do not explain is not called noise.
        resolution: the least standard deviation from seed to seed that is believed.
    """
    every = (1 << factors) - 1
    counts = {bad: sum(run.bad == bad for run in runs) for bad in (0, every)}
    least = min(counts, key=lambda bad: counts[bad])
    if counts[least] < _LOOKS[0]:
        return least
    if not _differ(factors, runs, resolution=resolution):
        ends = Measured([run for run in runs if run.bad in (0, every)], resolution=resolution)
        return _ends(ends, factors, observed=observed)
    return _search(factors, Measured(runs, resolution=resolution))


def _differ(factors: int, runs: Sequence[Run], *, resolution: float) -> bool:
    """Whether both ends differ, at one of the looks that are planned.

    Once they did, they do: runs that are added later to prove a share ask nothing anew.
    """
    ends = [
        sorted((run for run in runs if run.bad == bad), key=lambda run: run.seed)
        for bad in (0, (1 << factors) - 1)
    ]
    delta, confidence = delta_of(factors), 1 - _LOOKS_ERROR / len(_LOOKS)
    for look in _LOOKS:
        if look > min(map(len, ends)):
            break
        seen = Measured([*ends[0][:look], *ends[1][:look]], resolution=resolution)
        interval = seen.interval(delta, confidence=confidence)
        if not interval.low <= 0 <= interval.high:
            return True
    return False


def _ends(ends: Measured, factors: int, *, observed: float) -> Next:
    """The next run of an end, or why there is nothing to search."""
    delta = delta_of(factors)
    count = min(ends.counts.values())
    ratio = abs(ends.contrast(delta)) / ends.error(delta)
    hopeless = count >= _LOOKS[2] and ratio < 1
    if count < _LOOKS[-1] and not hopeless:
        return min(ends.counts, key=lambda bad: ends.counts[bad])
    from ftreg.gate.stats import t_quantile

    found = Share(ends.contrast(delta), ends.interval(delta, confidence=CONFIDENCE))
    reach = t_quantile((1 - CONFIDENCE) / 2, ends.noise.freedom) * ends.noise.deviation * 2**0.5
    if abs(observed) <= max(reach, 2 * ends.noise.deviation):
        why = "both recipes, trained with several seeds, do not differ by more than seeds do"
        return Finding(answer="noise", why=why, delta=found)
    why = (
        "the two checkpoints differ by more than seeds explain, and their recipes, trained again "
        "here, do not: look at what is not in the recipe, such as library versions and hardware"
    )
    more = None if ratio < 1 else max(2, round(2 * count * ((3.5 / ratio) ** 2 - 1)))
    return Finding(answer="undecided", why=why, delta=found, more_runs=more)


def _search(factors: int, measured: Measured) -> Next:
    """The next hybrid, or the cause."""
    delta = measured.contrast(delta_of(factors))
    found = Share(delta, measured.interval(delta_of(factors), confidence=CONFIDENCE))
    if factors == 1:
        return Finding(
            answer="culprit",
            why="the recipes differ in nothing else",
            delta=found,
            suspects=(0,),
            share=Share(1.0, Interval(1.0, 1.0)),
        )
    causes = _causes(factors)
    chances = _chances(causes, measured, factors=factors)
    suspects, chance = _suspects(causes, chances)
    if chance >= _SUSPECTED and suspects:
        return _proof(suspects, measured, factors=factors, delta=found)
    if chance >= _SUSPECTED:
        return _spread(measured, factors=factors, delta=found)
    return _most_disputed(causes, chances, measured, factors=factors)


class _Claim(NamedTuple):
    """A part of the delta that must certainly be more than a share of it."""

    part: Weights
    least: float


def _proof(suspects: int, measured: Measured, *, factors: int, delta: Share) -> Next:
    """The next run that proves a suspicion, or what came of it."""
    every = (1 << factors) - 1
    single = _stands_out(suspects, measured, factors=factors)
    if single is not None and single != suspects:
        return _proof(single, measured, factors=factors, delta=delta)
    for bad in (suspects, every & ~suspects):
        if measured.count(bad) < _PROOFS[0]:
            return bad
    named = tuple(factor for factor in range(factors) if suspects >> factor & 1)
    answer: Answer = "culprit" if len(named) == 1 else "pair"
    claims = _claims(suspects, factors)
    for claim in claims:
        missing = [bad for bad in claim.part if not measured.count(bad)]
        if missing:
            return missing[0]
    share = measured.share(claims[0].part, delta_of(factors), confidence=CONFIDENCE)
    for claim in claims:
        found = measured.share(claim.part, delta_of(factors), confidence=CONFIDENCE)
        if found.interval and found.interval.low > claim.least:
            continue
        least = min({*claim.part, 0, every}, key=measured.count)
        if measured.count(least) < _PROOFS[1]:
            return least
        few = f"{_PROOFS[1]} runs of each hybrid do not prove the share of what is suspected"
        return Finding(
            answer="undecided",
            why=few,
            delta=delta,
            suspects=named,
            share=share,
            more_runs=_runs_to_prove(found, claim, measured),
        )
    why = {
        "culprit": "it alone does it to the good recipe, and without it the bad one is well",
        "pair": "no single factor: these two together do it, and neither alone",
    }
    return Finding(answer=answer, why=why[answer], delta=delta, suspects=named, share=share)


def _stands_out(suspects: int, measured: Measured, *, factors: int) -> int | None:
    """The one of two suspects that seems to do most of it alone, where both were tried alone."""
    whole, found = delta_of(factors), {}
    for factor in range(factors):
        part = part_of(1 << factor, factors)
        if suspects >> factor & 1 and all(measured.count(bad) for bad in part):
            found[1 << factor] = measured.share(part, whole, confidence=CONFIDENCE).value
    best = max(found, key=lambda bits: found[bits], default=None)
    return best if best is not None and len(found) == 2 and found[best] > _STANDS_OUT else None


def _claims(suspects: int, factors: int) -> list[_Claim]:
    """That suspects do most of it; and of two, that each adds to what the other does."""
    whole = part_of(suspects, factors)
    found = [_Claim(whole, MAJORITY)]
    alone = [1 << factor for factor in range(factors) if suspects >> factor & 1]
    for other in alone if len(alone) > 1 else ():
        less = part_of(other, factors)
        added = {bad: whole.get(bad, 0.0) - less.get(bad, 0.0) for bad in {**whole, **less}}
        found.append(_Claim({bad: weight for bad, weight in added.items() if weight}, 0.0))
    return found


def _runs_to_prove(share: Share, claim: _Claim, measured: Measured) -> int | None:
    """About how many runs more bring the lower end above what is claimed; None: none would."""
    if share.interval is None or share.value <= claim.least:
        return None
    done = sum(measured.counts[bad] for bad in claim.part)
    shrink = (share.value - share.interval.low) / (share.value - claim.least)
    more = max(1, round(done * (shrink**2 - 1)))
    return more if more < 1000 else None


def _spread(measured: Measured, *, factors: int, delta: Share) -> Next:
    """No one and no two factors act as any cause would: say so when every factor was tried."""
    every = (1 << factors) - 1
    for bad in (1 << factor for factor in range(factors)):
        for cell in (bad, every & ~bad):
            if not measured.count(cell):
                return cell
    why = "no one factor and no two explain more than half of the delta: it is spread over several"
    return Finding(answer="undecided", why=why, delta=delta)


def usual_runs(factors: int) -> int:
    """Return about how many runs find one culprit, where seeds move the score by less than it does.

    Measured by `scripts/bench_bisect.py`; a pair, or noise, takes up to twice as many.
    """
    return 9 + math.ceil(math.log2(factors)) if factors else 0


def undecided(factors: int, runs: Sequence[Run], *, resolution: float, budget: str) -> Finding:
    """Return what is known when the budget has ended, and about how many runs more would tell.

    Args:
        factors: number of factors.
        runs: those that are done.
        resolution: as in `next_step`.
        budget: what has ended, in words.
    """
    every = (1 << factors) - 1
    counts = {bad: sum(run.bad == bad for run in runs) for bad in (0, every)}
    if min(counts.values()) < _LOOKS[0]:
        missing = 2 * _LOOKS[1] - sum(counts.values())
        return Finding(answer="undecided", why=budget, more_runs=missing + usual_runs(factors))
    measured = Measured(runs, resolution=resolution)
    delta = Share(
        measured.contrast(delta_of(factors)),
        measured.interval(delta_of(factors), confidence=CONFIDENCE),
    )
    if not _differ(factors, runs, resolution=resolution) or factors == 1:
        more = 2 * _LOOKS[-1] - sum(counts.values())
        return Finding(answer="undecided", why=budget, delta=delta, more_runs=max(1, more))
    chances = probabilities(factors, runs, resolution=resolution)
    more = max(2, round(2 * sum(-p * np.log2(p) for p in chances if p > 0)) + 4)
    return Finding(answer="undecided", why=budget, delta=delta, more_runs=more)


def probabilities(factors: int, runs: Sequence[Run], *, resolution: float) -> list[float]:
    """Return, for each factor, how probable it is that the cause has it, in [0, 1]."""
    causes = _causes(factors)
    chances = _chances(causes, Measured(runs, resolution=resolution), factors=factors)
    return [
        float(sum(p for cause, p in zip(causes, chances, strict=True) if factor in cause.factors))
        for factor in range(factors)
    ]


def _suspects(causes: Sequence[Cause], chances: Floats) -> tuple[int, float]:
    """The most probable set of factors, as bits, however they act, and its probability.

    Two factors of which only one may do it are suspected together, if neither is alone.
    """
    found: dict[int, float] = {}
    for cause, chance in zip(causes, chances.tolist(), strict=True):
        found[cause.bits] = found.get(cause.bits, 0.0) + chance
    best = max(found, key=lambda bits: found[bits])
    if found[best] < _SUSPECTED:
        pairs = {cause.bits: cause.factors for cause in causes if len(cause.factors) == 2}
        within = {
            bits: found[bits] + sum(found[1 << factor] for factor in pair)
            for bits, pair in pairs.items()
        }
        best, found = max(within, key=lambda bits: within[bits]), within
    return best, found[best]


@lru_cache(maxsize=4)
def _causes(factors: int) -> tuple[Cause, ...]:
    """All possible causes; the last is one unlike any of them."""
    every = range(factors)
    pairs = list(combinations(every, 2))
    found = [Cause((factor,), "one") for factor in every]
    found += [Cause((one,), "most", (other,)) for one in every for other in every if other != one]
    found += [Cause(pair, kind) for kind in ("both", "either", "sum") for pair in pairs]
    if factors > 2:
        others = [tuple(set(every) - {factor}) for factor in every]
        found += [Cause((factor,), "most", others[factor]) for factor in every]
        found += [Cause((), "all", tuple(every))]
    return (*found, Cause((), "unlike"))


@lru_cache(maxsize=4)
def _priors(factors: int) -> Floats:
    causes = _causes(factors)
    kinds = [cause.kind for cause in causes]
    weights = np.array([_PRIORS[kind] / kinds.count(kind) for kind in kinds])
    return np.asarray(weights / weights.sum())


def _places(causes: Sequence[Cause], hybrids: Hybrids) -> Floats:
    """Where each cause would have each hybrid: 0 at the good end, 1 at the bad one.

    Returns:
        Shape (causes, hybrids); NaN for a cause unlike any other.
    """
    bits = (hybrids >> np.arange(64)[:, None] & 1).astype(np.float64)

    def place(cause: Cause) -> Floats:
        mine, rest = bits[list(cause.factors)], bits[list(cause.rest)]
        if cause.kind == "most":
            return np.asarray(_MOST * mine[0] + (1 - _MOST) * rest.mean(axis=0))
        if cause.kind == "unlike":
            return np.full(len(hybrids), np.nan)
        if cause.kind == "all":
            return np.asarray(rest.mean(axis=0))
        if cause.kind == "either":
            return np.asarray(mine.max(axis=0))
        return np.asarray(mine.mean(axis=0) if cause.kind == "sum" else mine.min(axis=0))

    return np.stack([place(cause) for cause in causes])


def _chances(causes: Sequence[Cause], measured: Measured, *, factors: int) -> Floats:
    """The probability of each cause, after Bayes; shape (causes,)."""
    from scipy import stats

    every = (1 << factors) - 1
    hybrids = np.array([bad for bad in measured.means if bad not in (0, every)], dtype=np.int64)
    logs = np.log(_priors(factors))
    if len(hybrids):
        good, bad = measured.means[0], measured.means[every]
        delta = bad - good
        counts = np.array([measured.counts[int(one)] for one in hybrids])
        seen = (np.array([measured.means[int(one)] for one in hybrids]) - good) / delta
        places = _places(causes, hybrids)
        expected = np.nan_to_num(places)
        ends = (1 - expected) ** 2 / measured.counts[0] + expected**2 / measured.counts[every]
        noise = (measured.noise.deviation / delta) ** 2 * (1 / counts + ends)
        scale = np.sqrt(noise + _TOLERANCE**2)
        density = stats.t.logpdf(seen - expected, measured.noise.freedom, scale=scale)
        unlike = -np.log(2.0)  # anywhere from half a delta below the good end to half above the bad
        logs = logs + np.where(np.isnan(places), unlike, density).sum(axis=1)
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def _most_disputed(
    causes: Sequence[Cause], chances: Floats, measured: Measured, *, factors: int
) -> int:
    """The hybrid of which the causes disagree most where it lies; of equals, the least trained."""
    hybrids, places = _candidates(factors)
    known = chances[:-1] / chances[:-1].sum()
    middle = known @ places
    spread = known @ (places - middle) ** 2
    best = np.flatnonzero(spread >= spread.max() - 1e-9)
    return min((int(hybrids[at]) for at in best), key=lambda bad: (measured.count(bad), bad))


@lru_cache(maxsize=4)
def _candidates(factors: int) -> tuple[Hybrids, Floats]:
    """Hybrids that may be trained, and where each cause but the last would have them."""
    every = (1 << factors) - 1
    if every + 1 <= _MOST_HYBRIDS:
        hybrids = np.arange(1, every, dtype=np.int64)
    else:
        drawn = np.random.default_rng(factors).integers(1, every, size=_MOST_HYBRIDS)
        alone = 1 << np.arange(factors, dtype=np.int64)
        hybrids = np.unique(np.concatenate([drawn, alone, every & ~alone]))
    return hybrids, _places(_causes(factors)[:-1], hybrids)
