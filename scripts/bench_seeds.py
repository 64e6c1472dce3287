"""Measure the gate with several training seeds and known truth.

A world of scores: each seed of a side shifts all its examples equally, and each example varies
between baseline and candidate, and between seeds. The truth is the population mean over seeds and
examples. Prints how often equal recipes show a significant drop and how often a recipe passes whose
true drop equals the margin: with all seeds, and with one seed per side, which cannot measure seed
noise. Exits with 1 if a rate with several seeds exceeds its 5 % target by more than three standard
errors.

    python scripts/bench_seeds.py --quick    # a minute
    python scripts/bench_seeds.py            # nine minutes
"""

import argparse
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from bench_gate import MARGIN, TARGET, Rate, show
from numpy.typing import NDArray

from ftreg.gate import GatePolicy, Verdict, compare

Floats = NDArray[np.float64]

EXAMPLES = 300
# Standard deviation over examples, of the change between recipes and of the noise of a seed.
SPREAD = 0.05


@dataclass(frozen=True, slots=True)
class World:
    """Seeds of baseline and candidate, and the standard deviation of the seed effect on each."""

    seeds: tuple[int, int]
    noise: tuple[float, float]
    even: bool = False
    """Draw seed effects from a uniform distribution instead of a normal one."""

    def __str__(self) -> str:
        points = " and ".join(f"{100 * noise:g}" for noise in dict.fromkeys(self.noise))
        return f"{self.seeds[0]} and {self.seeds[1]}, {points}{' (even)' if self.even else ''}"

    def draw(self, generator: np.random.Generator, drop: float) -> tuple[Floats, Floats]:
        """Draw both sides' scores, shape (examples, seeds) each, in [0, 1]."""
        base = generator.uniform(0.4, 0.6, (EXAMPLES, 1))
        moved = generator.normal(0, SPREAD, (EXAMPLES, 1)) - drop
        levels = (np.zeros((EXAMPLES, 1)), moved)
        old, new = (
            base + level + self._seeds(generator, k, noise) + self._each(generator, k)
            for level, k, noise in zip(levels, self.seeds, self.noise, strict=True)
        )
        return np.clip(old, 0, 1), np.clip(new, 0, 1)

    def _seeds(self, generator: np.random.Generator, count: int, noise: float) -> Floats:
        if self.even:
            return generator.uniform(-np.sqrt(3) * noise, np.sqrt(3) * noise, count)
        return generator.normal(0, noise, count)

    def _each(self, generator: np.random.Generator, count: int) -> Floats:
        return generator.normal(0, SPREAD, (EXAMPLES, count))


WORLDS = (
    World((2, 2), (0.0, 0.0)),
    World((2, 2), (0.01, 0.01)),
    World((3, 3), (0.0, 0.0)),
    World((3, 3), (0.005, 0.005)),
    World((3, 3), (0.01, 0.01)),
    World((3, 3), (0.02, 0.02)),
    World((3, 3), (0.01, 0.01), even=True),
    World((3, 3), (0.003, 0.02)),
    World((5, 5), (0.01, 0.01)),
    World((2, 5), (0.01, 0.01)),
    World((2, 5), (0.02, 0.003)),
    World((2, 2), (0.02, 0.003)),
)


def judge(baseline: Floats, candidate: Floats, policy: GatePolicy) -> Verdict:
    """Compare two arrays of scores."""
    sides = (
        {"scorer": {f"e{number:04d}": row for number, row in enumerate(scores.tolist())}}
        for scores in (baseline, candidate)
    )
    return compare(*sides, policy, plan=False)


@dataclass(slots=True)
class Cell:
    """Results of one world: errors with all seeds and with one per side, and passes."""

    false_drop: Rate
    false_drop_alone: Rate
    false_pass: Rate
    false_pass_alone: Rate
    passes: Rate


def measure(world: World, *, trials: int, generator: np.random.Generator) -> Cell:
    """Simulate one world."""
    policy = GatePolicy(margin=MARGIN)
    counts = dict.fromkeys(Cell.__slots__, 0)
    for _ in range(trials):
        old, new = world.draw(generator, 0.0)
        verdict, alone = judge(old, new, policy), judge(old[:, 0], new[:, 0], policy)
        counts["false_drop"] += _is_significant(verdict)
        counts["false_drop_alone"] += _is_significant(alone)
        counts["passes"] += verdict.outcome == "pass"
        old, new = world.draw(generator, MARGIN)
        verdict, alone = judge(old, new, policy), judge(old[:, 0], new[:, 0], policy)
        counts["false_pass"] += verdict.outcome == "pass"
        counts["false_pass_alone"] += alone.outcome == "pass"
    return Cell(**{name: Rate(hits, trials) for name, hits in counts.items()})


def _is_significant(verdict: Verdict) -> bool:
    (row,) = verdict.rows
    return row.p_adjusted is not None and row.p_adjusted <= TARGET


def table(*, trials: int, seed: int, missed: list[str]) -> Iterator[str]:
    """Measure every world, and record missed targets."""
    generator = np.random.default_rng(seed)
    yield f"{EXAMPLES} examples, {trials} simulations a row; rates in %, target at most 5"
    yield (
        f"{'':26}{'a drop where there is none':>30}{'pass at a drop of the margin':>31}{'pass':>11}"
    )
    yield (
        f"{'seeds, noise in points':26}{'all seeds':>15}{'one a side':>15}"
        f"{'all seeds':>16}{'one a side':>15}{'if equal':>11}"
    )
    for world in WORLDS:
        cell = measure(world, trials=trials, generator=generator)
        for name, rate in (("drop", cell.false_drop), ("pass", cell.false_pass)):
            if rate.share - 3 * rate.error > TARGET:
                missed.append(f"false {name}, {world}: {rate} %")
        yield (
            f"{world!s:26}{cell.false_drop!s:>15}{cell.false_drop_alone!s:>15}"
            f"{cell.false_pass!s:>16}{cell.false_pass_alone!s:>15}{cell.passes!s:>11}"
        )


def main() -> int:
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser(description="Measure the gate with several training seeds.")
    parser.add_argument("--quick", action="store_true", help="fewer simulations")
    parser.add_argument("--trials", type=int, help="simulations per row (quick: 100, else 1000)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    missed: list[str] = []
    trials = arguments.trials or (100 if arguments.quick else 1000)
    rows = functools.partial(table, trials=trials, seed=arguments.seed, missed=missed)
    return show((rows,), missed)


if __name__ == "__main__":
    sys.exit(main())
