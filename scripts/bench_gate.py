"""Measure the gate on comparisons with known truth.

Each case tests one way for a gate to claim too much, or too little. It prints the rate of the wrong
outcome (or the power), in % with its Monte-Carlo standard error, and its target. Worlds are drawn
with generators different from the gate's own (Philox). Exits with 1 if a rate misses its target by
more than three standard errors.

    python scripts/bench_gate.py --quick              # three minutes on two cores
    python scripts/bench_gate.py                      # a quarter of an hour
    python scripts/bench_gate.py --only clusters      # one case
"""

import argparse
import math
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftreg.errors import UsageError
from ftreg.gate import GatePolicy, Looks, Order, Verdict, compare
from ftreg.gate.spending import LEAST_LEVEL, pass_level, pass_policy

Floats = NDArray[np.float64]
Sides = tuple[Floats, Floats]
World = Callable[[np.random.Generator, int, float], Sides]
"""Draws baseline and candidate scores of n examples whose true mean drop is given."""

MARGIN = 0.02
TARGET = 0.05
POLICY = GatePolicy(margin=MARGIN)


# -- worlds ------------------------------------------------------------------------------------


def even(generator: np.random.Generator, n: int, drop: float, *, width: float = 0.2) -> Sides:
    """Every score moves a little, evenly."""
    baseline = generator.uniform(0.4, 0.6, n)
    return baseline, baseline + generator.uniform(-width, width, n) - drop


def skewed_down(generator: np.random.Generator, n: int, drop: float) -> Sides:
    """Mostly small gains and a long tail of drops (skewness -1.9)."""
    baseline = generator.uniform(0.4, 0.6, n)
    return baseline, baseline + 0.05 - drop - 0.3 * generator.beta(0.5, 2.5, n)


def skewed_up(generator: np.random.Generator, n: int, drop: float) -> Sides:
    """Mostly small drops and a long tail of gains."""
    baseline = generator.uniform(0.4, 0.6, n)
    return baseline, baseline - 0.05 - drop + 0.3 * generator.beta(0.5, 2.5, n)


def zero_inflated(generator: np.random.Generator, n: int, drop: float) -> Sides:
    """15 % of the scores move."""
    baseline = generator.uniform(0.4, 0.6, n)
    moved = generator.uniform(-0.2, 0.2, n) - drop / 0.15
    return baseline, baseline + np.where(generator.random(n) < 0.15, moved, 0.0)


def lattice(step: float, changed: float) -> World:
    """Scores in steps; a share of them moves by one step."""

    def draw(generator: np.random.Generator, n: int, drop: float) -> Sides:
        down = (changed + drop / step) / 2
        drawn = generator.random(n)
        moved = step * ((drawn > 1 - changed + down).astype(float) - (drawn < down))
        levels = np.arange(step, 1 - step / 2, step)
        baseline = generator.choice(levels, n) if step < 1 else (drawn < down).astype(float)
        if step == 1:
            still = moved == 0
            baseline[still] = generator.integers(0, 2, int(still.sum()))
        return baseline, baseline + moved

    return draw


def mostly_right(generator: np.random.Generator, n: int, drop: float) -> Sides:
    """1 except for a few examples of each side, anywhere in [0.3, 1]."""

    def side(share: float) -> Floats:
        return np.where(generator.random(n) < share, generator.uniform(0.3, 1, n), 1.0)

    return side(0.05), side(0.05 + drop / 0.35)


def collapses(share: float, size: float) -> World:
    """Slight noise, and a large drop on a share of the examples; the mean drop is share x size."""

    def draw(generator: np.random.Generator, n: int, _: float) -> Sides:
        baseline = generator.uniform(0.9, 0.98, n)
        fell = generator.random(n) < share
        return baseline, baseline + generator.uniform(-0.01, 0.01, n) - np.where(fell, size, 0.0)

    return draw


def rare_gains(share: float, size: float) -> World:
    """A share of the examples gains much, the others lose the same amount in total."""

    def draw(generator: np.random.Generator, n: int, _: float) -> Sides:
        baseline = generator.uniform(0.3, 0.5, n)
        won = generator.random(n) < share
        return baseline, baseline + np.where(won, size, -share * size / (1 - share))

    return draw


def slips_and_losses(generator: np.random.Generator, n: int, _: float) -> Sides:
    """Every score drops by 0.015, and 0.55 % drop to 0: 0.0203 in total."""
    baseline = generator.uniform(0.96, 1.0, n)
    lost = generator.random(n) < 0.0055
    return baseline, np.where(lost, 0.0, baseline - 0.015)


def many_sizes(generator: np.random.Generator, n: int, drop: float) -> Sides:
    """A long tail of losses of every size up to all: twice as large ones are 1.4 times as rare."""
    tail = np.minimum(1.0, (2.5 / n / np.maximum(0.3 * generator.random(n), 1e-9)) ** 2)
    # The mean of min(1, (a / u) ** 2) for u in (0, 0.3) is (2 a - a ** 2 / 0.3) / 0.3.
    mean = 2.5 / n * (2 - 2.5 / n / 0.3)
    losses = np.where(generator.random(n) < 0.3, tail, 0.0)
    baseline = np.where(losses > 0.8, 1.0, generator.uniform(0.8, 0.9, n))
    return baseline, baseline - losses + mean - drop


