"""Simulate candidates that have forgotten more or less, and count the gate's verdicts.

The task's score rises by 5 points in every release, so only retention can stop one. A text's loss
is drawn from the distribution of SmolLM2-135M-Instruct on the packaged texts (mean 3.0, standard
deviation 0.6 nats per token); the candidate's forgetting is added to it and varies slightly between
texts. The real gate judges.
"""

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from ftreg.config.policy import GatePolicy
from ftreg.gate import Probes, compare

TEXTS, EXAMPLES = 150, 400
LOSS, SCATTER, CHANGE = 3.0, 0.6, 0.1
FORGOTTEN = (0.0, 0.1, 0.3, 0.6, 0.9, 1.2, 2.0)
MARGINS = (0.01, 0.02)


def release(forgotten: float, margin: float, chance: np.random.Generator) -> str:
    """Return the outcome of one simulated release, from the retention row."""
    old = chance.normal(LOSS, SCATTER, TEXTS).clip(0.5)
    new = old + forgotten + chance.normal(0, CHANGE, TEXTS)
    task = chance.uniform(0.3, 0.8, EXAMPLES)
    better = (task + 0.05 + chance.normal(0, 0.1, EXAMPLES)).clip(0, 1)
    verdict = compare(
        {"task": dict(zip(map(str, range(EXAMPLES)), task.tolist(), strict=True))},
        {"task": dict(zip(map(str, range(EXAMPLES)), better.tolist(), strict=True))},
        GatePolicy(margins={"retention": margin}),
        probes=Probes(baseline={"retention": _scores(old)}, candidate={"retention": _scores(new)}),
        plan=False,
    )
    return verdict.outcome


def _scores(losses: np.ndarray) -> dict[str, float]:
    return {f"text-{place}": float(np.exp(-loss)) for place, loss in enumerate(losses)}


def main() -> None:
    """Print a table: share of verdicts by amount of forgetting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--releases", type=int, default=200, help="releases per row of the table")
    releases = parser.parse_args().releases
    table = Table("margin", "loss +", "retention", "pass", "undecided", "regression")
    for margin in MARGINS:
        for forgotten in FORGOTTEN:
            chance = np.random.default_rng(1)
            found = [release(forgotten, margin, chance) for _ in range(releases)]
            mean = float(np.exp(-(LOSS + forgotten) + SCATTER**2 / 2))
            shares = [found.count(word) / releases for word in ("pass", "undecided", "regression")]
            table.add_row(
                f"{100 * margin:g}",
                f"{forgotten:g}",
                f"{100 * mean:.1f}",
                *(f"{share:.0%}" for share in shares),
            )
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
