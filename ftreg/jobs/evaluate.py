"""Run a checkpoint over a dataset version and score every output."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ftreg
from ftreg.config import custom_code
from ftreg.config.code_named import TRUST, place_in_manifest
from ftreg.config.evaluating import AnyEvaluationConfig
from ftreg.data import DatasetVersion, Split, load_dataset
from ftreg.data.cohorts import check_tags, hidden_context_note
from ftreg.data.leakage import find_leaks
from ftreg.errors import UsageError
from ftreg.files.store import check_writable, digest, portable_path
from ftreg.jobs.generate import EvalEvents, Generator, Round, SilentEval
from ftreg.jobs.probe import ask, divide, make_probes
from ftreg.jobs.score_rounds import (
    Scoring,
    generation_of,
    make_scorers,
    noise_of,
)
from ftreg.jobs.subjects import Subject, given_round, trained_subject
from ftreg.jobs.trained_on import trained_on
from ftreg.jobs.until_decided import EvaluatedRows, UntilDecided, evaluate_until_decided
from ftreg.records.evaluation.clock import next_moment
from ftreg.records.evaluation.rows import Probed, Run
from ftreg.records.evaluation.stored import Evaluation, write_evaluation
from ftreg.records.layout import MANIFEST
from ftreg.records.recipe import UNKNOWN
from ftreg.records.replicas import read_replicas
from ftreg.records.span_facts import eval_asked, eval_found, eval_results
from ftreg.scoring.probes.questions import Probe
from ftreg.services.telemetry import traced

# The header is also stored in the baseline's file, which is kept small for git.
_RECORDED_LEAKS = 20


@dataclass(frozen=True, slots=True)
class _Rows:
    """The evaluated rows of a split."""

    dataset: DatasetVersion
    split: str
    whole: Split
    rows: Split


@traced("ftreg.eval", asked=eval_asked, found=eval_found, results=eval_results)
def evaluate(
    checkpoint_folder: Path | Subject,
    *,
    config: AnyEvaluationConfig,
    folder: Path,
    events: EvalEvents | None = None,
    until: UntilDecided | None = None,
) -> Evaluation:
    """Generate, score, and store the evaluation.

    Args:
        checkpoint_folder: a checkpoint with its manifest, or a group of replicas (each of them is
            evaluated, in one evaluation), or a subject of `ftreg.jobs.subjects` for a model that
            ftreg did not train, or for outputs.
        config: its sections `dataset` and `eval` determine the evaluation, and `base.model`, if it
            is a folder, is where the base of adapters may be.
        folder: the evaluation folder to write; it must not exist.
        events: receives progress.
        until: if given, generate in blocks, and stop when the gate has decided.

    Raises:
        UsageError: subject, dataset or scorers are invalid, or forbidden custom code is named;
            nothing was written.
        UndecidedError: with `until`, the two cannot be compared; nothing was written.
    """
    events = events or SilentEval()
    check_writable(folder)
    subject = _with_base(checkpoint_folder, config)
    _tell_of_trust(subject, events)
    _refuse_one_server_for_all(subject, config)
    if until is not None:
        until.refuse(len(subject.members), config)
    evaluated = _rows(config)
    rows, dataset = evaluated.rows, evaluated.dataset
    _tell_of_hidden_context(subject, evaluated, events)
    # Scorers are created before generation, so that an invalid option fails early.
    events.phase("loading the scorers")
    probes = _probes(subject, config)
    scorers = make_scorers(divide(config.eval.scorers)[0], thoughts=config.eval.thoughts)
    leakage = _leakage(subject, rows, Path(config.dataset.root), events)
    scoring = Scoring(dataset, rows, scorers)
    whole = _Whole(subject, evaluated, config, leakage)
    if until is None:
        part = _evaluate_all(subject, evaluated, scoring, probes, config, events)
    else:
        (member,) = subject.members.values()
        part = evaluate_until_decided(
            member, scoring, until, config, header=whole.header, events=events
        )
    return write_evaluation(
        folder,
        header={"created": next_moment(folder.parent, notice=events.notice)} | whole.header(part),
        examples=part.scoring.rows,
        runs=part.runs,
        cohort_tags={row.id: dataset.card.cohort_tags(row) for row in part.scoring.rows},
        cluster=dataset.card.cluster,
        probed=part.probed,
    )


def _with_base(subject: Path | Subject, config: AnyEvaluationConfig) -> Subject:
    """Return the evaluated subject, whose adapters may have their base in another folder."""
    if isinstance(subject, Path):
        return trained_subject(read_replicas(subject).with_base(config.base.model))
    if subject.replicas is not None:
        return trained_subject(subject.replicas.with_base(config.base.model))
    return subject


def _tell_of_hidden_context(subject: Subject, evaluated: _Rows, events: EvalEvents) -> None:
    note = hidden_context_note(evaluated.rows, evaluated.dataset.card)
    if note and subject.given is None:
        events.notice(note)


def _probes(subject: Subject, config: AnyEvaluationConfig) -> Mapping[str, Probe]:
    probes = make_probes(config.eval)
    if probes and subject.given is not None:
        raise UsageError(
            f"eval.scorers: {', '.join(probes)} query the model itself, which outputs made "
            "elsewhere do not have; remove them"
        )
    return probes


def _rows(config: AnyEvaluationConfig) -> _Rows:
    dataset = load_dataset(config.dataset.version, root=Path(config.dataset.root))
    split = config.dataset.eval_split
    held_out = dataset.split(split)
    place = dataset.folder / dataset.card.splits[split].file
    check_tags(held_out, dataset.card, place=place)
    return _Rows(dataset, split, held_out, held_out[: config.dataset.max_eval_examples])


@dataclass(frozen=True, slots=True)
class _Whole:
    """The part of the header that does not depend on the evaluated rows."""

    subject: Subject
    evaluated: _Rows
    config: AnyEvaluationConfig
    leakage: Mapping[str, Any]

    def header(self, part: EvaluatedRows) -> dict[str, Any]:
        """Return the header for some or all rows."""
        asked = self.config.eval
        found = _header(self.subject, self.evaluated, self.config, generation=part.generation)
        found |= {"leakage": self.leakage, "noise": part.noise}
        if part.sequence is not None:
            found["sequence"] = part.sequence
        return found | part.scoring.record(
            part.runs.values(), configs=asked.scorers, thoughts=asked.thoughts
        )


def _evaluate_all(
    subject: Subject,
    evaluated: _Rows,
    scoring: Scoring,
    probes: Mapping[str, Probe],
    config: AnyEvaluationConfig,
    events: EvalEvents,
) -> EvaluatedRows:
    runs: dict[int | None, Run] = {}
    probed: dict[int | None, Probed] = {}
    records, noise = [], []
    for seed, generator, rounds in _rounds(subject, evaluated, config, events):
        records.append(rounds[0].record)
        if generator is not None:
            probed[seed] = ask(generator, probes, events)
        runs[seed], found = scoring.score(rounds, events)
        noise.append(found)
    return EvaluatedRows(
        scoring, runs, generation_of(records), noise_of(noise), probed=probed if probes else {}
    )


def _rounds(
    subject: Subject, evaluated: _Rows, config: AnyEvaluationConfig, events: EvalEvents
) -> Iterator[tuple[int | None, Generator | None, list[Round]]]:
    """Yield the outputs of each seed, and their generator; None if they are given."""
    dataset, rows = evaluated.dataset, evaluated.rows
    if subject.given is not None:
        place = f"{dataset.ref} ({evaluated.split})"
        yield None, None, [given_round(subject.given, evaluated.whole, rows, place=place)]
    for seed, member in subject.members.items():
        if seed is not None:
            events.notice(f"evaluating the replica of seed {seed}")
        generator = Generator(member, dataset, config.eval, events)
        yield seed, generator, generator.rounds(rows)


def _tell_of_trust(subject: Subject, events: EvalEvents) -> None:
    """Report, or reject, that code of a base model is run.

    The configuration is checked when it is read; this checks the record of the base model.
    """
    members = subject.members.values()
    trusted = [member for member in members if member.manifest.base.trust_remote_code]
    for member in trusted:
        recorded = member.folder / MANIFEST
        place = place_in_manifest(recorded, TRUST) if subject.replicas else "base.trust_remote_code"
        custom_code.refuse(f"what comes with the model {member.manifest.base.model}", place=place)
    for model in dict.fromkeys(member.manifest.base.model for member in trusted):
        events.notice(custom_code.trust_note(model))


def _refuse_one_server_for_all(subject: Subject, config: AnyEvaluationConfig) -> None:
    """Reject a server for replicas: with the weights of one, seeds would have no noise."""
    if len(subject.members) > 1 and config.eval.engine.name != "transformers":
        first = next(iter(subject.members.values())).folder
        raise UsageError(
            f"eval.engine: {first.parent} has {len(subject.members)} replicas, but a server has "
            "the weights of one; evaluate the group with the engine transformers, or a single "
            f"replica by its folder, such as {first}"
        )


def _leakage(subject: Subject, rows: Split, root: Path, events: EvalEvents) -> dict[str, Any]:
    """Search for evaluated rows among the rows that the checkpoint was trained on.

    `root` is the evaluation's folder of datasets, for training rows that are missing in the
    training's folder. The returned record has `trained_on`, and the counts, or why they are
    unknown.
    """
    if subject.replicas is None:
        why = f"ftreg did not train {subject.name}, so its recipe and its training rows are unknown"
        events.notice(why)
        return {"trained_on": UNKNOWN, "unknown": why}
    events.phase("looking for leaked rows")
    manifest = subject.replicas.first.manifest
    recorded = manifest.dataset
    record: dict[str, Any] = {"trained_on": f"{recorded.version}, {recorded.split}"}
    try:
        _, train = trained_on(manifest, root=root)
    except UsageError as error:
        events.notice(f"whether training rows leaked into the evaluation is unknown: {error}")
        return record | {"unknown": str(error)}
    found = find_leaks(train, rows)
    if found.leaks:
        events.notice(
            f"{found.summary()} of the training rows ({recorded.version}, {recorded.split}): "
            f"{found.first_ids()}; their scores say little about new rows"
        )
    return record | found.to_dict(most=_RECORDED_LEAKS)


def _header(
    subject: Subject,
    evaluated: _Rows,
    config: AnyEvaluationConfig,
    *,
    generation: Mapping[str, Any],
) -> dict[str, Any]:
    dataset = evaluated.dataset
    return {
        "ftreg": ftreg.__version__,
        "checkpoint": dict(subject.summary),
        "dataset": {
            "name": dataset.ref.name,
            "version": str(dataset.ref),
            "root": portable_path(config.dataset.root),
            "digest": dataset.card.digest,
            "split": evaluated.split,
            "rows": len(evaluated.rows),
            "rows_digest": digest([example.id for example in evaluated.rows]),
        },
        "generation": generation,
        "policy": config.gate.model_dump(mode="json"),
    }