def gains_from_nothing(generator: np.random.Generator, n: int, drop: float) -> Sides:
    """2 % go from 0 to 1, far from any other score; the others lose equally."""
    baseline = generator.uniform(0.4, 0.6, n)
    won = generator.random(n) < 0.02
    return np.where(won, 0.0, baseline), np.where(won, 1.0, baseline - (0.02 + drop) / 0.98)


SHAPES: Mapping[str, World] = {
    "even": even,
    "skewed down": skewed_down,
    "skewed up": skewed_up,
    "zero-inflated": zero_inflated,
    "quarters": lattice(0.25, 0.1),
    "fifths": lattice(0.2, 0.3),
    "mostly 1": mostly_right,
    "binary 3 %": lattice(1.0, 0.03),
    "binary 10 %": lattice(1.0, 0.1),
}


# -- what a case needs --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of simulations, with its Monte-Carlo standard error."""

    hits: int
    trials: int

    @property
    def share(self) -> float:
        """The share of hits."""
        return self.hits / self.trials

    @property
    def error(self) -> float:
        """The standard error, never 0: no hits in n does not mean a rate of 0."""
        share = (self.hits + 0.5) / (self.trials + 1)
        return math.sqrt(share * (1 - share) / self.trials)

    def __str__(self) -> str:
        return f"{100 * self.share:5.1f} ±{100 * self.error:3.1f}"


@dataclass(slots=True)
class Run:
    """A running case: its draws, its size, and its missed targets."""

    name: str
    trials: int
    generator: np.random.Generator
    lines: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def say(self, what: str, found: object, target: str = "", *, holds: bool = True) -> None:
        """Record one line: what was measured, the result, and its target."""
        mark = " " if holds else "*"
        self.lines.append(f"  {what:58} {found!s:>16}{mark} {target}".rstrip())
        if not holds:
            self.missed.append(f"{self.name}: {what}: {found}, target {target}")

    def at_most(self, what: str, rate: Rate, most: float = TARGET) -> None:
        """Check a rate against an upper limit."""
        self.say(what, rate, f"<= {100 * most:g}", holds=rate.share - 3 * rate.error <= most)

    def within(self, what: str, rate: Rate, low: float, high: float) -> None:
        """Check a rate against a range, in %."""
        error = 300 * rate.error
        holds = low - error <= 100 * rate.share <= high + error
        self.say(what, rate, f"{low:g} to {high:g}", holds=holds)

    def rate(self, hit: Callable[[], bool], *, trials: int | None = None) -> Rate:
        """Return the rate of an event."""
        trials = trials or self.trials
        return Rate(sum(hit() for _ in range(trials)), trials)

    def outcome(self, world: World, n: int, drop: float, **options: Any) -> str:
        """Return the outcome of one comparison."""
        return judge(*world(self.generator, n, drop), **options).outcome


def judge(
    baseline: Floats,
    candidate: Floats,
    *,
    policy: GatePolicy = POLICY,
    cohorts: NDArray[np.int64] | None = None,
    clusters: NDArray[np.int64] | None = None,
    plan: bool = False,
    **options: Any,
) -> Verdict:
    """Compare two arrays of scores of one scorer."""
    ids = [f"e{position:06d}" for position in range(len(baseline))]
    return compare(
        {"scorer": column(baseline)},
        {"scorer": column(candidate)},
        policy,
        cohorts=cohorts
        if cohorts is None
        else {name: {"part": str(part)} for name, part in zip(ids, cohorts, strict=True)},
        clusters=clusters
        if clusters is None
        else {name: str(part) for name, part in zip(ids, clusters, strict=True)},
        plan=plan,
        **options,
    )


def column(scores: Floats) -> dict[str, Any]:
    """Return scores by id, None for NaN; a list each for several seeds."""
    clipped = np.clip(scores, 0, 1)
    if scores.ndim > 1:
        return {f"e{at:06d}": row for at, row in enumerate(clipped.tolist())}
    return {
        f"e{at:06d}": None if math.isnan(score) else score
        for at, score in enumerate(clipped.tolist())
    }


# -- the cases ----------------------------------------------------------------------------------


