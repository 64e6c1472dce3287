"""Run a checkpoint over a dataset version and score every output.

Part of the thin layer that puts the rooms together: model work is imported where it is used.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ftreg
from ftreg.checkpoint import Checkpoint, read_checkpoint, recipe_of
from ftreg.config.sections import RunConfig
from ftreg.data import DatasetVersion, Split, load_dataset
from ftreg.data.cohorts import check_tags
from ftreg.data.leakage import find_leaks
from ftreg.errors import FtregError, UsageError
from ftreg.evaluation import Evaluation, write_evaluation
from ftreg.generating import EvalEvents, Round, generate_rounds
from ftreg.records import Example, Output, Sample, Score
from ftreg.scoring import get_scorer
from ftreg.scoring.noise import noise_floor
from ftreg.span_facts import eval_asked, eval_found, eval_results
from ftreg.store import check_writable, digest
from ftreg.telemetry import traced

# How many samples a scorer gets at a time: enough to batch well, few enough to show progress.
_SCORING_BATCH = 64
# The header goes into the baseline's file too, which is kept small for git.
_RECORDED_LEAKS = 20


class Silent:
    """A listener that does nothing."""

    def phase(self, text: str) -> None:
        """Do nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Do nothing."""

    def notice(self, text: str) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is evaluated: a checkpoint on the rows of a split."""

    checkpoint: Checkpoint
    dataset: DatasetVersion
    rows: Split
    split: str


@traced("ftreg.eval", asked=eval_asked, found=eval_found, results=eval_results)
def evaluate(
    checkpoint_folder: Path,
    *,
    config: RunConfig,
    folder: Path,
    events: EvalEvents | None = None,
) -> Evaluation:
    """Generate, score, and store the evaluation.

    Args:
        checkpoint_folder: a checkpoint with its manifest.
        config: its `dataset` and `eval` sections say what to evaluate on and how.
        folder: the evaluation folder to write; it must not exist.
        events: is told of the progress.

    Raises:
        UsageError: checkpoint, dataset or scorers are wrong; nothing was written.
    """
    events = events or Silent()
    check_writable(folder)
    checkpoint = read_checkpoint(checkpoint_folder)
    dataset = load_dataset(config.dataset.version, root=Path(config.dataset.root))
    split = config.dataset.eval_split
    held_out = dataset.split(split)
    place = dataset.folder / dataset.card.splits[split].file
    check_tags(held_out, dataset.card, place=place)
    rows = held_out[: config.dataset.max_eval_examples]
    subject = _Subject(checkpoint, dataset, rows, split)
    # Scorers are made before anything is generated, so that a wrong option costs no minutes.
    events.phase("loading the scorers")
    scorers = {item.name: _scorer(item) for item in config.eval.scorers}
    described = {name: scorer.describe() for name, scorer in scorers.items()}
    try:
        digest(described)
    except (TypeError, ValueError) as error:
        raise UsageError(f"eval.scorers: a describe() is not JSON: {error}") from error

    leakage = _leakage(subject, events)

    rounds = generate_rounds(checkpoint, dataset, rows, config.eval, events)
    outputs = rounds[0].outputs
    samples = [_sample(subject, *pair) for pair in zip(rows, outputs, strict=True)]
    scores = {name: _score(name, scorer, samples, events) for name, scorer in scorers.items()}
    noise = _noise(subject, rounds, samples, scorers, scores, events)
    return write_evaluation(
        folder,
        header=_header(subject, config, generation=rounds[0].record)
        | {"leakage": leakage, "noise": noise, "scorers": described},
        examples=list(rows),
        outputs=outputs,
        scores=scores,
        cohort_tags={example.id: dataset.card.cohort_tags(example) for example in rows},
        cluster=dataset.card.cluster,
    )


def _leakage(subject: _Subject, events: EvalEvents) -> dict[str, Any]:
    """Look for evaluated rows among the rows that the checkpoint was trained on.

    Returns:
        The evaluation's record: `trained_on`, and the counts, or why they are not known.
    """
    events.phase("looking for leaked rows")
    recorded = subject.checkpoint.manifest.dataset
    root = subject.checkpoint.manifest.config.dataset.root
    record: dict[str, Any] = {"trained_on": f"{recorded.version}, {recorded.split}"}
    try:
        trained = load_dataset(recorded.version, root=Path(root))
        if trained.card.splits[recorded.split].sha256 != recorded.split_sha256:
            raise UsageError(f"{trained.folder}: these are not the rows that it was trained on")
        train = trained.split(recorded.split)[: recorded.rows]
    except (UsageError, KeyError) as error:
        events.notice(f"whether training rows leaked into the evaluation is not known: {error}")
        return record | {"unknown": str(error)}
    found = find_leaks(train, subject.rows)
    if found.leaks:
        events.notice(
            f"{found.summary()} of the training rows ({recorded.version}, {recorded.split}): "
            f"{found.first_ids()}; the scores of these say little of new ones"
        )
    return record | found.to_dict(most=_RECORDED_LEAKS)


