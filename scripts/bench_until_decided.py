"""Measure what `ftreg eval --until-decided` saves, and how often it is wrong.

Draws comparisons of 2,000 rows and four scorers with known truth, shows them to the gate in the
same blocks as `ftreg eval`, and stops when it has decided. The scorers' deltas are independent,
which is the hardest case for a pass: the slowest of the four decides. Exits with 1 if a verdict is
wrong in more than 5 % of the runs by more than three standard errors.

    python scripts/bench_until_decided.py --runs 50    # ten minutes on one core
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftreg.gate import GatePolicy, Order, compare
from ftreg.jobs.until_decided import block_size

Floats = NDArray[np.float64]

ROWS = 2000
SCORERS = ("a", "b", "c", "d")
MARGIN = 0.02
DROPS = (0.0, 1.0, 2.0, 4.0)
"""The true drop of the first scorer, in margins; the other three do not drop."""
TARGET = 0.05


@dataclass(frozen=True, slots=True)
class Shape:
    """A world of deltas: `draw(generator, n, drop)` has the true mean -drop."""

    name: str
    draw: Callable[[np.random.Generator, int, float], Floats]


def normal(deviation: float) -> Shape:
    """Draw graded deltas of one spread."""
    return Shape(
        f"graded, sd {deviation:g}",
        lambda generator, n, drop: generator.normal(-drop, deviation, n).clip(-0.98, 0.98),
    )


def binary(changed: float) -> Shape:
    """Draw 0/1 scores, a share of which changes in either direction."""

    def draw(generator: np.random.Generator, n: int, drop: float) -> Floats:
        losses = max((changed + drop) / 2, drop)
        drawn = generator.random(n)
        return (drawn > 1 - (losses - drop)).astype(float) - (drawn < losses)

    return Shape(f"binary, {100 * changed:g} % change", draw)


def sparse(generator: np.random.Generator, n: int, drop: float) -> Floats:
    """Draw changes of any size on one row in five."""
    changed = generator.random(n) < 0.2
    return np.where(changed, generator.uniform(-0.5, 0.5, n) - drop / 0.2, 0.0)


SHAPES = (
    normal(0.05),
    normal(0.1),
    normal(0.15),
    normal(0.2),
    Shape("a fifth changes by up to 0.5", sparse),
    binary(0.02),
    binary(0.05),
    binary(0.1),
)


def stopped(shape: Shape, drop: float, generator: np.random.Generator) -> tuple[str, int]:
    """Return the outcome and the number of rows it needed."""
    names = [f"e{number}" for number in range(ROWS)]
    old, new = {}, {}
    for scorer in SCORERS:
        lowered = drop if scorer == SCORERS[0] else 0.0
        deltas = shape.draw(generator, ROWS, lowered)
        before = np.clip(generator.uniform(0.4, 0.6, ROWS), -deltas.clip(max=0), 1 - deltas.clip(0))
        old[scorer] = dict(zip(names, before.tolist(), strict=True))
        new[scorer] = dict(zip(names, (before + deltas).clip(0, 1).tolist(), strict=True))
    for end in range(block_size(ROWS), ROWS + 1, block_size(ROWS)):
        seen = names[:end]
        part = {scorer: {name: new[scorer][name] for name in seen} for scorer in SCORERS}
        verdict = compare(old, part, GatePolicy(margin=MARGIN), order=Order(ids=seen))
        if verdict.outcome != "undecided":
            return verdict.outcome, end
    return "undecided", ROWS


def saved_at_best(shape: Shape, generator: np.random.Generator, *, runs: int = 500) -> float:
    """Return the saving of Wald's test at a drop of 0, given the spread of normal deltas.

    No test with its error rates decides earlier on average (Wald and Wolfowitz, Annals of
    Mathematical Statistics 19, 1948). It continues for each scorer until its likelihood is 40 times
    that of a drop of the margin, and looks after each block.
    """
    variance = float(shape.draw(generator, 200_000, 0.0).var())
    deltas = generator.normal(0, math.sqrt(variance), (runs, len(SCORERS), ROWS))
    grown = np.cumsum((MARGIN * deltas + MARGIN**2 / 2) / variance, axis=2) >= math.log(40)
    rows = np.where(grown.any(axis=2), grown.argmax(axis=2) + 1, ROWS).max(axis=1)
    block = block_size(ROWS)
    return 1 - float((np.ceil(rows / block) * block).mean()) / ROWS


def main() -> None:
    """Print a Markdown table, a row for each shape and drop."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--best", action="store_true", help="only the saving of the best test")
    arguments = parser.parse_args()
    runs = arguments.runs
    generator = np.random.default_rng(20261130)
    for shape in SHAPES:
        print(f"{shape.name}: Wald's test saves {100 * saved_at_best(shape, generator):.0f} %")
    if arguments.best:
        return
    wrong = False
    print("| deltas | true drop, margins | saved | pass | regression | undecided |")
    print("| --- | --- | --- | --- | --- | --- |")
    for shape in SHAPES:
        for times in DROPS:
            found = [stopped(shape, times * MARGIN, generator) for _ in range(runs)]
            outcomes = [outcome for outcome, _ in found]
            shares = [outcomes.count(name) / runs for name in ("pass", "regression", "undecided")]
            saved = 1 - sum(rows for _, rows in found) / runs / ROWS
            cells = " | ".join(f"{100 * share:.0f} %" for share in (saved, *shares))
            print(f"| {shape.name} | {times:g} | {cells} |", flush=True)
            error = shares[0] if times >= 1 else shares[1]
            if times == 1:
                error = max(shares[:2])
            wrong |= error > TARGET + 3 * math.sqrt(TARGET * (1 - TARGET) / runs)
    sys.exit(int(wrong))


if __name__ == "__main__":
    main()
