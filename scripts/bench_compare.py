"""Measure `ftreg compare` on evaluations with known truth.

Several evaluations of the same examples are drawn. If all are equally good, it prints how often
any two are distinguished, over all examples and in the cohorts (each a separate family), and how
often there is a winner. If one is better, it prints how often the others are distinguished from
each other, how often a true rank is outside the reported ones, and how often the better one is
distinguished and wins, beside the normal approximation at the Bonferroni-corrected level. It also
prints how often the intervals of means and deltas miss the truth. Exits with 1 if a rate exceeds
its 5 % target by more than three standard errors.

A plan such as "4 x 200, 2 and 4" has 4 evaluations of 200 examples, 2 scorers and 4 cohorts.

    python scripts/bench_compare.py --quick    # a minute
    python scripts/bench_compare.py            # twenty minutes
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from bench_gate import TARGET, Rate, even, lattice, show, skewed_down, zero_inflated
from bench_gate import World as Change
from numpy.typing import NDArray
from scipy.stats import norm

from ftreg.gate import GatePolicy
from ftreg.gate.contest import Contest
from ftreg.gate.tournament import hold_tournament
from ftreg.gate.verdict import PRIMARY

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int, float], Floats]

GAIN = 0.03
"""How much better the better one of a world is, in mean score."""
FLIPS = 0.1
"""Share of binary scores that an evaluation flips."""


@dataclass(frozen=True, slots=True)
class World:
    """Evaluations of the same examples.

    `draw(generator, count, examples, gain)` gives scores in [0, 1] of shape (count, examples), with
    a true mean of 0.5 each, and of 0.5 + gain for the last.
    """

    name: str
    draw: Draw


def around(change: Change) -> Draw:
    """Shift a common baseline by the changes of a `bench_gate` world; the first is not shifted.

    So deltas from the first have that world's skewness; those of all other pairs are symmetric.
    """

    def draw(generator: np.random.Generator, count: int, examples: int, gain: float) -> Floats:
        base = generator.uniform(0.4, 0.6, examples)
        pairs = [
            change(generator, examples, -gain if last else 0.0)
            for last in [False] * (count - 2) + [True]
        ]
        return np.stack([base, *(base + after - before for before, after in pairs)])

    return draw


def binary(generator: np.random.Generator, count: int, examples: int, gain: float) -> Floats:
    """Draw scores of 0 and 1 that each evaluation flips on a share of the examples."""
    base = generator.integers(0, 2, examples).astype(float)
    flips = np.full((count, examples), FLIPS)
    flips[-1, base == 0] += 2 * gain  # half of the examples are 0
    return np.where(generator.random((count, examples)) < flips, 1 - base, base)


WORLDS = (
    World("bounded", around(even)),
    World("skewed", around(skewed_down)),
    World("zero-inflated", around(zero_inflated)),
    World("tied tenths", around(lattice(0.1, 0.3))),
    World("binary", binary),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A comparison: its number of evaluations, examples, scorers and cohorts."""

    evaluations: int
    examples: int
    scorers: int = 1
    cohorts: int = 0

    def __str__(self) -> str:
        return f"{self.evaluations} x {self.examples}, {self.scorers} and {self.cohorts}"

    @property
    def pairs(self) -> int:
        """Pairs of evaluations in the family of all examples."""
        return self.scorers * math.comb(self.evaluations, 2)

    def trials(self, most: int) -> int:
        """Return how many simulations: fewer of the plans with thousands of comparisons."""
        return max(most // (1 + self.pairs * (1 + self.cohorts) // 12), min(most, 50))


EQUAL = (
    Plan(2, 50),
    Plan(4, 50),
    Plan(4, 200, scorers=2, cohorts=4),
    Plan(4, 1000, scorers=4),
    Plan(8, 500, cohorts=4),
)
BETTER = (Plan(2, 200), Plan(4, 200), Plan(4, 500), Plan(4, 1000), Plan(8, 1000))

ERRORS = ("all examples", "cohorts", "winner", "ranks", "mean", "delta")
"""Events that must not occur in more than 5 % of the comparisons, see `judge`."""


def compare(
    world: World,
    plan: Plan,
    *,
    gain: float,
    policy: GatePolicy,
    generator: np.random.Generator,
) -> list[Contest]:
    """Draw evaluations, the last of them better by `gain`, and compare them."""
    names = [f"evaluation {number}" for number in range(plan.evaluations)]
    ids = [f"e{number:05d}" for number in range(plan.examples)]
    sides: dict[str, dict[str, dict[str, float]]] = {name: {} for name in names}
    for scorer in range(plan.scorers):
        drawn = world.draw(generator, plan.evaluations, plan.examples, gain)
        for name, row in zip(names, drawn.tolist(), strict=True):
            sides[name][f"scorer {scorer}"] = dict(zip(ids, row, strict=True))
    cohorts = {
        name: {"part": str(number % plan.cohorts)}
        for number, name in enumerate(ids)
        if plan.cohorts
    }
    return hold_tournament(sides, policy, cohorts=cohorts or None)


def judge(contests: list[Contest], *, gain: float) -> set[str]:
    """Return the events of one comparison: `ERRORS` and correct findings.

    `all examples` and `cohorts`: two equal ones are distinguished. `winner`: one that is not better
    than all others has won. `ranks`: a true rank is outside the reported ones. `mean`, `delta`: the
    interval of the last evaluation's mean, or of its delta from the first, misses the truth.
    `told`: the last is distinguished from the first, and higher; `won`: from all others.
    """
    found = set()
    for contest in contests:
        best = contest.means[-1].evaluation
        false = [
            pair
            for pair in contest.pairs
            if pair.told_apart and not (gain and pair.second == best and pair.delta > 0)
        ]
        if false:
            found.add("all examples" if contest.cohort == PRIMARY else "cohorts")
        if contest.winner is not None and not (gain and contest.winner == best):
            found.add("winner")
        found |= _ranks(contest, gain=gain)
    first = contests[0]
    mean, pair = first.means[-1], first.pair(first.means[0].evaluation, first.means[-1].evaluation)
    assert mean.interval is not None and pair is not None
    if not mean.interval.low <= 0.5 + gain <= mean.interval.high:
        found.add("mean")
    if not pair.interval.low <= gain <= pair.interval.high:
        found.add("delta")
    if pair.told_apart and pair.delta > 0:
        found.add("told")
    if first.winner == first.means[-1].evaluation:
        found.add("won")
    return found


def _ranks(contest: Contest, *, gain: float) -> set[str]:
    """Look for a true rank outside the reported ones: ties may have any of their ranks."""
    count = len(contest.means)
    for number, mean in enumerate(contest.means):
        if mean.ranks is None:
            continue
        best = gain and number == count - 1
        true = (1, 1) if best else (2, count) if gain else (1, count)
        if mean.ranks[0] > true[0] or mean.ranks[1] < true[1]:
            return {"ranks"}
    return set()


class Bench:
    """Runs the simulations and records missed targets."""

    def __init__(self, *, trials: int, seed: int) -> None:
        self.trials = trials
        self.generator = np.random.default_rng(seed)
        self.policy = GatePolicy()
        self.missed: list[str] = []

    def rates(self, world: World, plan: Plan, *, gain: float) -> dict[str, Rate]:
        """Simulate one cell; returns the rate of everything that `judge` finds."""
        trials = plan.trials(self.trials)
        counts: Counter[str] = Counter()
        for _ in range(trials):
            contests = compare(world, plan, gain=gain, policy=self.policy, generator=self.generator)
            counts.update(judge(contests, gain=gain))
        found = {name: Rate(counts[name], trials) for name in (*ERRORS, "told", "won")}
        for name in ERRORS:
            rate = found[name]
            if rate.share - 3 * rate.error > TARGET:
                self.missed.append(f"{name}, {world.name}, {plan}, gain {gain:g}: {rate} %")
        return found

    def equal(self) -> Iterator[str]:
        """Measure false findings with no difference."""
        yield "\nAll are equal: differences found and intervals that miss, % (target: at most 5)"
        yield (
            f"{'scores':15}{'evaluations x examples':28}"
            + "".join(f"{name:>14}" for name in ERRORS if name != "ranks")
        )
        for world in WORLDS:
            for plan in EQUAL:
                found = self.rates(world, plan, gain=0.0)
                cells = {name: str(found[name]) for name in ERRORS if name != "ranks"}
                if not plan.cohorts:
                    cells["cohorts"] = "-"
                yield f"{world.name:15}{plan!s:28}" + "".join(
                    f"{cell:>14}" for cell in cells.values()
                )

    def better(self) -> Iterator[str]:
        """Measure findings when one of them is better."""
        yield (
            f"\nOne is better by {GAIN}: false differences and ranks, %, intervals that miss, % "
            "(target: 5), and the true difference found, %"
        )
        names = ("all examples", "ranks", "mean", "delta", "told", "won")
        yield (
            f"{'scores':15}{'evaluations x examples':28}"
            + "".join(f"{name:>14}" for name in names)
            + f"{'normal curve':>14}"
        )
        for world in WORLDS:
            drawn = world.draw(self.generator, 2, 400_000, 0.0)
            spread = float((drawn[1] - drawn[0]).std())
            for plan in BETTER:
                found = self.rates(world, plan, gain=GAIN)
                theory = power(spread, plan)
                yield (
                    f"{world.name:15}{plan!s:28}"
                    + "".join(f"{found[name]!s:>14}" for name in names)
                    + f"{100 * theory:>14.0f}"
                )


def power(spread: float, plan: Plan) -> float:
    """Return the power of a z test at Bonferroni's level between the first and the last.

    Args:
        spread: standard deviation of their paired deltas.
        plan: how many pairs share the level, and how many examples there are.
    """
    level = norm.isf(TARGET / 2 / plan.pairs)
    return float(norm.sf(level - GAIN / spread * math.sqrt(plan.examples)))


def main() -> int:
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser(description="Measure the comparison with known truth.")
    parser.add_argument("--quick", action="store_true", help="fewer simulations")
    parser.add_argument("--trials", type=int, help="simulations per cell (quick: 50, else 1000)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    trials = arguments.trials or (50 if arguments.quick else 1000)
    bench = Bench(trials=trials, seed=arguments.seed)
    print(
        f"confidence {bench.policy.confidence}, at most {trials} simulations per cell; "
        "a rate with its standard error"
    )
    return show((bench.equal, bench.better), bench.missed)


if __name__ == "__main__":
    sys.exit(main())
