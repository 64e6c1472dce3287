"""Run a checkpoint over a dataset version and score every output."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ftreg
from ftreg.config import custom_code
from ftreg.config.code_named import TRUST, place_in_manifest
from ftreg.config.sections import RunConfig
from ftreg.data import DatasetVersion, Split, load_dataset
from ftreg.data.cohorts import check_tags
from ftreg.data.leakage import find_leaks
from ftreg.errors import UsageError
from ftreg.files.store import check_writable, digest, portable_path
from ftreg.jobs.generate import EvalEvents, SilentEval, generate_rounds
from ftreg.jobs.score_rounds import (
    Scoring,
    generation_of,
    make_scorers,
    noise_of,
)
from ftreg.jobs.until_decided import EvaluatedRows, UntilDecided, evaluate_until_decided
from ftreg.records.checkpoint import Checkpoint, checkpoint_name
from ftreg.records.evaluation.clock import next_moment
from ftreg.records.evaluation.rows import Run
from ftreg.records.evaluation.stored import Evaluation, write_evaluation
from ftreg.records.layout import MANIFEST
from ftreg.records.replicas import Replicas, read_replicas
from ftreg.records.span_facts import eval_asked, eval_found, eval_results
from ftreg.services.telemetry import traced

# The header goes into the baseline's file too, which is kept small for git.
_RECORDED_LEAKS = 20


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
    until: UntilDecided | None = None,
) -> Evaluation:
    """Generate, score, and store the evaluation.

    Args:
        checkpoint_folder: a checkpoint with its manifest, or a group of replicas: each of them is
            evaluated, and all are one evaluation.
        config: its `dataset` and `eval` sections say what to evaluate on and how, and `base.model`,
            if it is a folder, where the base of adapters may lie.
        folder: the evaluation folder to write; it must not exist.
        events: is told of the progress.
        until: given to generate in blocks, and to stop when the gate has decided.

    Raises:
        UsageError: checkpoint, dataset or scorers are wrong, or custom code is forbidden and named;
            nothing was written.
        UndecidedError: with `until`, the two cannot be compared; nothing was written.
    """
    events = events or SilentEval()
    check_writable(folder)
    replicas = read_replicas(checkpoint_folder).with_base(config.base.model)
    _tell_of_trust(replicas, events)
    _refuse_one_server_for_all(replicas, config)
    if until is not None:
        until.refuse(replicas, config)
    dataset = load_dataset(config.dataset.version, root=Path(config.dataset.root))
    split = config.dataset.eval_split
    held_out = dataset.split(split)
    place = dataset.folder / dataset.card.splits[split].file
    check_tags(held_out, dataset.card, place=place)
    rows = held_out[: config.dataset.max_eval_examples]
    subject = _Subject(replicas.first, dataset, rows, split)
    # Scorers are made before anything is generated, so that a wrong option costs no minutes.
    events.phase("loading the scorers")
    scorers = make_scorers(config.eval.scorers, thoughts=config.eval.thoughts)
    leakage = _leakage(subject, Path(config.dataset.root), events)
    scoring = Scoring(dataset, rows, scorers)
    whole = _Whole(subject, replicas, config, leakage)
    if until is None:
        part = _evaluate_all(replicas, scoring, config, events)
    else:
        part = evaluate_until_decided(
            replicas.first, scoring, until, config, header=whole.header, events=events
        )
    return write_evaluation(
        folder,
        header={"created": next_moment(folder.parent, notice=events.notice)} | whole.header(part),
        examples=part.scoring.rows,
        runs=part.runs,
        cohort_tags={row.id: dataset.card.cohort_tags(row) for row in part.scoring.rows},
        cluster=dataset.card.cluster,
    )


@dataclass(frozen=True, slots=True)
class _Whole:
    """What the header says, however many rows were evaluated."""

    subject: _Subject
    replicas: Replicas
    config: RunConfig
    leakage: Mapping[str, Any]

    def header(self, part: EvaluatedRows) -> dict[str, Any]:
        """The header of a part of the rows, or of all."""
        asked = self.config.eval
        found = _header(self.subject, self.replicas, self.config, generation=part.generation)
        found |= {"leakage": self.leakage, "noise": part.noise}
        if part.sequence is not None:
            found["sequence"] = part.sequence
        return found | part.scoring.record(
            part.runs.values(), configs=asked.scorers, thoughts=asked.thoughts
        )


def _evaluate_all(
    replicas: Replicas, scoring: Scoring, config: RunConfig, events: EvalEvents
) -> EvaluatedRows:
    runs: dict[int | None, Run] = {}
    records, noise = [], []
    several = len(replicas.members) > 1
    for member in replicas.members:
        seed = member.manifest.training.seed
        if several:
            events.notice(f"evaluating the replica of seed {seed}")
        rounds = generate_rounds(member, scoring.dataset, scoring.rows, config.eval, events)
        records.append(rounds[0].record)
        runs[seed if several else None], found = scoring.score(rounds, events)
        noise.append(found)
    return EvaluatedRows(scoring, runs, generation_of(records), noise_of(noise))


def _tell_of_trust(replicas: Replicas, events: EvalEvents) -> None:
    """Say, or refuse, that code which comes with a base model runs.

    The configuration is looked at where it is read; this is the record of the base model.
    """
    trusted = [member for member in replicas.members if member.manifest.base.trust_remote_code]
    for member in trusted:
        place = place_in_manifest(member.folder / MANIFEST, TRUST)
        custom_code.refuse(f"what comes with the model {member.manifest.base.model}", place=place)
    for model in dict.fromkeys(member.manifest.base.model for member in trusted):
        events.notice(custom_code.trust_note(model))


def _refuse_one_server_for_all(replicas: Replicas, config: RunConfig) -> None:
    """A server has one replica's weights: what it wrote for each would show seeds without noise."""
    if len(replicas.members) > 1 and config.eval.engine.name != "transformers":
        raise UsageError(
            f"eval.engine: {replicas.folder} has {len(replicas.members)} replicas, and a server "
            "the weights of one; evaluate the group with the engine transformers, or a single "
            f"replica by its folder, such as {replicas.first.folder}"
        )


