"""Hold the scorers against people's labels, beside the baselines they have to beat.

    python scripts/bench_scorers.py --data DIR [--model FOLDER] [--set NAME ...]

Prints a table per set: each scorer and baseline with its AUROC (label 1 against the rest) or
Spearman's rho, and a 95 % bootstrap interval over documents or questions; then what `embedded`
gains on average. Output length stands beside them because it is a confound. The coefficients were
fitted on such sets, so figures of `embedded` here are in-sample; `fit_scorers.py` prints the
cross-validated ones.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fit_scorers import agreement, cluster, read_rows
from rich.console import Console
from rich.table import Table
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

from ftreg.scoring import Sample, get_scorer
from ftreg.scoring.backends.embedded import EmbeddedBackend
from ftreg.scoring.backends.minilm import MiniLM
from ftreg.scoring.claims import sentences
from ftreg.scoring.protocol import Relation

RESAMPLES = 1000
TASKS = {
    "qags_cnndm": ("faithfulness", Relation.SUPPORTED),
    "q2_wow": ("faithfulness", Relation.SUPPORTED),
    "wikiqa": ("answer_relevancy", Relation.RELEVANT),
    "realsumm": ("completeness", Relation.COVERED),
    "sfres": ("completeness", Relation.COVERED),
    "evouna_nq": ("equals", Relation.SUPPORTED),
    "nq301": ("equals", Relation.SUPPORTED),
}
EQUALS_MODES = ("exact", "normalized", "contains", "overlap", "numeric")
# `regex` and `json` want references of their own kind, which no such set has.
EMBEDDED = "ftreg, embedded"
BASELINES = ("token overlap", "ROUGE-L", "chrF", "MiniLM cosine")
Rows = Sequence[dict[str, Any]]


def tokens(text: str) -> list[str]:
    """Return the lower-case runs of letters and digits."""
    return "".join(char if char.isalnum() else " " for char in text.lower()).split()


def pair(task: str, row: dict[str, Any]) -> tuple[str, str]:
    """Return what a baseline compares: (text whose words are wanted, text they should be in)."""
    match task:
        case "faithfulness":
            return row["output"], row["context"]
        case "answer_relevancy":
            return row["input"], row["output"]
        case _:
            return row["reference"], row["output"]


def overlap(wanted: str, there: str) -> float:
    """Return the share of the wanted words that are there."""
    mine, theirs = Counter(tokens(wanted)), Counter(tokens(there))
    return sum((mine & theirs).values()) / max(sum(mine.values()), 1)


def rouge_l(wanted: str, there: str) -> float:
    """Return ROUGE-L's F1."""
    return float(_ROUGE.score(wanted, there)["rougeL"].fmeasure)


def chrf(wanted: str, there: str) -> float:
    """Return chrF with `wanted` as the reference."""
    return float(_CHRF.sentence_score(there, [wanted]).score)


_ROUGE = RougeScorer(["rougeL"], use_stemmer=True)
_CHRF = CHRF()


def cosines(task: str, rows: Rows, model: MiniLM) -> np.ndarray:
    """Return the plain cosine: for faithfulness, each output sentence's nearest of the context."""
    if task != "faithfulness":
        left = model.encode([pair(task, row)[0] for row in rows])
        right = model.encode([pair(task, row)[1] for row in rows])
        return (left * right).sum(1)
    values = []
    for row in rows:
        points = model.encode(sentences(row["output"]) or [row["output"]])
        values.append(float((points @ model.encode(sentences(row["context"])).T).max(1).mean()))
    return np.array(values)


