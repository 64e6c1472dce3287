"""Which hybrid to train next, and when to stop: group testing with noise.

The plan is a function of the runs so far, so a killed search resumes where it stopped.

1. Both ends are trained with several seeds: is there a difference beyond that of seeds?
2. Each possible cause (one factor; one that accounts for most of it; two that only hurt together;
   either of two; two, or a group, that add up; all of them a little) predicts where every hybrid is
   between the two ends. The next hybrid is the one on which the causes, weighted by their
   probabilities, disagree most: for one of several equally probable factors this halves them, as in
   binary search with noise (Horstein, "Sequential transmission using noiseless feedback", IEEE
   Transactions on Information Theory 9, 1963), and causes that halving cannot distinguish get
   hybrids that can.
3. The suspect is proved: it alone in the good recipe, and all but it in the bad one, with as many
   seeds as its share of the delta requires; of two suspects, each must add to the effect of the
   other. The intervals decide, not the probabilities.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ftreg.gate.interval import Interval
from ftreg.why.causes import (
    BisectQuestion,
    Cause,
    Floats,
    most_disputed,
    possible_causes,
    probabilities_of_causes,
)
from ftreg.why.effects import CONFIDENCE, HybridRun, MeasuredRuns, Share, Weights, delta_of, part_of

Answer = Literal["culprit", "pair", "noise", "undecided"]
MAJORITY = 0.5
"""A culprit certainly explains more than this share of the delta."""
# Runs per end after which the difference is tested, and the error of all looks together.
_LOOKS = (2, 3, 4, 6, 8)
_LOOKS_ERROR = 0.02
_SUSPECTED = 0.9
_STANDS_OUT = 0.6
# Runs per hybrid at the beginning of a proof, and at most.
_PROOFS = (2, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectFinding:
    """The result of the runs so far.

    `suspects` are the factors of the answer, and `share` is their share. `delta` is measured
    between the two ends, trained with different seeds than the two checkpoints. `more_runs` is the
    approximate number of further runs that would decide, None if no number would.
    """

    answer: Answer
    why: str
    delta: Share | None = None
    suspects: tuple[int, ...] = ()
    share: Share | None = None
    more_runs: int | None = None


Next = BisectFinding | int
"""The answer, or the hybrid to train next."""


def next_step(question: BisectQuestion, runs: Sequence[HybridRun], *, observed: float) -> Next:
    """Return the hybrid to train next, or the answer.

    Args:
        question: the question.
        runs: the finished runs, in any order.
        observed: the delta of the two checkpoints in question. They raised the question, so they
            are not evidence; but a delta that seeds do not explain is not called noise.
    """
    factors, every, resolution = question.factors, question.every, question.resolution
    counts = {bad: sum(run.bad == bad for run in runs) for bad in (0, every)}
    least = min(counts, key=lambda bad: counts[bad])
    if counts[least] < _LOOKS[0]:
        return least
    if not _differ(factors, runs, resolution=resolution):
        ends = MeasuredRuns([run for run in runs if run.bad in (0, every)], resolution=resolution)
        return _ends(ends, factors, observed=observed)
    return _search(question, MeasuredRuns(runs, resolution=resolution))


def _differ(factors: int, runs: Sequence[HybridRun], *, resolution: float) -> bool:
    """Whether the two ends differ at one of the planned looks.

    Once they differ, they stay different: runs added later to prove a share do not reopen this.
    """
    ends = [
        sorted((run for run in runs if run.bad == bad), key=lambda run: run.seed)
        for bad in (0, (1 << factors) - 1)
    ]
    delta, confidence = delta_of(factors), 1 - _LOOKS_ERROR / len(_LOOKS)
    for look in _LOOKS:
        if look > min(map(len, ends)):
            break
        seen = MeasuredRuns([*ends[0][:look], *ends[1][:look]], resolution=resolution)
        interval = seen.interval(delta, confidence=confidence)
        if not interval.low <= 0 <= interval.high:
            return True
    return False


def _ends(ends: MeasuredRuns, factors: int, *, observed: float) -> Next:
    """Return the next run of an end, or why there is nothing to search."""
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
        why = "trained with several seeds, the two recipes do not differ by more than seeds do"
        return BisectFinding(answer="noise", why=why, delta=found)
    why = (
        "the two checkpoints differ by more than seeds explain, but their recipes, retrained "
        "here, do not: check what is not in the recipe, such as library versions and hardware"
    )
    more = None if ratio < 1 else max(2, round(2 * count * ((3.5 / ratio) ** 2 - 1)))
    return BisectFinding(answer="undecided", why=why, delta=found, more_runs=more)


def _search(question: BisectQuestion, measured: MeasuredRuns) -> Next:
    """The next hybrid, or the cause."""
    factors = question.factors
    delta = measured.contrast(delta_of(factors))
    found = Share(delta, measured.interval(delta_of(factors), confidence=CONFIDENCE))
    if factors == 1:
        return BisectFinding(
            answer="culprit",
            why="this is the only difference between the recipes",
            delta=found,
            suspects=(0,),
            share=Share(1.0, Interval(1.0, 1.0)),
        )
    causes = possible_causes(question)
    chances = probabilities_of_causes(question, measured)
    suspects, chance = _suspects(causes, chances)
    if chance >= _SUSPECTED and suspects:
        return _proof(suspects, measured, factors=factors, delta=found)
    if chance >= _SUSPECTED:
        return _spread(measured, factors=factors, delta=found)
    return most_disputed(question, chances, measured)


class _Claim(NamedTuple):
    """A part of the delta that must certainly exceed a share of it."""

    part: Weights
    least: float


def _proof(suspects: int, measured: MeasuredRuns, *, factors: int, delta: Share) -> Next:
    """Return the next run of a proof, or its result."""
    every = (1 << factors) - 1
    single = _stands_out(suspects, measured, factors=factors)
    if single is not None and single != suspects:
        return _proof(single, measured, factors=factors, delta=delta)
    for bad in (suspects, every & ~suspects):
        if measured.count(bad) < _PROOFS[0]:
            return bad
    named = tuple(factor for factor in range(factors) if suspects >> factor & 1)
    answer: Answer = "pair" if len(named) == 2 else "culprit"
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
        few = f"{_PROOFS[1]} runs of each hybrid do not prove the share of the suspects"
        return BisectFinding(
            answer="undecided",
            why=few,
            delta=delta,
            suspects=named,
            share=share,
            more_runs=_runs_to_prove(found, claim, measured),
        )
    why = {
        "culprit": "it alone breaks the good recipe, and removing it alone repairs the bad one",
        "pair": "no single factor: these two cause it together, and each adds to the effect of the "
        "other",
    }
    return BisectFinding(answer=answer, why=why[answer], delta=delta, suspects=named, share=share)


def _stands_out(suspects: int, measured: MeasuredRuns, *, factors: int) -> int | None:
    """Return which of two suspects seems to do most of it alone, if both were tried alone."""
    whole, found = delta_of(factors), {}
    for factor in range(factors):
        part = part_of(1 << factor, factors)
        if suspects >> factor & 1 and all(measured.count(bad) for bad in part):
            found[1 << factor] = measured.share(part, whole, confidence=CONFIDENCE).value
    best = max(found, key=lambda bits: found[bits], default=None)
    both = suspects.bit_count() == len(found) == 2
    return best if best is not None and both and found[best] > _STANDS_OUT else None


def _claims(suspects: int, factors: int) -> list[_Claim]:
    """Claim that the suspects do most of it and, of two, that each adds to the other's effect."""
    whole = part_of(suspects, factors)
    found = [_Claim(whole, MAJORITY)]
    alone = [1 << factor for factor in range(factors) if suspects >> factor & 1]
    for other in alone if len(alone) == 2 else ():
        less = part_of(other, factors)
        added = {bad: whole.get(bad, 0.0) - less.get(bad, 0.0) for bad in {**whole, **less}}
        found.append(_Claim({bad: weight for bad, weight in added.items() if weight}, 0.0))
    return found


