"""Measure how often `ftreg bisect` names a planted cause, and how many runs it takes.

    python scripts/bench_bisect.py simulate [--trials 1000]
    python scripts/bench_bisect.py train [--trials 40] [--plant "tenfold lr" ...]

`simulate` tests the plan alone, on known responses with noise between runs. `train` plants causes
in the recipe of a tiny model that learns from scratch: every hybrid is trained and evaluated as
`ftreg bisect` does. Trials of one plant use the same seeds in a random order, eight with a plant
and sixteen without, so that a run needed by two trials is trained once.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from ftreg.files.store import file_digest
from ftreg.why.causes import BisectQuestion
from ftreg.why.effects import HybridRun
from ftreg.why.hybrid_plan import BisectFinding, next_step, undecided

MOST_RUNS = 40
LETTERS = "abcdefghij"
WORDS = "rgbkw"
RECIPE: dict[str, Any] = {
    "base": {"model": "tiny"},
    "dataset": {"version": "letters@1", "root": "datasets"},
    "optimizer": {"name": "adamw", "lr": 1.5e-2, "weight_decay": 0.1},
    "schedule": {"name": "linear"},
    "train": {
        "batch_size": 10, "epochs": 16, "precision": "fp32", "threads": 1, "save_steps": None,
    },
    "eval": {"max_new_tokens": 3, "scorers": ["equals"]},
}  # fmt: skip
ADAM = "optimizer={name: adam, lr: 1.5e-2, weight_decay: 0.1, betas: [0.9, 0.998], eps: 2e-8}"
INNOCENT = (
    "optimizer.betas=[0.9, 0.998]",
    "optimizer.eps=2e-8",
    "schedule.warmup=0.11",
    "train.max_grad_norm=1.05",
)


class Plant(NamedTuple):
    """A plant: the changes of the bad recipe, harmless ones included, and the causes."""

    changes: tuple[str, ...]
    guilty: frozenset[str]


PLANTS = {
    "tenfold lr": Plant(("optimizer.lr=0.15",), frozenset({"optimizer.lr"})),
    "Adam's L2": Plant(
        (ADAM,),
        frozenset({"optimizer.name"}),
    ),
    "corrupted rows": Plant(("dataset.version=letters@2",), frozenset({"dataset.rows.changed.2"})),
    "template": Plant(("dataset.version=letters@3",), frozenset({"dataset.prompt"})),
    "two together": Plant(
        ("dataset.version=letters@4",),
        frozenset({"dataset.rows.removed.1", "dataset.rows.removed.2"}),
    ),
    "the seed alone": Plant((), frozenset()),
}


class Trial(NamedTuple):
    """The result of a search: its answer, the factors it named, and its runs."""

    answer: str
    named: frozenset[str]
    runs: int


def search(
    question: BisectQuestion, measure: Callable[[int, int], float], *, observed: float
) -> tuple[BisectFinding, int]:
    """Run the plan until it has its answer; `measure` takes hybrid and replicate."""
    runs: list[HybridRun] = []
    while len(runs) < MOST_RUNS:
        step = next_step(question, runs, observed=observed)
        if isinstance(step, BisectFinding):
            return step, len(runs)
        number = sum(run.bad == step for run in runs)
        runs.append(HybridRun(step, number, measure(step, number)))
    return undecided(question, runs, budget=f"{MOST_RUNS} runs"), MOST_RUNS


def report(name: str, trials: list[Trial], guilty: Callable[[int], frozenset[str]]) -> None:
    """Print a row of a Markdown table."""
    count = len(trials)
    right = sum(
        trial.named == guilty(number) if guilty(number) else trial.answer == "noise"
        for number, trial in enumerate(trials)
    )
    innocent = sum(bool(trial.named - guilty(number)) for number, trial in enumerate(trials))
    open_ = sum(trial.answer == "undecided" for trial in trials)
    runs = np.array([trial.runs for trial in trials])
    print(
        f"| {name} | {100 * right / count:.1f} % | {100 * innocent / count:.1f} % | "
        f"{100 * open_ / count:.1f} % | {runs.mean():.1f} | {np.quantile(runs, 0.9):.0f} |",
        flush=True,
    )


HEAD = "named | an innocent named | undecided | runs | 90 % take at most |\n" + "| --- " * 6 + "|"


def simulate(trials: int) -> None:
    """Test the plan on known responses: a delta of 1, noise as a share of it."""

    def bit(bad: int, factor: int) -> int:
        return bad >> factor & 1

    responses: dict[str, Callable[[int, int, int], float]] = {
        "one factor": lambda bad, a, b: bit(bad, a),
        "one does 3/4, one 1/4": lambda bad, a, b: 0.75 * bit(bad, a) + 0.25 * bit(bad, b),
        "two only together": lambda bad, a, b: bit(bad, a) & bit(bad, b),
        "either of two": lambda bad, a, b: bit(bad, a) | bit(bad, b),
        "two add up": lambda bad, a, b: 0.5 * bit(bad, a) + 0.5 * bit(bad, b),
        "nothing (seeds alone)": lambda bad, a, b: 0.0,
    }
    for factors in (5, 8):
        for noise in (0.05, 0.1, 0.2):
            said = f"{factors} factors, seeds move a score by {noise} of the delta"
            print(f"\n{said}\n\n| cause | {HEAD}")
            for name, response in responses.items():
                rng = np.random.default_rng(0)
                tried = [
                    simulated(response, factors=factors, noise=noise, rng=rng)
                    for _ in range(trials)
                ]
                one = "one" in name.split()
                guilty = [
                    frozenset({first} if one else {first, second}) if "seeds" not in name
                    else frozenset()
                    for first, second, _ in tried
                ]  # fmt: skip
                report(name, [trial for _, _, trial in tried], guilty.__getitem__)


def simulated(
    response: Callable[[int, int, int], float],
    *,
    factors: int,
    noise: float,
    rng: np.random.Generator,
) -> tuple[str, str, Trial]:
    """Search for two factors drawn at random."""
    first, second = rng.permutation(factors)[:2].tolist()
    question = BisectQuestion(factors, resolution=1e-6)

    def measure(bad: int, number: int) -> float:
        return float(rng.normal(-response(bad, first, second), noise))

    observed = measure(question.every, 0) - measure(0, 0)
    finding, runs = search(question, measure, observed=observed)
    return str(first), str(second), Trial(finding.answer, named(finding, str), runs)


def named(finding: BisectFinding, key: Callable[[int], str]) -> frozenset[str]:
    """The factors that an answer names."""
    sure = finding.answer in ("culprit", "pair")
    return frozenset(map(key, finding.suspects if sure else ()))


def write_versions(root: Path) -> None:
    """Write the good dataset version, and those with a plant."""
    answers = {letter: WORDS[place % len(WORDS)] for place, letter in enumerate(LETTERS)}

    def rows(copies: Iterator[tuple[str, str]]) -> list[dict[str, Any]]:
        return [
            {"id": name, "input": letter, "reference": answers[letter]} for name, letter in copies
        ]

    # Block by block: all letters, then the first half again, then again.
    train = rows((f"{letter}{copy}", letter) for copy in range(4) for letter in LETTERS)
    half = LETTERS[:7]
    double = [row for row in train if row["input"] not in half or row["id"][-1] in "01"]
    by_letter = sorted(train, key=lambda row: row["input"])

    def corrupted(place: int, row: dict[str, Any]) -> dict[str, Any]:
        if 10 <= place < 20:
            return row | {"reference": WORDS[(WORDS.index(row["reference"]) + 2) % len(WORDS)]}
        return row | {"tags": {"reviewed": "yes"}}

    evaluation = rows((f"e{letter}", letter) for letter in LETTERS)
    prompt = {"user": "{input}"}
    write_version(root, 1, by_letter, evaluation, prompt)
    changed = [corrupted(place, row) for place, row in enumerate(by_letter)]
    write_version(root, 2, changed, evaluation, prompt)
    write_version(root, 3, by_letter, evaluation, {"user": "Which word belongs to {input}?"})
    left = [row for row in double if row["input"] not in half]
    write_version(root, 4, left, evaluation, prompt)
    write_version(root, 5, double, evaluation, prompt)


def write_version(
    root: Path,
    version: int,
    train: list[dict[str, Any]],
    evaluation: list[dict[str, Any]],
    prompt: dict[str, str],
) -> None:
    """Write a dataset version."""
    import json

    folder = root / "letters" / f"v{version}"
    folder.mkdir(parents=True)
    splits = {}
    for split, rows in (("train", train), ("eval", evaluation)):
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        splits[split] = {"file": path.name, "rows": len(rows), "sha256": file_digest(path)}
    card = {
        "name": "letters", "version": version, "license": "CC0-1.0", "description": "Letters.",
        "source": "bench_bisect.py", "prompt": prompt, "splits": splits,
    }  # fmt: skip
    (folder / "dataset.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")


def make_tiny(folder: Path) -> None:
    """A random Llama of one layer, with weights large enough to learn the letters in 50 steps."""
    import torch
    from transformers import AutoModelForCausalLM

    from tests.conftest import make_model

    make_model(folder, num_hidden_layers=1)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(3)
    model.save_pretrained(folder)


def train(trials: int, plants: list[str], *, folder: Path) -> None:
    """Plant causes in the recipe of a tiny model, and search for them; trained runs are kept."""
    from ftreg.config.load import load_config
    from ftreg.jobs import bisect
    from ftreg.records.workspace import Workspace
    from ftreg.training.events import Silent
    from ftreg.training.run import train as train_one

    print(f"| plant | {HEAD}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    os.environ["FTREG_CACHE"] = str(folder / "cache")
    if not Path("datasets").exists():
        make_tiny(Path("tiny"))
        write_versions(Path("datasets"))
    Path("run.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    for name in plants:
        plant = PLANTS[name]
        good, bad = (Path(f"checkpoints/{side}-{name[:3].strip()}") for side in ("good", "bad"))
        start = ["dataset.version=letters@5", "train.epochs=24"] if name == "two together" else []
        changed = [*start, *INNOCENT, *plant.changes, "train.seed=99"]
        for output, overrides in ((good, start), (bad, changed)):
            if not output.exists():
                train_one(load_config(Path("run.yaml"), overrides=overrides), output=output)
        search_of = bisect.prepare_search(
            good, bad, workspace=Workspace(Path()), judging=(None, "letters@1", ()),
            blocks=2 if name == "two together" else 4, events=Silent(),
        )  # fmt: skip
        try_plant(name, plant, search_of, trials=trials)


def try_plant(name: str, plant: Plant, search_of: Any, *, trials: int) -> None:
    """Search repeatedly, each time with the seeds in a different order."""
    from ftreg.jobs import bisect

    delta = [bisect.checkpoint_mean(search_of, side) for side in ("good", "bad")]
    question = bisect.question_asked(search_of)
    known: dict[tuple[int, int], float] = {}
    rng = np.random.default_rng(1)
    pool = 8 if plant.guilty else 16
    found = []
    for _ in range(trials):
        seeds = (1 + rng.permutation(pool)).tolist()

        def measure(bad: int, number: int, seeds: list[int] = seeds) -> float:
            seed = seeds[number] if number < len(seeds) else number + 1
            if (bad, seed) not in known:
                known[bad, seed] = bisect.run_hybrid(search_of, bad, seed, number=len(known))
            return known[bad, seed]

        # A different pair of seeds each time: what a user would have seen.
        pair = measure(question.every, 6) - measure(0, 7)
        observed = delta[1] - delta[0] if plant.guilty else pair
        finding, runs = search(question, measure, observed=observed)
        keys = named(finding, lambda place: str(search_of.factors[place].key))
        found.append(Trial(finding.answer, keys, runs))
    report(f"{name}, {question.factors} factors", found, lambda _: plant.guilty)
    ends = [np.mean([m for (b, _), m in known.items() if b == bad]) for bad in (0, question.every)]
    print(f"  ends {ends[0]:.3f} and {ends[1]:.3f}; {len(known)} trainings", file=sys.stderr)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("simulate", "train"))
    parser.add_argument("--trials", type=int)
    parser.add_argument("--plant", nargs="*", choices=list(PLANTS), default=list(PLANTS))
    parser.add_argument("--folder", type=Path, help="folder for runs, for a later call to continue")
    arguments = parser.parse_args()
    if arguments.what == "simulate":
        simulate(arguments.trials or 1000)
    else:
        with tempfile.TemporaryDirectory() as name:
            folder = (arguments.folder or Path(name)).absolute()
            train(arguments.trials or 40, arguments.plant, folder=folder)


if __name__ == "__main__":
    main()