def interval(
    relation: Relation, values: np.ndarray, labels: np.ndarray, clusters: np.ndarray
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval over clusters of what `agreement` measures."""
    _, places = np.unique(clusters, return_inverse=True)
    members = [np.flatnonzero(places == group) for group in range(places.max() + 1)]
    generator = np.random.default_rng(0)
    figures = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(len(members), size=len(members))
        kept = np.concatenate([members[group] for group in drawn])
        figures.append(agreement(relation, values[kept], labels[kept]))
    low, high = np.nanpercentile(figures, [2.5, 97.5])
    return float(low), float(high)


def scored(
    name: str, task: str, rows: Rows, backend: EmbeddedBackend
) -> list[tuple[str, Callable[[], np.ndarray]]]:
    """Return the project's scorers for a task, each to be run and timed."""
    samples = [
        Sample(
            id=row["id"],
            input=row["input"],
            output=row["output"],
            reference=row["reference"] or None,
            context=row["context"] or None,
        )
        for row in rows
    ]

    def run(**options: Any) -> np.ndarray:
        found = get_scorer(task, **options).score(samples)
        if task == "equals":
            return np.array([np.nan if score.value is None else score.value for score in found])
        missing = sum(score.value is None for score in found)
        if missing:
            print(f"{name}: {missing} of {len(found)} without a score, held as 0 here")
        return np.array([score.value or 0.0 for score in found])

    if task == "equals":
        return [
            (f"ftreg, mode {mode}", lambda mode=mode: run(mode=mode, separator="|"))
            for mode in EQUALS_MODES
        ]
    return [(EMBEDDED, lambda: run(backend=backend))]


def bench(name: str, data: Path, model: MiniLM, console: Console) -> dict[str, float]:
    """Print the table of one set, and return each method's figure."""
    rows = read_rows(data / f"{name}.jsonl")
    task, relation = TASKS[name]
    labels = np.array([float(row["label"]) for row in rows])
    clusters = np.array([cluster(name, row) for row in rows])
    pairs = [pair(task, row) for row in rows]
    methods = [
        *scored(name, task, rows, EmbeddedBackend(model)),
        ("token overlap", lambda: np.array([overlap(*one) for one in pairs])),
        ("ROUGE-L", lambda: np.array([rouge_l(*one) for one in pairs])),
        ("chrF", lambda: np.array([chrf(*one) for one in pairs])),
        ("MiniLM cosine", lambda: cosines(task, rows, model)),
        ("output length", lambda: np.array([len(tokens(row["output"])) for row in rows])),
    ]
    figure = "Spearman" if relation is Relation.COVERED else "AUROC"
    table = Table(title=f"{name}: {task}, {len(rows)} rows, {len(set(clusters))} clusters")
    for heading in ("method", figure, "95 % interval", "accuracy", "rows", "examples/s"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    figures = {}
    for label, method in methods:
        started = time.perf_counter()
        values = method()
        spent = time.perf_counter() - started
        there = ~np.isnan(values)  # `numeric` says nothing where an accepted answer has no number
        values, truth = values[there], labels[there]
        low, high = interval(relation, values, truth, clusters[there])
        figures[label] = agreement(relation, values, truth)
        binary = task == "equals" and set(np.unique(values)) <= {0.0, 1.0}
        table.add_row(
            label,
            f"{figures[label]:.3f}",
            f"[{low:.3f}, {high:.3f}]",
            f"{np.mean(values == (truth >= 1)):.3f}" if binary else "",
            str(len(values)),
            f"{len(rows) / spent:.0f}",
        )
    console.print(table)
    return figures


def summary(found: dict[str, dict[str, float]]) -> Table:
    """Return what each scorer gains over the baselines, and over which of them it does not."""
    table = Table(title="embedded, over the baselines")
    for heading in ("scorer", "over token overlap, average", "not better than"):
        table.add_column(heading)
    for task in dict.fromkeys(TASKS[name][0] for name in found):
        sets = [name for name in found if TASKS[name][0] == task and EMBEDDED in found[name]]
        if not sets:
            continue
        gain = np.mean([found[name][EMBEDDED] - found[name]["token overlap"] for name in sets])
        short = [
            f"{baseline} on {name}"
            for name in sets
            for baseline in BASELINES
            if found[name][baseline] >= found[name][EMBEDDED]
        ]
        table.add_row(task, f"{gain:+.3f}", ", ".join(short) or "none")
    return table


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument(
        "--model", type=Path, help="sentence encoder (the packaged one if left out)"
    )
    parser.add_argument("--set", action="append", choices=list(TASKS), help="only these sets")
    arguments = parser.parse_args()
    model = MiniLM(arguments.model)
    console = Console()
    found = {
        name: bench(name, arguments.data, model, console)
        for name in arguments.set or TASKS
        if (arguments.data / f"{name}.jsonl").is_file()
    }
    console.print(summary(found))


if __name__ == "__main__":
    main()
