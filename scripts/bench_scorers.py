"""Compare the scorers with human labels, and with the baselines they must beat.

    python scripts/bench_scorers.py --data DIR [--set NAME ...] [--reliability FOLDER]

Prints a table per set: the scorer and each baseline with the set's own metric (AUROC of label 1,
or Spearman's rho), and a 95 % interval over documents or questions; then the gain of `embedded`
over the better of token overlap and plain cosine. Output length is listed too, as a confounder. The
coefficients were fitted on such sets, so the figures of `embedded` are in-sample;
`fit_scorers.py` prints figures with each set held out.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fit_scorers import (
    GOOD_FROM,
    SETS,
    auroc_of_good,
    cluster,
    cosines,
    overlaps,
    read_rows,
    sample,
)
from rich.console import Console
from rich.table import Table

from ftreg.gate.agreement import measure_agreement, measure_auroc, measure_spearman
from ftreg.report.reliability import draw_reliability
from ftreg.scoring import get_scorer
from ftreg.scoring.backends.minilm import MiniLM
from ftreg.scoring.token_overlap import tokens

EQUALS = ("evouna_nq", "nq301")
EQUALS_MODES = ("exact", "normalized", "contains", "overlap", "numeric")
# `regex` and `json` need special references, which none of these sets has.
EMBEDDED, BASELINES = "ftreg, embedded", ("token overlap", "MiniLM cosine")


def task_of(name: str) -> str:
    """Return the scorer that a set is for."""
    return "equals" if name in EQUALS else SETS[name][0]


def values_of(rows: list[dict[str, Any]], task: str, **options: Any) -> np.ndarray:
    """Return the project's scores, nan if there is none."""
    found = get_scorer(task, **options).score([sample(row) for row in rows])
    return np.array([np.nan if score.value is None else score.value for score in found])


def methods(rows: list[dict[str, Any]], task: str) -> dict[str, Callable[[], np.ndarray]]:
    """Return the scorer and the baselines, each to be run and timed."""
    if task == "equals":
        own = {
            f"ftreg, mode {mode}": lambda mode=mode: values_of(rows, task, mode=mode)
            for mode in EQUALS_MODES
        }
    else:
        own = {EMBEDDED: lambda: values_of(rows, task)}
    return {
        **own,
        "token overlap": lambda: overlaps(task, rows),
        "MiniLM cosine": lambda: cosines(task, rows, MiniLM()),
        "output length": lambda: np.array([len(tokens(row["output"])) for row in rows]),
    }


def bench(name: str, data: Path, console: Console, *, reliability: Path | None) -> dict[str, float]:
    """Print the table of one set, and return each method's figure."""
    rows, task = read_rows(data / f"{name}.jsonl"), task_of(name)
    metric = auroc_of_good if task == "equals" else SETS[name][1]
    labels = np.array([float(row["label"]) for row in rows])
    places = np.unique([cluster(name, row) for row in rows], return_inverse=True)[1]
    table = Table(title=f"{name}: {task}, {len(rows)} rows, {places.max() + 1} clusters")
    figure = "AUROC" if metric is auroc_of_good else "Spearman"
    for heading in ("method", figure, "95 % interval", "accuracy", "rows", "examples/s"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    figures = {}
    for label, method in methods(rows, task).items():
        started = time.perf_counter()
        values = method()
        spent = time.perf_counter() - started
        there = ~np.isnan(values)
        values, truth, own = values[there], labels[there], places[there]
        how = {"clusters": own, "generator": np.random.default_rng(0)}
        found = (
            measure_auroc(values, truth >= GOOD_FROM, **how)
            if metric is auroc_of_good
            else measure_spearman(values, truth, **how)
        )
        figures[label] = metric(values, truth)
        binary = task == "equals" and set(np.unique(values)) <= {0.0, 1.0}
        table.add_row(
            label,
            f"{figures[label]:.3f}",
            f"[{found.interval.low:.3f}, {found.interval.high:.3f}]" if found else "",
            f"{np.mean(values == (truth >= GOOD_FROM)):.3f}" if binary else "",
            str(len(values)),
            f"{len(rows) / spent:.0f}",
        )
        if reliability and label == EMBEDDED:
            agreed = measure_agreement(
                values, truth, good_from=GOOD_FROM, clusters=own, overlap=None, seed=0
            )
            drawn = draw_reliability(agreed, title=f"{task} on {name}")
            (reliability / f"reliability-{name}.svg").write_text(drawn, "utf-8")
    console.print(table)
    return figures


def summary(found: dict[str, dict[str, float]]) -> Table:
    """Return each scorer's gain over the better baseline, and the sets without one."""
    table = Table(title="embedded, over the better of token overlap and MiniLM cosine")
    for heading in ("scorer", "average", "least", "not better on"):
        table.add_column(heading)
    for task in ("faithfulness", "answer_relevancy", "completeness"):
        gains = {
            name: figures[EMBEDDED] - max(figures[baseline] for baseline in BASELINES)
            for name, figures in found.items()
            if task_of(name) == task
        }
        if gains:
            short = ", ".join(name for name, gain in gains.items() if gain <= 0)
            average, least = np.mean(list(gains.values())), min(gains.values())
            table.add_row(task, f"{average:+.3f}", f"{least:+.3f}", short or "none")
    return table


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--set", action="append", choices=[*SETS, *EQUALS], help="only these")
    parser.add_argument(
        "--reliability", type=Path, help="folder for a reliability plot of each set"
    )
    arguments = parser.parse_args()
    console = Console()
    found = {
        name: bench(name, arguments.data, console, reliability=arguments.reliability)
        for name in arguments.set or [*SETS, *EQUALS]
        if (arguments.data / f"{name}.jsonl").is_file()
    }
    console.print(summary(found))


if __name__ == "__main__":
    main()
