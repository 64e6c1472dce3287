"""Run a checkpoint over a dataset version and score every output.

Part of the thin layer that puts the rooms together: model work is imported where it is used.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ftreg
from ftreg.checkpoint import Checkpoint, read_checkpoint, recipe_of
from ftreg.config.sections import EvalConfig, RunConfig
from ftreg.data import DatasetVersion, Split, load_dataset
from ftreg.data.cohorts import check_tags
from ftreg.data.leakage import find_leaks
from ftreg.errors import FtregError, UsageError
from ftreg.evaluation import Evaluation, write_evaluation
from ftreg.records import Example, Output, Sample, Score
from ftreg.scoring import get_scorer
from ftreg.span_facts import eval_asked, eval_found, eval_results
from ftreg.store import check_writable, digest
from ftreg.telemetry import traced

# How many samples a scorer gets at a time: enough to batch well, few enough to show progress.
_SCORING_BATCH = 64
# The header goes into the baseline's file too, which is kept small for git.
_RECORDED_LEAKS = 20


class EvalEvents(Protocol):
    """A listener; every method may do nothing."""

    def phase(self, text: str) -> None:
        """A preparation has begun, in a few words."""

    def progress(self, what: str, done: int, total: int) -> None:
        """So many outputs are generated, or scored by one scorer."""

    def notice(self, text: str) -> None:
        """What the user should know, though nothing is wrong with the command."""


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

    outputs, generation = _generate(subject, config.eval, events)
    samples = [
        Sample(
            id=example.id,
            input=example.input,
            output=output.text,
            reference=example.references or None,
            context=dataset.card.scoring_context(example),
        )
        for example, output in zip(rows, outputs, strict=True)
    ]
    scores = {name: _score(name, scorer, samples, events) for name, scorer in scorers.items()}
    return write_evaluation(
        folder,
        header=_header(subject, config, generation=generation)
        | {"leakage": leakage, "scorers": described},
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


def _generate(
    subject: _Subject, config: EvalConfig, events: EvalEvents
) -> tuple[list[Output], dict[str, Any]]:
    events.phase("loading the checkpoint")
    import torch

    from ftreg.generation.engine import generate
    from ftreg.models.load import load_checkpoint_model, load_tokenizer
    from ftreg.training.examples import chat_ids

    folder = subject.checkpoint.folder
    subject.checkpoint.verify()
    trusted = subject.checkpoint.manifest.base.trust_remote_code
    tokenizer = load_tokenizer(folder, trust_remote_code=trusted)
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    model: Any = load_checkpoint_model(folder, dtype=dtype)
    if torch.cuda.is_available():
        model = model.to("cuda")
    prompts = [
        (example.id, chat_ids(tokenizer, _messages(subject, example), answer_next=True))
        for example in subject.rows
    ]
    total = len(prompts)
    events.progress("generating", 0, total)
    outputs = generate(
        prompts,
        model=model,
        tokenizer=tokenizer,
        max_new_tokens=config.max_new_tokens,
        batch_size=config.batch_size,
        advance=lambda done: events.progress("generating", done, total),
    )
    return outputs, {
        "engine": "transformers",
        "decoding": "greedy",
        "max_new_tokens": config.max_new_tokens,
        "precision": config.precision,
        "batch_size": config.batch_size,
        "device": model.device.type,
        "new_tokens": sum(output.tokens for output in outputs),
        "cut_off": sum(output.finish == "length" for output in outputs),
    }


def _messages(subject: _Subject, example: Example) -> list[dict[str, str]]:
    try:
        return subject.dataset.card.prompt.messages(example)
    except ValueError as error:
        raise UsageError(f"{subject.dataset.folder}: {error}") from error


def _score(name: str, scorer: Any, samples: Sequence[Sample], events: EvalEvents) -> list[Score]:
    scores: list[Score] = []
    for start in range(0, len(samples), _SCORING_BATCH):
        events.progress(f"scoring {name}", start, len(samples))
        batch = samples[start : start + _SCORING_BATCH]
        try:
            scores.extend(scorer.score(batch))
        except FtregError:
            raise
        except Exception as error:  # the outputs are worth more than one scorer's fault
            scores.extend([Score(None, f"the scorer failed: {error!r}")] * len(batch))
    events.progress(f"scoring {name}", len(samples), len(samples))
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
