"""Measure how often `ftreg slices` finds a group that fell, and how often one that did not.

Each trial makes examples with prompts, references and tags, and deltas with a standard deviation
of 0.2. A group of 5 % of them may drop by four margins: the examples with a word, of a length, with
a pair of tags, or with a value of a tag that is not a cohort. It is found if a slice reported as
worse has a Jaccard index of at least one half with it. Without a plant, any slice reported as worse
is wrong. Prints each rate in % with its Monte-Carlo standard error and its target, and how often
someone who knew the group would find it, by the gate's test on all its examples; exits with 1 if a
rate misses its target by more than three standard errors.

    python scripts/bench_slices.py                  # 200 trials a case, a quarter of an hour
    python scripts/bench_slices.py --trials 40      # three minutes
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ftreg.config.policy import GatePolicy
from ftreg.gate.aligned import Positions
from ftreg.gate.measure import measure_rows
from ftreg.why.slices_described import ExampleFacts, describe_slices
from ftreg.why.slices_search import Halves, Sides, TestedSlice, find_worse, least_members

MARGIN = 0.02
DEVIATION = 0.2
SHARE = 0.05
POLICY = GatePolicy(margin=MARGIN)
_WORDS = 3000


class World(NamedTuple):
    """Examples, and the positions of those that fell."""

    facts: list[ExampleFacts]
    plant: Positions


def world(generator: np.random.Generator, rows: int, plant: str) -> World:
    """Draw examples with the word frequencies of a natural language, and choose a group."""
    shares = 1 / np.arange(3, _WORDS + 3)
    shares /= shares.sum()
    lengths = generator.geometric(1 / 25, rows) + 3
    texts = [[f"w{n}" for n in generator.choice(_WORDS, size, p=shares)] for size in lengths]
    references = [
        " ".join(f"r{n}" for n in generator.choice(_WORDS, 8, p=shares)) for _ in range(rows)
    ]
    tags = {
        "language": generator.choice(["en", "de", "fr", "es", "it"], rows),
        "topic": generator.choice([f"t{n}" for n in range(4)], rows),
        "source": generator.choice(["a", "b", "c"], rows, p=[0.9, SHARE, SHARE]),
    }
    if plant == "word":
        for position in generator.choice(rows, round(SHARE * rows), replace=False):
            texts[position][-1] = "planted"
    chosen = {
        "word": np.array(["planted" in text for text in texts]),
        "length": lengths >= np.quantile(lengths, 1 - SHARE),
        "pair": (tags["language"] == "de") & (tags["topic"] == "t2"),
        "tag": tags["source"] == "b",
    }.get(plant, np.zeros(rows, dtype=np.bool_))
    facts = [
        ExampleFacts(
            " ".join(text), reference, {name: str(values[at]) for name, values in tags.items()}
        )
        for at, (text, reference) in enumerate(zip(texts, references, strict=True))
    ]
    return World(facts, np.flatnonzero(chosen))


def drawn(generator: np.random.Generator, rows: int, shape: str) -> np.ndarray:
    """Draw deltas of mean 0 and standard deviation `DEVIATION`: even, or of scores of 0 and 1."""
    if shape == "even":
        return generator.uniform(-1, 1, rows) * DEVIATION * math.sqrt(3)
    changed = generator.random(rows) < DEVIATION**2
    return np.where(changed, generator.choice([-1.0, 1.0], rows), 0.0)


def trial(seed: int, *, rows: int, plant: str, shape: str, drop: float) -> tuple[bool, bool]:
    """Make a world, lower the scores of a group, and return whether it is found.

    The second value is whether someone who knew the group would find it: the gate's test on all of
    its examples.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    made = world(generator, rows, plant)
    deltas = drawn(generator, rows, shape)
    if shape == "even":
        deltas[made.plant] -= drop
        baseline = np.full(rows, 0.5)
    else:
        fell = made.plant[generator.random(len(made.plant)) < drop]
        deltas[fell] = -1.0
        baseline = np.where(deltas < 0, 1.0, np.where(deltas > 0, 0.0, 0.5))
    candidate = np.clip(baseline + deltas, 0, 1)
    least = least_members(rows)
    slices = describe_slices(made.facts, cohorts=["language"], least=least)
    halves = Halves.of([f"e{number}" for number in range(rows)])
    tested = find_worse([Sides("equals", baseline, candidate)], slices, halves, POLICY)
    found = [item for item in tested if item.p_adjusted <= 1 - POLICY.confidence]
    if not plant:
        return bool(found), False
    (row,) = measure_rows(
        baseline, candidate, POLICY, scorer="equals", slices={plant: made.plant}, clusters=None
    )
    known = row.p_beyond is not None and row.p_beyond <= 1 - POLICY.confidence
    return any(_same(item, made.plant) for item in found), known


def _same(item: TestedSlice, plant: Positions) -> bool:
    both = len(np.intersect1d(item.positions, plant))
    return 2 * both >= len(np.union1d(item.positions, plant))


CASES: Mapping[str, tuple[dict[str, object], Callable[[float], bool], str]] = {
    f"{plant or 'nothing'}, {shape}, {rows} rows": (
        {"rows": rows, "plant": plant, "shape": shape, "drop": 4 * MARGIN if plant else 0.0},
        (lambda rate: rate >= 0.8) if plant else (lambda rate: rate <= 0.05),
        ">= 80" if plant else "<= 5",
    )
    for rows in (5000,)
    for shape in ("even", "binary")
    for plant in ("word", "length", "pair", "tag", "")
} | {
    "nothing, even, 300 rows": (
        {"rows": 300, "plant": "", "shape": "even", "drop": 0.0},
        lambda rate: rate <= 0.05,
        "<= 5",
    )
}


def main() -> int:
    """Run the cases, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    missed = 0
    for name, (world_of, good, target) in CASES.items():
        if asked.only not in name:
            continue
        start = time.monotonic()
        hits = [trial(seed, **world_of) for seed in range(asked.trials)]  # type: ignore[arg-type]
        rate, known = np.mean(hits, axis=0)
        error = math.sqrt(max(rate * (1 - rate), 1 / len(hits) ** 2) / len(hits))
        ok = good(rate) or any(good(rate + sign * 3 * error) for sign in (-1, 1))
        missed += not ok
        spent = (time.monotonic() - start) / asked.trials
        print(
            f"{name:32} {100 * rate:5.1f} +- {100 * error:.1f} %   target {target:5} "
            f"{'' if ok else 'MISSED'}   known {100 * known:.0f} %   {spent:.2f} s each",
            flush=True,
        )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
