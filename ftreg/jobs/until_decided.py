"""Evaluate in blocks, and stop as soon as the gate has decided."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftreg.config.evaluating import AnyEvaluationConfig
from ftreg.config.policy import GatePolicy
from ftreg.data import DatasetVersion
from ftreg.errors import UsageError
from ftreg.gate.sequence import seeded_order
from ftreg.jobs.gate import anchor_for, counted_looks, judge, refuse_unlike
from ftreg.jobs.generate import EvalEvents, Generator
from ftreg.jobs.score_rounds import Scoring, generation_of
from ftreg.records.baseline import Baseline
from ftreg.records.checkpoint import ModelFolder
from ftreg.records.evaluation.rows import Probed, Run
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.samples import Example, Output, Score
from ftreg.scoring.factory import PROBES

# Rows between two looks: few enough to stop early, many enough to batch well.
_LEAST_BLOCK = 64
_MOST_BLOCKS = 20


@dataclass(frozen=True, slots=True)
class UntilDecided:
    """What a candidate is compared with while it is evaluated."""

    baseline: Baseline
    anchor: Baseline | None
    policy: GatePolicy

    def refuse(self, seeds: int, config: AnyEvaluationConfig) -> None:
        """Refuse, before generation, what cannot be judged early.

        Args:
            seeds: number of replicas evaluated together; 0 if nothing is generated.
            config: the configuration.

        Raises:
            UsageError: there are several seeds or repeats, or the policy has no statistics.
        """
        sides = [side for side in (self.baseline, self.anchor) if side is not None]
        others = [len(side.header["checkpoint"].get("seeds", ())) for side in sides]
        why = ""
        if seeds == 0:
            why = "the outputs already exist; gate all of them"
        elif max(seeds, *others) > 1:
            why = "several training seeds cannot be judged before all rows are evaluated"
        elif config.eval.rounds > 1:
            why = (
                "the noise of generating twice is measured on all rows; set eval.repeats to 1 "
                "(`-s eval.repeats=1`)"
            )
        elif any(scorer.name in PROBES for scorer in config.eval.scorers):
            names = ", ".join(sorted(PROBES))
            why = f"retention ({names}) cannot be judged before all rows are evaluated"
        elif any(budget is not None for _, budget in self.policy.budgets):
            why = "gate.budgets are checked once, when all rows are evaluated"
        elif self.policy.mode == "threshold":
            why = "gate.mode threshold has no error rates, which early stopping would raise"
        if why:
            raise UsageError(f"--until-decided: {why}, or evaluate without --until-decided")


@dataclass(frozen=True, slots=True)
class EvaluatedRows:
    """The evaluated rows, and the data for an evaluation's header.

    `scoring` has the rows, in the dataset's order, and `runs` their outputs and scores by seed.
    """

    scoring: Scoring
    runs: Mapping[int | None, Run]
    generation: Mapping[str, Any]
    noise: Mapping[str, Any] | None = None
    sequence: Mapping[str, Any] | None = None
    probed: Mapping[int | None, Probed] = field(default_factory=dict)
    """Results of probes, by seed."""


def evaluate_until_decided(
    member: ModelFolder,
    scoring: Scoring,
    until: UntilDecided,
    config: AnyEvaluationConfig,
    *,
    header: Callable[[EvaluatedRows], dict[str, Any]],
    events: EvalEvents,
) -> EvaluatedRows:
    """Generate and score block by block until the gate decides, or all rows are evaluated.

    Critical rows come first; all others in an order determined by the dataset's digest.

    Args:
        member: the model that generates.
        scoring: dataset, all rows, and scorers.
        until: what the candidate is compared with.
        config: how to generate.
        header: returns the header for the rows evaluated so far.
        events: receives progress.

    Raises:
        UndecidedError: it cannot be compared with the baseline; nothing was generated.
        UsageError: the checkpoint or the prompts are invalid.
    """
    dataset, rows = scoring.dataset, scoring.rows
    generator = Generator(member, dataset, config.eval, events)
    generator.chats(rows)  # a row that lacks something costs no minutes
    empty = _part(scoring, {}, [generator.describe()], turns=0)
    untouched = _stored(empty, header)
    anchor = anchor_for(untouched.header, until.baseline, until.anchor)
    refuse_unlike(untouched, until.baseline, anchor)
    records: list[Mapping[str, Any]] = []
    done: dict[str, tuple[Output, Mapping[str, Score]]] = {}
    part = empty
    for block, turns in _blocks(dataset, rows):
        fresh = [row for row in block if row.id not in done]
        if fresh:
            rounds = generator.rounds(fresh)
            records.append(rounds[0].record)
            run, _ = Scoring(dataset, fresh, scoring.scorers).score(rounds, events)
            for place, row in enumerate(fresh):
                scores = {name: column[place] for name, column in run.scores.items()}
                done[row.id] = run.outputs[place], scores
        part = _part(scoring, done, records, turns=turns)
        candidate = _stored(part, header)
        looks = counted_looks(candidate, until.baseline, anchor)
        verdict = judge(candidate, until.baseline, policy=until.policy, anchor=anchor, looks=looks)
        events.notice(f"after {len(done)} of {len(rows)} rows: {verdict.outcome}")
        if verdict.outcome != "undecided":
            break
    return part


def block_size(rows: int) -> int:
    """Return the number of rows between two looks, ignoring clusters."""
    return max(_LEAST_BLOCK, -(-rows // _MOST_BLOCKS))


def _blocks(
    dataset: DatasetVersion, rows: Sequence[Example]
) -> Iterator[tuple[list[Example], int]]:
    """Yield rows to evaluate, and the total after them; clusters are not split."""
    clusters = _clusters(dataset, rows)
    by_id = {row.id: row for row in rows}
    order = [by_id[name] for name in seeded_order(by_id, clusters, digest=dataset.card.digest)]
    size = block_size(len(rows))
    ahead = [row for row in order if row.critical]
    start = 0
    while start < len(order):
        end = min(start + size, len(order))
        while clusters and end < len(order) and _together(order[end - 1 : end + 1], clusters):
            end += 1
        yield [*ahead, *(row for row in order[start:end] if row not in ahead)], end
        ahead, start = [], end


def _together(pair: Sequence[Example], clusters: Mapping[str, str]) -> bool:
    return clusters.get(pair[0].id) == clusters.get(pair[1].id)


def _clusters(dataset: DatasetVersion, rows: Sequence[Example]) -> dict[str, str]:
    tag = dataset.card.cluster
    return {row.id: row.tags[tag] for row in rows if tag and tag in row.tags}


def _part(
    scoring: Scoring,
    done: Mapping[str, tuple[Output, Mapping[str, Score]]],
    records: Sequence[Mapping[str, Any]],
    *,
    turns: int,
) -> EvaluatedRows:
    dataset, everything = scoring.dataset, scoring.rows
    rows = [row for row in everything if row.id in done]
    scores = {name: [done[row.id][1][name] for row in rows] for name in scoring.scorers}
    tags = (dataset.card.cohort_tags(row).items() for row in everything)
    cohorts = Counter(f"{tag}={value}" for pairs in tags for tag, value in pairs)
    sizes = Counter(_clusters(dataset, everything).values()).values()
    return EvaluatedRows(
        Scoring(dataset, rows, scoring.scorers),
        {None: Run([done[row.id][0] for row in rows], scores)},
        generation_of(records),
        sequence={
            "evaluated": len(rows),
            "examples": turns,
            "cohorts": dict(sorted(cohorts.items())),
            "largest_cluster": max(sizes, default=None),
        },
    )


def _stored(part: EvaluatedRows, header: Callable[[EvaluatedRows], dict[str, Any]]) -> Evaluation:
    """Return the evaluation as if it had been read back from a folder."""
    dataset, rows = part.scoring.dataset, part.scoring.rows
    return Evaluation(
        folder=Path(),
        header={"id": "the candidate", "created": "", **header(part)},
        scores={
            name: {row.id: score.value for row, score in zip(rows, column, strict=True)}
            for name, column in part.runs[None].scores.items()
        },
        cohorts={row.id: dataset.card.cohort_tags(row) for row in rows},
        clusters=_clusters(dataset, rows),
        critical=frozenset(row.id for row in rows if row.critical),
    )