def _leakage(subject: _Subject, root: Path, events: EvalEvents) -> dict[str, Any]:
    """Look for evaluated rows among the rows that the checkpoint was trained on.

    `root` is the evaluation's folder of datasets, for training rows that the training's lacks. The
    record that is returned has `trained_on`, and the counts, or why they are not known.
    """
    events.phase("looking for leaked rows")
    recorded = subject.checkpoint.manifest.dataset
    trained_in = Path(subject.checkpoint.manifest.config.dataset.root)
    record: dict[str, Any] = {"trained_on": f"{recorded.version}, {recorded.split}"}
    try:
        try:
            trained = load_dataset(recorded.version, root=trained_in)
        except UsageError:
            trained = load_dataset(recorded.version, root=root)
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


def _header(
    subject: _Subject, replicas: Replicas, config: RunConfig, *, generation: Mapping[str, Any]
) -> dict[str, Any]:
    manifest = replicas.first.manifest
    optimizer = manifest.optimizer
    return {
        "ftreg": ftreg.__version__,
        "checkpoint": {
            "name": checkpoint_name(replicas.folder),
            "identity": replicas.identity,
            "parent": manifest.parent,
            "weights": replicas.weights,
            "base": manifest.base.model,
            "optimizer": optimizer["name"],
            "lr": optimizer["arguments"]["lr"],
            "weight_decay": optimizer["arguments"]["weight_decay"],
            "steps": manifest.training.steps,
            **replicas.seed_facts(),
            **replicas.tracker_facts(),
            "last_loss": replicas.last_loss,
            "recipe": replicas.recipe(),
        },
        "dataset": {
            "name": subject.dataset.ref.name,
            "version": str(subject.dataset.ref),
            "root": portable_path(config.dataset.root),
            "digest": subject.dataset.card.digest,
            "split": subject.split,
            "rows": len(subject.rows),
            "rows_digest": digest([example.id for example in subject.rows]),
        },
        "generation": generation,
        "policy": config.gate.model_dump(mode="json"),
    }
