"""The attributes of the spans `ftreg.train` and `ftreg.eval`: names, numbers, digests; no text."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ftreg.config.sections import RunConfig
from ftreg.records.checkpoint import Checkpoint
from ftreg.records.evaluation.header import all_summaries
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.samples import Cell


def train_asked(config: RunConfig, **_: Any) -> dict[str, Any]:
    """The attributes of a training run at its start."""
    return {
        "model.base": config.base.model,
        "model.optimizer.name": config.optimizer.name,
        "model.optimizer.lr": config.optimizer.lr,
        "dataset.version": config.dataset.version,
        "ftreg.seed": config.train.seed,
    }


def train_found(checkpoint: Checkpoint) -> dict[str, Any]:
    """The attributes of a training run at its end."""
    manifest = checkpoint.manifest
    return {
        "model.optimizer.lr": manifest.optimizer["arguments"]["lr"],
        "dataset.name": manifest.dataset.version.partition("@")[0],
        "dataset.digest": manifest.dataset.digest,
        "ftreg.checkpoint.name": checkpoint.folder.name,
        "ftreg.checkpoint.identity": manifest.identity,
        "ftreg.steps": manifest.training.steps,
        "ftreg.tokens": manifest.training.tokens,
        "ftreg.loss.last": manifest.training.last_loss,
    }


def eval_asked(*_: Any, config: RunConfig, **__: Any) -> dict[str, Any]:
    """The dataset of an evaluation."""
    return {"dataset.version": config.dataset.version, "dataset.split": config.dataset.eval_split}


def eval_found(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluated checkpoint, and the mean of each scorer."""
    checkpoint, dataset = evaluation.header["checkpoint"], evaluation.header["dataset"]
    means = {
        f"ftreg.score.{name}.{key}": summary[key]
        for name, summary in all_summaries(evaluation.header).items()
        for key in ("mean", "missing")
    }
    return {
        "gen_ai.request.model": checkpoint["name"],
        "model.base": checkpoint.get("base"),
        "model.optimizer.name": checkpoint["optimizer"],
        "model.optimizer.lr": checkpoint["lr"],
        "ftreg.checkpoint.name": checkpoint["name"],
        "ftreg.checkpoint.identity": checkpoint["identity"],
        "ftreg.evaluation.id": evaluation.id,
        "dataset.name": dataset["name"],
        "dataset.digest": dataset["digest"],
        "dataset.rows": dataset["rows"],
        **means,
    }


def eval_results(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Each score, as the GenAI conventions describe an evaluation result.

    The example's id is used as the response id; a missing score has an `error.type`. For replicas,
    there is one result per seed.
    """
    for scorer, column in evaluation.scores.items():
        for name, cell in column.items():
            cohorts = {
                f"ftreg.cohort.{tag}": text
                for tag, text in evaluation.cohorts.get(name, {}).items()
            }
            for seed, value in _by_seed(evaluation, cell):
                yield {
                    "gen_ai.evaluation.name": scorer,
                    "gen_ai.evaluation.score.value": value,
                    "gen_ai.response.id": name,
                    "error.type": "missing" if value is None else None,
                    "ftreg.seed": seed,
                    **cohorts,
                }


def _by_seed(evaluation: Evaluation, cell: Cell) -> Iterable[tuple[int | None, float | None]]:
    """The scores of a cell, each with its seed; for a single checkpoint, without."""
    return (
        zip(evaluation.seeds, cell, strict=True) if isinstance(cell, Sequence) else [(None, cell)]
    )