def _scorer(item: Any) -> Any:
    backend = {} if item.backend is None else {"backend": item.backend}
    reserved = sorted({"name", "backend"} & item.options.keys())
    if reserved:
        raise UsageError(f"eval.scorers: {item.name}: {reserved[0]} does not belong into options")
    scorer = get_scorer(item.name, **backend, **item.options)
    if not (hasattr(scorer, "score") and hasattr(scorer, "describe")):
        raise UsageError(f"eval.scorers: {item.name} has no score() and describe()")
    return scorer


def _sample(subject: _Subject, example: Example, output: Output) -> Sample:
    return Sample(
        id=example.id,
        input=example.input,
        output=output.text,
        reference=example.references or None,
        context=subject.dataset.card.scoring_context(example),
    )


def _noise(
    subject: _Subject,
    rounds: Sequence[Round],
    samples: Sequence[Sample],
    scorers: Mapping[str, Any],
    scores: Mapping[str, Sequence[Score]],
    events: EvalEvents,
) -> dict[str, Any] | None:
    """Score the outputs of each further round, and measure how far the scores move.

    Returns:
        The evaluation's record, or None where nothing was generated twice.
    """
    if len(rounds) == 1:
        return None
    repeats = [dict(scores)]
    differing = []
    for number, again in enumerate(rounds[1:], start=2):
        # An output that is the same again has the same score; only the others are scored.
        fresh = [
            index
            for index, output in enumerate(again.outputs)
            if output.text != samples[index].output
        ]
        differing.append(len(fresh))
        changed = [_sample(subject, subject.rows[index], again.outputs[index]) for index in fresh]
        repeats.append({})
        for name, scorer in scorers.items():
            column = list(scores[name])
            found = _score(name, scorer, changed, events, suffix=f", repeat {number}")
            for index, score in zip(fresh, found, strict=True):
                column[index] = score
            repeats[-1][name] = column
    return {
        "repeats": len(rounds),
        "batch_sizes": [item.record["batch_size"] for item in rounds],
        "differing_outputs": differing,
        "scorers": noise_floor(repeats),
    }


def _score(
    name: str, scorer: Any, samples: Sequence[Sample], events: EvalEvents, *, suffix: str = ""
) -> list[Score]:
    scores: list[Score] = []
    for start in range(0, len(samples), _SCORING_BATCH):
        events.progress(f"scoring {name}{suffix}", start, len(samples))
        batch = samples[start : start + _SCORING_BATCH]
        try:
            scores.extend(scorer.score(batch))
        except FtregError:
            raise
        except Exception as error:  # the outputs are worth more than one scorer's fault
            scores.extend([Score(None, f"the scorer failed: {error!r}")] * len(batch))
    events.progress(f"scoring {name}{suffix}", len(samples), len(samples))
    if len(scores) != len(samples):
        raise UsageError(
            f"the scorer {name} gave {len(scores)} scores for {len(samples)} samples; "
            "a scorer returns one score per sample, in order"
        )
    return scores


def _header(subject: _Subject, config: RunConfig, *, generation: dict[str, Any]) -> dict[str, Any]:
    manifest = subject.checkpoint.manifest
    optimizer = manifest.optimizer
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "ftreg": ftreg.__version__,
        "checkpoint": {
            "name": subject.checkpoint.folder.name,
            "identity": manifest.identity,
            "parent": manifest.parent,
            "weights": manifest.weights.digest,
            "base": manifest.base.model,
            "optimizer": optimizer["name"],
            "lr": optimizer["arguments"]["lr"],
            "weight_decay": optimizer["arguments"]["weight_decay"],
            "steps": manifest.training.steps,
            "seed": manifest.training.seed,
            "last_loss": manifest.training.last_loss,
            "recipe": recipe_of(manifest),
        },
        "dataset": {
            "name": subject.dataset.ref.name,
            "version": str(subject.dataset.ref),
            "digest": subject.dataset.card.digest,
            "split": subject.split,
            "rows": len(subject.rows),
            "rows_digest": digest([example.id for example in subject.rows]),
        },
        "generation": generation,
        "policy": config.gate.model_dump(mode="json"),
    }