def _runs_to_prove(share: Share, claim: _Claim, measured: MeasuredRuns) -> int | None:
    """Estimate how many more runs lift the lower bound above the claim; None: no number would."""
    if share.interval is None or share.value <= claim.least:
        return None
    done = sum(measured.counts[bad] for bad in claim.part)
    shrink = (share.value - share.interval.low) / (share.value - claim.least)
    more = max(1, round(done * (shrink**2 - 1)))
    return more if more < 1000 else None


def _spread(measured: MeasuredRuns, *, factors: int, delta: Share) -> Next:
    """Handle a delta that no one or two factors explain: say so once every factor was tried."""
    every = (1 << factors) - 1
    for bad in (1 << factor for factor in range(factors)):
        for cell in (bad, every & ~bad):
            if not measured.count(cell):
                return cell
    why = "no one or two factors explain more than half of the delta: it is spread over several"
    return BisectFinding(answer="undecided", why=why, delta=delta)


def usual_runs(factors: int) -> int:
    """Return roughly how many runs find one culprit whose effect exceeds the noise of seeds.

    Measured by `scripts/bench_bisect.py`; a pair, or noise, takes up to twice as many.
    """
    return 9 + math.ceil(math.log2(factors)) if factors else 0


def undecided(question: BisectQuestion, runs: Sequence[HybridRun], *, budget: str) -> BisectFinding:
    """Return what is known when the budget has run out, and estimate how many more runs decide.

    Args:
        question: the question.
        runs: the finished runs.
        budget: which budget has run out, in words.
    """
    ends = [sum(run.bad == bad for run in runs) for bad in (0, question.every)]
    if min(ends) < _LOOKS[0]:
        more = 2 * _LOOKS[1] - sum(ends) + usual_runs(question.factors)
        return BisectFinding(answer="undecided", why=budget, more_runs=more)
    measured, whole = MeasuredRuns(runs, resolution=question.resolution), delta_of(question.factors)
    delta = Share(measured.contrast(whole), measured.interval(whole, confidence=CONFIDENCE))
    if not _differ(question.factors, runs, resolution=question.resolution):
        more = max(1, 2 * _LOOKS[-1] - sum(ends))
    else:
        more = _runs_left(question, measured, abs(delta.value) / measured.noise.deviation)
    return BisectFinding(answer="undecided", why=budget, delta=delta, more_runs=more)


def _runs_left(question: BisectQuestion, measured: MeasuredRuns, ratio: float) -> int:
    """Estimate how many runs find one culprit and prove it.

    A run yields at most `log2(1 + (ratio / 2)**2) / 2` bits: Shannon, "A mathematical theory of
    communication" (1948), the capacity of a channel with Gaussian noise.

    Args:
        question: the question.
        measured: the runs so far.
        ratio: the delta in standard deviations between seeds.
    """
    chances: list[float] = probabilities_of_causes(question, measured).tolist()
    bits = -math.fsum(chance * math.log2(chance) for chance in chances if chance > 0)
    each = math.log2(1 + ratio * ratio / 4) / 2
    proof = 2 * max(_PROOFS[0], math.ceil(36 / ratio / ratio))
    return math.ceil(bits / max(0.01, min(1.0, each))) + proof


def _suspects(causes: Sequence[Cause], chances: Floats) -> tuple[int, float]:
    """Return the most probable set of factors, as bits, however they act, and its probability.

    If either of two factors may be the cause, they are suspected together unless one is alone.
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
