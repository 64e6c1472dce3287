"""Measure the gate on artefacts of one checkpoint, with known true cost.

A served artefact gives most outputs unchanged and others differently: at temperature 0 llama.cpp
changed 8 of 32 outputs when requests were batched, and a coarse quantization changes more. So a
share of the scores is redrawn. For a faithful artefact they are drawn from the same distribution;
for a lossy one, some of them drop.

    python scripts/bench_artefact.py --quick    # 200 draws of each, instead of 1,000

Prints rates in % with their Monte-Carlo standard error. Exits with 1 if one misses its target by
more than three standard errors.
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftreg.gate import GatePolicy, compare
from ftreg.gate.planning import examples_to_find
from ftreg.gate.units import units_of

Floats = NDArray[np.float64]
MARGIN = 0.03
POLICY = GatePolicy(margin=0.02, artefact_margin=MARGIN).for_other_form()
PILOT = 300
"""Examples of the sound pair that the number of examples is planned from."""
PAIRS = 20
"""Pairs of each kind for one such plan."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """How an example's scores are drawn, given the model's ability on it, in (0, 1)."""

    name: str
    draw: Callable[[np.random.Generator, Floats], Floats]


def binary(generator: np.random.Generator, ability: Floats) -> Floats:
    """Draw scores of 0 or 1, shape (n,)."""
    return (generator.random(len(ability)) < ability).astype(np.float64)


def quarters(generator: np.random.Generator, ability: Floats) -> Floats:
    """Draw the share of four key points that an output covers, shape (n,)."""
    return generator.binomial(4, ability) / 4


def fine(generator: np.random.Generator, ability: Floats) -> Floats:
    """Draw continuous scores in (0, 1), shape (n,)."""
    return generator.beta(8 * ability, 8 * (1 - ability))


SCORERS = (Scorer("binary", binary), Scorer("quarters", quarters), Scorer("fine", fine))
CHANGED = (0.05, 0.25, 0.5)


def pair(
    generator: np.random.Generator, scorer: Scorer, n: int, *, changed: float, cost: float
) -> tuple[Floats, Floats]:
    """Draw scores of the checkpoint and of an artefact with a mean `cost` lower, shape (n,) each.

    The cost falls on the changed outputs, and on others if there are too few of these.
    """
    ability = generator.uniform(0.6, 0.95, n)
    first = scorer.draw(generator, ability)
    # Every regenerated output loses the same amount of ability.
    share = max(changed, 2 * cost)
    anew = generator.random(n) < share
    return first, np.where(anew, scorer.draw(generator, ability - cost / share), first)


def outcome(first: Floats, second: Floats) -> str:
    """Return the gate's outcome."""
    ids = [f"e{at:06d}" for at in range(len(first))]
    sides = [{"scorer": dict(zip(ids, side.tolist(), strict=True))} for side in (first, second)]
    return compare(*sides, POLICY, plan=False).outcome


def rate(hits: int, trials: int) -> tuple[float, float, str]:
    """Return a share, its standard error, and both as text."""
    smooth = (hits + 0.5) / (trials + 1)
    error = math.sqrt(smooth * (1 - smooth) / trials)
    return hits / trials, error, f"{100 * hits / trials:5.1f} ±{100 * error:.1f}"


def measure(scorer: Scorer, changed: float, *, trials: int, seed: int) -> tuple[list[str], bool]:
    """Return a row of the table, and whether its rates hold."""
    generator = np.random.Generator(np.random.Philox(seed))
    found: dict[float, list[str]] = {0: [], 1: [], 2: []}
    numbers = []
    for _ in range(trials // PAIRS):
        old, new = pair(generator, scorer, PILOT, changed=changed, cost=0)
        n = examples_to_find(units_of(new - old), margin=MARGIN, policy=POLICY)
        assert n is not None
        numbers.append(n)
        for times, outcomes in found.items():
            for _ in range(PAIRS):
                sides = pair(generator, scorer, n, changed=changed, cost=times * MARGIN)
                outcomes.append(outcome(*sides))
    sound, at_margin, lost = found.values()
    alarm = rate(sound.count("regression"), trials)
    edge = rate(at_margin.count("regression"), trials)
    power = rate(lost.count("regression"), trials)
    let_through = rate(lost.count("pass"), trials)
    passed = rate(sound.count("pass"), trials)
    holds = [
        alarm[0] - 3 * alarm[1] <= 0.05,
        edge[0] - 3 * edge[1] <= 0.05,
        power[0] + 3 * power[1] >= 0.95,
    ]
    cells = [scorer.name, f"{100 * changed:g} %", f"{np.median(numbers):.0f}"]
    texts = (alarm[2], edge[2], power[2], let_through[2], passed[2])
    return [*cells, *texts], all(holds)


def main() -> int:
    """Print a row for each scorer and share of changed outputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    trials = 200 if parser.parse_args().quick else 1000
    print(f"margin {MARGIN:g}; {trials:,} pairs of each kind, of as many examples as planned")
    print(
        "| scores | outputs anew | n | false alarm | alarm at the margin | twice the margin found "
        "| let through | sound passes |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    hold = True
    for number, (scorer, changed) in enumerate((s, c) for s in SCORERS for c in CHANGED):
        cells, held = measure(scorer, changed, trials=trials, seed=number)
        print(f"| {' | '.join(cells)} |{'' if held else ' *'}", flush=True)
        hold &= held
    return 0 if hold else 1


if __name__ == "__main__":
    sys.exit(main())
