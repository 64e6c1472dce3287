"""Stored evaluations without a model: a dataset, and outputs and scores chosen by a test."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftreg.data import load_dataset
from ftreg.files.store import digest
from ftreg.records.evaluation.rows import Run
from ftreg.records.evaluation.stored import Evaluation, write_evaluation
from ftreg.records.samples import Output, Score
from tests.conftest import write_dataset

SCORERS = ("faithfulness", "equals")


def make_dataset(count: int = 60, texts: Mapping[int, Mapping[str, Any]] | None = None) -> None:
    """Write `colours@1` to `sample_datasets`, the default root; `texts` changes rows by number."""
    words = ["red", "green", "blue", "black", "white"]
    rows = [
        {
            "id": f"e{i}",
            "input": f"Which colour has item {i}?",
            "context": f"Item {i} stands on a shelf. Item {i} is {words[i % 5]}.",
            "reference": [words[i % 5], f"It is {words[i % 5]}."],
            "tags": {"parity": "even" if i % 2 == 0 else "odd"},
            "critical": i == 3,
            **(texts or {}).get(i, {}),
        }
        for i in range(count)
    ]
    write_dataset(Path("sample_datasets"), evaluation=rows)


def make_evaluation(
    name: str,
    *,
    optimizer: str = "adamw",
    lr: float = 5e-5,
    outputs: Mapping[int, str] | None = None,
    scores: Mapping[str, Sequence[float | None]] | None = None,
) -> Evaluation:
    """Write an evaluation of `colours@1`; scores are by scorer, in row order."""
    dataset = load_dataset("colours@1")
    rows = list(dataset.split("eval"))
    columns = scores or {scorer: [0.8] * len(rows) for scorer in SCORERS}
    texts = [(outputs or {}).get(i, f"It is {row.references[0]}.") for i, row in enumerate(rows)]

    def score(scorer: str, value: float | None, text: str, context: str) -> Score:
        if value is None:
            return Score(None, "no claims in the output")
        if scorer != "faithfulness":
            return Score(value)
        best = context.partition(". ")[2] or context
        item = {"claim": text, "support": value, "best": best, "checks": ["number"]}
        return Score(value, evidence=(item,))

    return write_evaluation(
        Path("evaluations") / name,
        header={
            "created": f"2026-01-02T03:04:05.{name}",
            "ftreg": "0.0",
            "checkpoint": {
                "name": optimizer,
                "identity": digest(name),
                "weights": digest([name]),
                "base": "tiny",
                "optimizer": optimizer,
                "lr": lr,
                "last_loss": 1.25,
                "recipe": {"optimizer.name": optimizer, "optimizer.lr": lr, "training.seed": 0},
            },
            "dataset": {
                "name": "colours",
                "version": "colours@1",
                "digest": dataset.card.digest,
                "split": "eval",
                "rows": len(rows),
                "rows_digest": digest([row.id for row in rows]),
            },
            "generation": {
                "engine": "transformers",
                "decoding": "greedy",
                "max_new_tokens": 8,
                "precision": "fp32",
                "batch_size": 4,
                "cut_off": 0,
            },
            "policy": {"margin": 0.01, "resamples": 999},
            "leakage": {"trained_on": "colours@1, train", "share": 0.125},
            "scorers": {scorer: {"name": scorer, "version": 1} for scorer in columns},
        },
        examples=rows,
        runs={
            None: Run(
                outputs=[
                    Output(id=row.id, text=text, finish="stop", tokens=4)
                    for row, text in zip(rows, texts, strict=True)
                ],
                scores={
                    scorer: [
                        score(scorer, value, text, row.context or "")
                        for value, text, row in zip(column, texts, rows, strict=True)
                    ]
                    for scorer, column in columns.items()
                },
            )
        },
        cohort_tags={row.id: dataset.card.cohort_tags(row) for row in rows},
        cluster=None,
    )


def write_history(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write only the history of a checkpoint."""
    path = Path("checkpoints") / name / "history.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