def inside(run: Run) -> None:
    """Only a drop of more than the margin is a regression."""
    for times in (0.5, 0.75, 1.0):
        for name in ("even", "quarters", "binary 10 %"):
            world = SHAPES[name]
            rate = run.rate(
                lambda w=world, t=times: run.outcome(w, 200, t * MARGIN) == "regression"
            )
            run.at_most(f"regression at {times:g} x margin, n = 200, {name}", rate)
    for cohorts in (10, 40):
        parts = np.arange(2000) % cohorts
        rate = run.rate(
            lambda p=parts: run.outcome(even, 2000, 0.5 * MARGIN, cohorts=p) == "regression",
            trials=max(run.trials // 5, 50),
        )
        run.at_most(f"regression, {cohorts} cohorts each down half a margin", rate)
    for times in (1.5, 2.0, 3.0):
        rate = run.rate(lambda t=times: run.outcome(even, 200, t * MARGIN) == "regression")
        run.say(f"power: regression at {times:g} x margin, n = 200, even", rate)


def drift(run: Run) -> None:
    """The anchor catches a cohort that loses a little with each promotion."""
    policy = POLICY.model_copy(update={"margin": 0.05})
    parts = np.where(np.arange(500) < 30, 0, 1)

    def chain() -> bool:
        anchor = run.generator.uniform(0.6, 0.9, 500)
        baseline = anchor
        for _ in range(10):
            fall = np.where(parts == 0, 0.03, -0.03 * 30 / 470)
            candidate = np.clip(baseline + run.generator.uniform(-0.02, 0.02, 500) - fall, 0, 1)
            verdict = judge(
                baseline,
                candidate,
                policy=policy,
                cohorts=parts,
                anchor={"scorer": column(anchor)},
            )
            if verdict.outcome != "pass":
                return False
            baseline = candidate
        return True

    rate = run.rate(chain, trials=max(run.trials // 10, 40))
    run.at_most("a cohort of 30 in 500 is down 30 points in 10 passes", rate)


def collapse(run: Run) -> None:
    """A drop of the margin caused by few examples does not pass."""
    for n in (50, 100, 149, 200, 400):
        rate = run.rate(lambda n=n: run.outcome(collapses(0.025, 0.8), n, 0) == "pass")
        run.at_most(f"pass although 2.5 % of the rows lose 0.8, n = {n}", rate)
    fine = POLICY.model_copy(update={"margin": 0.01})
    for n in (50, 100, 200, 299, 400):
        rate = run.rate(
            lambda n=n: run.outcome(collapses(0.0101, 0.99), n, 0, policy=fine) == "pass"
        )
        run.at_most(f"pass although 1 % lose all, margin 0.01, n = {n}", rate)
    for n in (50, 149, 200):
        rate = run.rate(lambda n=n: run.outcome(lattice(0.2, 0.1), n, MARGIN) == "pass")
        run.at_most(f"pass of a 1 to 5 rubric down a margin, n = {n}", rate)
    for n in (149, 200, 300):
        rate = run.rate(lambda n=n: run.outcome(slips_and_losses, n, 0) == "pass")
        run.at_most(f"pass although all slip and 0.55 % lose all, n = {n}", rate)
    for n in (149, 300):
        rate = run.rate(lambda n=n: run.outcome(many_sizes, n, MARGIN) == "pass")
        run.at_most(f"pass of losses of every size, n = {n}", rate)


def stuck(run: Run) -> None:
    """A scorer that distinguishes nothing does not pass."""
    for value in (0.5, 0.0, 1.0):
        scores = np.full(400, value)
        found = judge(scores, scores).outcome
        run.say(f"all scores are {value:g}", found, "undecided", holds=found != "pass")


def power(run: Run) -> None:
    """The number of examples in a verdict suffices in four of five cases."""
    pilots = max(run.trials // 10, 30)
    for name, world in SHAPES.items():
        for n in (60, 200):
            asked: list[int] = []

            def hit(world: World = world, n: int = n, asked: list[int] = asked) -> bool:
                (row,) = judge(*world(run.generator, n, 0.0), plan=True).rows
                asked.append(row.n_needed or n)
                return run.outcome(world, asked[-1], 0.0) == "pass"

            rate = run.rate(hit, trials=4 * pilots)
            # The fewest examples that may pass may be more than four of five cases need.
            fewest = float(np.median(asked)) <= POLICY.least_units(MARGIN)
            what = f"pass with as many as {n} examples ask for, {name}"
            run.within(what, rate, 75, 100 if fewest else 90)
    scores = run.generator.uniform(0.2, 0.9, 200)
    (row,) = judge(scores, scores, plan=True).rows
    run.say("asked for by identical scores", row.n_needed, "149", holds=row.n_needed == 149)


def ranges(run: Run) -> None:
    """The range around that number covers the true one as often as stated."""
    for name, truth in (("even", 258), ("binary 10 %", 1950)):
        covered = 0
        trials = max(run.trials // 5, 60)
        for _ in range(trials):
            (row,) = judge(*SHAPES[name](run.generator, 60, 0.0), plan=True).rows
            low, high = row.n_needed_range or (0, 0)
            covered += low <= truth <= high
        rate = Rate(covered, trials)
        run.within(f"range of 60 examples around {truth}, {name}", rate, 80, 100)


def detectable(run: Run) -> None:
    """The detectable drop of a verdict is found in four of five cases."""
    for name in ("even", "fifths", "mostly 1", "binary 10 %"):
        world = SHAPES[name]
        for n in (200, 800):

            def hit(world: World = world, n: int = n) -> bool:
                (row,) = judge(*world(run.generator, n, 0.0), plan=True).rows
                drop = row.detectable_drop
                return drop is not None and run.outcome(world, n, drop) == "regression"

            rate = run.rate(hit, trials=max(run.trials // 2, 80))
            run.within(f"regression at the detectable drop, n = {n}, {name}", rate, 70, 95)


def rare(run: Run) -> None:
    """Equal means with rare gains are not a regression."""
    for share, sizes in ((0.1, (10, 20, 50)), (0.05, (20, 50, 100))):
        for n in sizes:
            rate = run.rate(
                lambda s=share, n=n: run.outcome(rare_gains(s, 0.5), n, 0) == "regression"
            )
            run.at_most(f"regression, {100 * share:g} % gain 0.5, means equal, n = {n}", rate)
    for n in (30, 60, 149):
        rate = run.rate(lambda n=n: run.outcome(gains_from_nothing, n, MARGIN) == "regression")
        run.at_most(f"regression, 2 % gain 1 from nothing, down a margin, n = {n}", rate)

    def family() -> bool:
        pairs = [rare_gains(0.05, 0.5)(run.generator, 50, 0) for _ in range(4)]
        sides = [{f"s{at}": column(pair[side]) for at, pair in enumerate(pairs)} for side in (0, 1)]
        return compare(*sides, POLICY, plan=False).outcome == "regression"

    run.at_most("regression, 5 % gain 0.5, four scorers, n = 50", run.rate(family))

    def small() -> bool:
        sides = [(run.generator.random(800) > 0.05).astype(float) for _ in "ab"]
        parts = np.arange(800) % 40
        return judge(sides[0], sides[1], cohorts=parts).outcome == "regression"

    rate = run.rate(small, trials=max(run.trials // 2, 50))
    run.at_most("regression, equal binary models in 40 cohorts of 20", rate)


def critical(run: Run) -> None:
    """A critical example is not worse merely by the noise of all scores."""

    def normal(deviation: float) -> Sides:
        baseline = run.generator.uniform(0.4, 0.6, 200)
        return baseline, baseline + run.generator.normal(0, deviation, 200)

    for count in (1, 3, 5):
        marked = [f"e{at:06d}" for at in range(count)]
        rate = run.rate(
            lambda m=marked: bool(
                judge(*even(run.generator, 200, 0.0, width=0.02), critical=m).critical
            )
        )
        run.at_most(f"{count} critical rows fall, graded noise of 0.02, equal models", rate)
        rate = run.rate(lambda m=marked: bool(judge(*normal(0.1), critical=m).critical))
        run.at_most(f"{count} critical rows fall, normal noise of 0.1, equal models", rate)

    def fallen() -> bool:
        baseline, candidate = even(run.generator, 200, 0.0, width=0.02)
        candidate[0] -= 0.1
        return bool(judge(baseline, candidate, critical=["e000000"]).critical)

    run.within("power: one critical row that falls by 0.1 is found", run.rate(fallen), 95, 100)


def floors(run: Run) -> None:
    """Floors together fail, and pass, by chance as rarely as rows regress and pass."""
    names, n = "abcd", 400

    policy = GatePolicy(margin=0.05, floors=dict.fromkeys(names, 0.5))

    def hit(wrong: str, at_floor: int) -> bool:
        side = {
            name: column((run.generator.random(n) < (0.5 if at < at_floor else 0.7)).astype(float))
            for at, name in enumerate(names)
        }
        return compare(side, side, policy, plan=False).outcome == wrong

    rate = run.rate(lambda: hit("regression", 4))
    run.at_most("regression, four means on their floors", rate)
    rate = run.rate(lambda: hit("pass", 1))
    run.at_most("pass, one of four means on its floor", rate)


def missing(run: Run) -> None:
    """Scores missing only for the candidate do not hide a drop."""
    policy = POLICY.model_copy(update={"max_missing": 0.05})

    def hit(n: int) -> bool:
        baseline = run.generator.uniform(0.6, 0.9, n)
        candidate = baseline + run.generator.uniform(-0.05, 0.05, n)
        lost = run.generator.random(n) < 0.045
        candidate[lost] = np.nan  # outputs so bad that they have no score: a true drop of 3.4
        return judge(baseline, candidate, policy=policy).outcome == "pass"

    for n in (200, 500, 2000):
        run.at_most(f"pass although 4.5 % have no score, n = {n}", run.rate(lambda n=n: hit(n)))
    baseline, candidate = even(run.generator, 100, 0.0)
    candidate[:60] = np.nan
    verdict = judge(baseline, candidate, plan=True)
    (reason,) = verdict.reasons
    holds = verdict.outcome == "undecided" and "60 of 100" in reason and "decide" not in reason
    run.say("60 of 100 have no score, and more would not help", verdict.outcome, holds=holds)


def untested(run: Run) -> None:
    """A pass lists the cohorts that it does not cover."""
    parts = np.arange(400) % 5
    silent = passed = 0
    for _ in range(run.trials):
        baseline, candidate = even(run.generator, 400, 0.0, width=0.1)
        candidate = candidate - np.where(parts == 0, 2.5 * MARGIN, -2.5 * MARGIN / 4)
        verdict = judge(baseline, candidate, cohorts=parts)
        if verdict.outcome == "pass":
            passed += 1
            silent += "not shown for" not in verdict.reasons[0]
    run.say("one of five ungated cohorts is down 2.5 margins: passes", Rate(passed, run.trials))
    run.at_most("of these, passes that do not say so", Rate(silent, max(passed, 1)), 0)


def caution(run: Run) -> None:
    """No more examples are needed than for a t test that knows the truth."""
    for name, world in SHAPES.items():
        baseline, candidate = world(run.generator, 400_000, 0.0)
        spread = float((candidate - baseline).std())
        oracle = max(POLICY.least_units(MARGIN), math.ceil((2.8016 * spread / MARGIN) ** 2))
        n = math.floor(1.15 * oracle)
        rate = run.rate(lambda w=world, n=n: run.outcome(w, n, 0.0) == "pass")
        run.within(f"pass at 1.15 x the oracle's {oracle}, {name}", rate, 80, 100)


def false_pass(run: Run) -> None:
    """A drop of the margin does not pass, for any shape."""
    for name, world in SHAPES.items():
        for n in (149, 200, 500, 1000):
            if name == "binary 3 %" and n > 500:
                continue
            rate = run.rate(lambda w=world, n=n: run.outcome(w, n, MARGIN) == "pass")
            run.at_most(f"pass at the margin, n = {n}, {name}", rate)


def false_regression(run: Run) -> None:
    """Equal models are not a regression, over all rows together."""
    for name, world in SHAPES.items():
        for n, cohorts in ((50, 1), (200, 4), (1000, 40)):
            parts = np.arange(n) % cohorts
            rate = run.rate(
                lambda w=world, n=n, p=parts: run.outcome(w, n, 0.0, cohorts=p) == "regression",
                trials=max(run.trials // (1 + cohorts // 4), 50),
            )
            run.at_most(f"regression of equals, n = {n} in {cohorts + 1} rows, {name}", rate)


def clusters(run: Run) -> None:
    """Clusters of unequal size are weighted correctly."""
    for name, tail in (("even", 0.0), ("a few large", 1.2)):
        for count in (60, 150, 300):
            for drop, wrong in ((MARGIN, "pass"), (MARGIN, "regression")):

                def hit(c: int = count, d: float = drop, w: str = wrong, t: float = tail) -> bool:
                    sizes = 1 + run.generator.integers(0, 9, c)
                    if t:
                        sizes = np.ceil(run.generator.lognormal(0.7, t, c)).astype(int)
                    groups = np.repeat(np.arange(c), sizes)
                    shared = run.generator.uniform(-0.15, 0.15, c)[groups]
                    own = run.generator.uniform(-0.15, 0.15, len(groups))
                    baseline = run.generator.uniform(0.4, 0.6, len(groups))
                    policy = POLICY.model_copy(update={"min_clusters": 1})
                    deltas = (shared + own) / 2 - d
                    return (
                        judge(baseline, baseline + deltas, clusters=groups, policy=policy).outcome
                        == w
                    )

                run.at_most(f"{wrong} at the margin, {count} clusters, {name}", run.rate(hit))


def family(run: Run) -> None:
    """Rows unrelated to a drop cost little of the power to find it."""
    drop, n = 2.6 * MARGIN, 200
    alone = run.rate(lambda: run.outcome(even, n, drop) == "regression")
    run.say("power: regression at 2.6 x margin, one row", alone)
    ids = [f"e{at:06d}" for at in range(n)]
    copies = {name: {f"t{at}": "x" for at in range(10)} for name in ids}

    def copied() -> bool:
        sides = [{"s": column(side)} for side in even(run.generator, n, drop)]
        return compare(*sides, POLICY, cohorts=copies, plan=False).outcome == "regression"

    rate = run.rate(copied)
    run.within(
        "the same, with ten copies of all rows as cohorts", rate, round(100 * alone.share) - 8, 100
    )

    def crowded() -> bool:
        pairs = [even(run.generator, n, drop if not at else 0.0) for at in range(21)]
        sides = [{f"s{at}": column(pair[s]) for at, pair in enumerate(pairs)} for s in (0, 1)]
        return compare(*sides, POLICY, plan=False).outcome == "regression"

    run.say("the same, with 20 unrelated scorers", run.rate(crowded, trials=run.trials // 3))


def seeds(run: Run) -> None:
    """The verdict includes the noise of training seeds, if several were trained."""

    def sides(old: int, new: int, noise: tuple[float, float], drop: float, n: int = 400) -> Sides:
        truth = run.generator.uniform(0.4, 0.6, n)

        def side(count: int, noise: float, shift: float) -> Floats:
            shifts = run.generator.normal(0, noise, count) - shift
            return truth[:, None] + run.generator.uniform(-0.1, 0.1, (n, count)) + shifts

        return side(old, noise[0], 0.0), side(new, noise[1], drop)

    def rate(wanted: str, counts: tuple[int, int], noise: tuple[float, float], drop: float) -> Rate:
        return run.rate(lambda: judge(*sides(*counts, noise, drop)).outcome == wanted)

    for counts in ((2, 2), (3, 1), (3, 3), (5, 2)):
        between = "{} against {} seeds".format(*counts)
        for wrong in ("pass", "regression"):
            found = rate(wrong, counts, (0.02, 0.02), MARGIN)
            run.at_most(f"{wrong} at the margin, {between}, noise 2 points", found)
            if counts[0] == counts[1]:
                found = rate(wrong, counts, (0.0, 0.05), MARGIN)
                run.at_most(f"{wrong} at the margin, {between}, noise 0 and 5", found)
    for counts in ((1, 1), (2, 2), (3, 3)):
        for what, drop in (("pass", 0.0), ("regression", 2.6 * MARGIN)):
            found = rate(what, counts, (0.0, 0.0), drop)
            of = "equals" if not drop else "2.6 margins"
            between = "{} against {}".format(*counts)
            run.say(f"power: {what} of {of} without seed noise, {between}", found)
    scores = run.generator.uniform(0.2, 0.9, 400)
    said = "training seed" in judge(scores, scores).reasons[0]
    run.say("a pass of one seed a side says so", "yes" if said else "no", "yes", holds=said)


def tail(run: Run) -> None:
    """With `collapse`, equal means do not hide rows that fall far."""
    policy = GatePolicy.model_validate({"margin": MARGIN, "collapse": {}})

    def hit(share: float, n: int) -> bool:
        baseline = run.generator.uniform(0.65, 0.75, n)
        fell = run.generator.random(n) < share
        rise = 0.6 * share / (1 - share)
        candidate = baseline + np.where(fell, -0.6, rise) + run.generator.uniform(-0.01, 0.01, n)
        return judge(baseline, candidate, policy=policy).outcome == "pass"

    for share, n in ((0.02, 200), (0.02, 1000), (0.03, 400), (0.03, 2000)):
        run.at_most(
            f"pass although {100 * share:g} % of the rows fall by 0.6, n = {n}",
            run.rate(lambda s=share, n=n: hit(s, n)),
        )
    run.say("power: pass if 0.5 % fall, n = 1000", run.rate(lambda: hit(0.005, 1000)))


def order(run: Run) -> None:
    """Shuffled input gives the same verdict to the last digit."""
    trials, same = 20, 0
    for _ in range(trials):
        sides = [column(side) for side in even(run.generator, 120, 0.01)]
        shuffled = [
            {name: side[name] for name in run.generator.permutation(list(side))} for side in sides
        ]
        first, second = ({"s": one} for one in sides), ({"s": one} for one in shuffled)
        same += compare(*first, POLICY) == compare(*second, POLICY)
    run.say(
        "shuffled comparisons with an identical verdict", f"{same} of {trials}", holds=same == 20
    )


def scale(run: Run) -> None:
    """Large comparisons take seconds, many cohorts little more than few, and plans little."""
    n = 100_000
    columns = {f"s{at}": run.generator.random(n) for at in range(8)}
    noise = run.generator.normal(0, 0.1, n)
    sides = [
        {name: column(scores) for name, scores in columns.items()},
        {name: column(scores + noise) for name, scores in columns.items()},
    ]

    def seconds(count: int, sides: list[dict[str, Any]], **options: Any) -> float:
        cohorts = {name: {"part": str(at % count)} for at, name in enumerate(sides[0]["s0"])}
        times = []
        for _ in range(3):
            start = time.process_time()  # CPU time, unaffected by other load
            compare(sides[0], sides[1], POLICY, cohorts=cohorts, **options)
            times.append(time.process_time() - start)
        return min(times)

    run.say("100,000 x 8 scorers x 51 rows, seconds", f"{seconds(50, sides):.1f}")
    one = [{"s0": side["s0"]} for side in sides]
    ratio = seconds(1000, one) / seconds(50, one)
    what = "time of 1,001 rows of one scorer over that of 51"
    run.say(what, f"{ratio:.1f} x", "<= 2", holds=ratio <= 2)
    few = [{name: dict(list(c.items())[:200]) for name, c in side.items()} for side in sides]
    four = [{name: side[name] for name in list(side)[:4]} for side in few]
    ratio = seconds(1, four) / seconds(1, four, plan=False)
    what = "verdict of 200 x 4 with its plans over one without"
    run.say(what, f"{ratio:.1f} x", "<= 5", holds=ratio <= 5)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    run.say("peak memory, GiB", f"{peak:.2f}", "<= 2", holds=peak <= 2)


def best_of(run: Run) -> None:
    """A baseline that won by chance does not make an equal candidate a regression."""

    def noisy(means: Floats, binary: bool) -> Floats:
        if binary:
            return (run.generator.random(len(means)) < means).astype(float)
        return means + run.generator.uniform(-0.2, 0.2, len(means))

    def hit(binary: bool, drop: float, looks: Looks) -> bool:
        shared = run.generator.uniform(0.3, 0.7, 200)
        models = [noisy(shared, binary) for _ in range(10)]
        best = max(models, key=lambda scores: float(scores.mean()))
        candidate = noisy(shared - drop, binary)
        return judge(best, candidate, looks=looks).outcome == "regression"

    for name, binary in (("binary", True), ("even", False)):
        for drop in (0.0, MARGIN):
            what = f"regression, drop {100 * drop:g}, baseline best of 10, {name}"
            rate = run.rate(lambda b=binary, d=drop: hit(b, d, Looks(chosen_from=10)))
            run.at_most(what, rate)
    rate = run.rate(lambda: hit(True, MARGIN, Looks()))
    run.say("the same, drop 2, binary, looks not counted", rate)


def peeking(run: Run) -> None:
    """Repeated looks, or looks at many candidates, do not pass a drop of the margin."""
    names = [f"e{at:06d}" for at in range(1000)]

    def peeks() -> bool:
        before, after = (column(side) for side in even(run.generator, len(names), MARGIN))
        for seen in range(50, len(names) + 1, 50):
            part = {name: after[name] for name in names[:seen]}
            found = compare(
                {"s": before}, {"s": part}, POLICY, order=Order(ids=names[:seen]), plan=False
            )
            if found.outcome != "undecided":
                return found.outcome == "pass"
        return False

    rate = run.rate(peeks, trials=max(run.trials // 2, 40))
    run.at_most("pass at the margin, looked at every 50 of 1,000 rows", rate)
    policy = POLICY.model_copy(update={"spend_error": True})

    def any_passes(n: int) -> bool:
        baseline = run.generator.uniform(0.4, 0.6, n)
        for number in range(1, 51):
            candidate = baseline + run.generator.uniform(-0.2, 0.2, n) - MARGIN
            looks = Looks(number=number, chosen_from=1)
            if judge(baseline, candidate, policy=policy, looks=looks).outcome == "pass":
                return True
        return False

    for n in (149, 400):
        rate = run.rate(lambda n=n: any_passes(n), trials=max(run.trials // 5, 40))
        run.at_most(f"one of 50 candidates at the margin passes, spending, n = {n}", rate)


def refused(run: Run) -> None:
    """Input that could be read in two ways is refused with one message."""
    scores = column(run.generator.uniform(0.4, 0.6, 200))
    first, second, *_ = scores
    faults: dict[str, tuple[dict[Any, Any], dict[str, dict[str, str]]]] = {
        "cohorts of an unknown example": (scores, {"unknown": {"part": "a"}}),
        "tags that spell one cohort in two ways": (
            scores,
            {first: {"a=b": "c"}, second: {"a": "b=c"}},
        ),
        "ids of two types": ({**scores, 7: 0.5}, {}),
    }
    for what, (sides, cohorts) in faults.items():
        try:
            found = compare({"s": sides}, {"s": sides}, POLICY, cohorts=cohorts).outcome
        except UsageError:
            found = "refused"
        run.say(what, found, "refused", holds=found == "refused")


@dataclass(frozen=True, slots=True)
class Climber:
    """Derives each candidate from the current baseline, truly a little worse.

    A candidate redraws the scores of a share of the rows from `levels`, so that the truth is known:
    its population mean is `step` below the baseline's. If `share` is 1, each candidate is drawn
    afresh, `step` below the anchor.
    """

    name: str
    rows: int
    share: float
    step: float
    levels: int


RELEASES = 200
START = 0.7
WIDE = GatePolicy(margin=0.05)
CLIMBERS = (
    Climber("afresh, binary, n = 400", 400, 1.0, 0.0501, 1),
    Climber("afresh, tenths, n = 400", 400, 1.0, 0.0501, 10),
    Climber("steps of 0.3, binary, n = 400", 400, 0.04, 0.003, 1),
    Climber("steps of 0.3, tenths, n = 100", 100, 0.1, 0.003, 10),
    Climber("steps of 0.5, binary, n = 800", 800, 0.04, 0.005, 1),
)


def hopeless(deltas: Floats, policy: GatePolicy) -> bool:
    """Whether a verdict can be skipped: not even four fifths of a normal interval would pass."""
    reach = -NormalDist().inv_cdf((1 - policy.confidence) / 2) * deltas.std()
    margin = max(policy.margin, policy.anchor_margin)
    return bool(deltas.mean() - 0.8 * reach / math.sqrt(len(deltas)) <= -margin)


def climb(climber: Climber, policy: GatePolicy, generator: np.random.Generator) -> bool:
    """Whether a chain of releases promotes a candidate too far from the anchor.

    Each candidate that passes with a higher mean is promoted. A chain ends early when no candidate
    can pass any more: what a look may spend only decreases.
    """

    def answers(count: int, mean: float) -> Floats:
        return generator.binomial(climber.levels, mean, count) / climber.levels

    anchor = answers(climber.rows, START)
    baseline, truth, promoted = anchor, START, 0
    afresh = climber.share == 1
    for number in range(1, RELEASES + 1):
        looks = Looks(number=number, promoted=promoted, chosen_from=max(number - 1, 1))
        strict = pass_policy(policy, looks)
        spent = pass_level(policy, looks) < LEAST_LEVEL
        if spent or strict.least_units(policy.margin) > climber.rows:
            break
        mean = (START if afresh else truth) - climber.step / climber.share
        anew = generator.random(climber.rows) < climber.share
        candidate = np.where(anew, answers(climber.rows, mean), baseline)
        if not afresh and candidate.mean() <= baseline.mean():
            continue
        if hopeless(candidate - baseline, strict) or hopeless(candidate - anchor, strict):
            continue
        verdict = judge(
            baseline, candidate, policy=policy, anchor={"scorer": column(anchor)}, looks=looks
        )
        if verdict.outcome == "pass":
            baseline, promoted = candidate, promoted + 1
            truth = START - climber.step if afresh else truth - climber.step
            if START - truth > policy.anchor_margin:
                return True
    return False


def climbers(run: Run) -> None:
    """With `spend_error`, 200 releases that fit the noise do not end far below the anchor."""
    trials = max(run.trials // 5, 40)
    for climber in CLIMBERS:
        for spend in (False, True):
            policy = WIDE.model_copy(update={"spend_error": spend})
            rate = run.rate(lambda c=climber, p=policy: climb(c, p, run.generator), trials=trials)
            if spend:
                run.at_most(f"too far, spending, {climber.name}", rate)
            else:
                run.say(f"too far, not spending, {climber.name}", rate)


CASES: tuple[Callable[[Run], None], ...] = (
    inside,
    drift,
    collapse,
    stuck,
    power,
    ranges,
    detectable,
    rare,
    critical,
    floors,
    missing,
    untested,
    caution,
    false_pass,
    false_regression,
    clusters,
    family,
    seeds,
    tail,
    best_of,
    peeking,
    climbers,
    refused,
    order,
    scale,
)


def measure(case: Callable[[Run], None], trials: int, seed: int) -> tuple[Run, float]:
    """Run one case; returns what it found, and how many seconds it took."""
    start = time.perf_counter()
    digits = sum(ord(letter) << (at % 8) for at, letter in enumerate(case.__name__))
    run = Run(case.__name__, trials, np.random.Generator(np.random.Philox(seed + digits)))
    case(run)
    return run, time.perf_counter() - start


def measured(
    cases: Iterable[Callable[[Run], None]], trials: int, seed: int, workers: int
) -> Iterator[tuple[Callable[[Run], None], Run, float]]:
    """Run the cases, several at a time, and yield them in their order."""
    cases = list(cases)
    timed = [case for case in cases if case is scale]  # runs alone, since it is timed
    for case in timed:
        yield case, *measure(case, trials, seed)
    with ProcessPoolExecutor(workers) as pool:
        futures = [
            (case, pool.submit(measure, case, trials, seed)) for case in cases if case not in timed
        ]
        for case, future in futures:
            yield case, *future.result()


def show(parts: Iterable[Callable[[], Iterator[str]]], missed: list[str]) -> int:
    """Print each part's findings as they come, and the missed targets.

    Args:
        parts: each yields lines, and may add to `missed`.
        missed: the missed targets.

    Returns:
        The exit status.
    """
    start = time.perf_counter()
    for part in parts:
        for line in part():
            print(line, flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")
    if missed:
        print("Targets missed:", *missed, sep="\n  ")
        return 1
    print("All targets hold.")
    return 0


def main() -> int:
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser(description="Measure the gate where the truth is known.")
    parser.add_argument("--quick", action="store_true", help="fewer simulations")
    parser.add_argument("--trials", type=int, help="simulations per rate (quick: 150, else 1000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", metavar="CASE", help="names of cases")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    trials = arguments.trials or (150 if arguments.quick else 1000)
    cases = [case for case in CASES if not arguments.only or case.__name__ in arguments.only]
    print(
        f"margin {MARGIN}, confidence {POLICY.confidence}, {trials} simulations per rate, in % "
        "± Monte-Carlo standard error"
    )
    missed: list[str] = []

    def found() -> Iterator[str]:
        for case, run, seconds in measured(cases, trials, arguments.seed, arguments.workers):
            yield f"\n{run.name}: {(case.__doc__ or '').splitlines()[0]} ({seconds:.0f} s)"
            yield from run.lines
            missed.extend(run.missed)

    return show([found], missed)


if __name__ == "__main__":
    sys.exit(main())
