"""Find undeclared groups of examples that got worse, and the drops that cannot be detected."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftreg.config.policy import GatePolicy
from ftreg.config.sections import DatasetConfig
from ftreg.data import load_dataset
from ftreg.errors import FtregError, UndecidedError, UsageError, did_you_mean
from ftreg.gate.aligned import cluster_numbers, read_side
from ftreg.gate.planning import drop_found
from ftreg.gate.units import units_of
from ftreg.jobs.gate import find_baselines, policy_of, refuse_unlike
from ftreg.records.baseline import Baseline
from ftreg.records.evaluation.header import is_partial, stopped_after
from ftreg.records.evaluation.stored import Evaluation, read_outputs
from ftreg.records.kept_answers import SLICES, keep_answer
from ftreg.records.printed import Printed, json_object, printed
from ftreg.records.samples import Example
from ftreg.records.workspace import Workspace
from ftreg.why.slices_described import ExampleFacts, describe_slices
from ftreg.why.slices_search import Halves, Sides, TestedSlice, find_worse, least_members

# Shares of the examples for which the detectable drop is reported.
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)
_MOST_EXAMPLES = 10


@printed
class SliceExample:
    """An example of a slice."""

    id: str
    delta: float
    """Candidate minus baseline, on the scale of the scores."""
    input: str | None
    """The input; null if an older evaluation does not have it."""


@printed
class WorseSlice:
    """A group of examples that was tested."""

    slice: str
    """Description of what its examples have in common."""
    without: tuple[str, ...]
    """Groups whose examples are excluded here, since they were counted before."""
    scorer: str
    found: bool
    """Whether it is reported as worse."""
    declared: bool
    """Whether it is a cohort, which the gate tests anyway."""
    examples: int
    """Its examples in both halves."""
    n: int
    """Number of its examples in the test half."""
    delta: float
    """Their mean delta, on the scale of the scores."""
    interval: tuple[float, float] | None
    """The confidence interval of `delta`, for this slice alone."""
    searched_delta: float
    """The mean delta of the half that selected it: biased low by the selection."""
    p: float
    """P-value of a drop beyond the margin and worse than elsewhere, for this slice alone."""
    p_adjusted: float
    """`p` after correction for all tested slices."""
    worst: tuple[SliceExample, ...]
    """Its examples with the largest drops, at most ten."""


@printed
class UnseenDrop:
    """The drop that a slice of a given size needs to be found."""

    scorer: str
    share: float
    """Share of the examples."""
    examples: int
    """Number of examples, in both halves."""
    drop: float | None
    """A smaller true drop is found in fewer than four of five cases; null if every one is."""


@printed
class Slices(Printed):
    """What `ftreg slices --json` prints."""

    evaluation: str
    """Its id."""
    against: str
    """Id of the evaluation that it is compared with."""
    searched: int
    """Examples of one half. Slices were searched on it and tested on the other, and vice versa."""
    tested: int
    """Examples of the other half."""
    described: int
    """Number of groups searched."""
    confidence: float
    """Probability that no group is reported as worse if none fell by more than its margin."""
    margins: dict[str, float]
    """Scorer to the allowed drop."""
    slices: tuple[WorseSlice, ...]
    """The tested groups, the clearest first."""
    unseen: tuple[UnseenDrop, ...]
    """Drops that could not be detected, by scorer and size."""

    @property
    def found(self) -> tuple[WorseSlice, ...]:
        """The groups reported as worse."""
        return tuple(item for item in self.slices if item.found)


def find_slices(
    evaluation: Evaluation,
    *,
    workspace: Workspace,
    against: str = "baseline",
    scorers: Collection[str] = (),
    policy: GatePolicy | None = None,
) -> Slices:
    """Search for groups on one half of the examples, test them on the other, and vice versa.

    The result is stored beside the evaluation for its report.

    Args:
        evaluation: the candidate.
        workspace: has the evaluation to compare with.
        against: `baseline`, `anchor`, or an evaluation.
        scorers: names; if empty, all that both sides have.
        policy: default: the one in force when the candidate was evaluated.

    Raises:
        UndecidedError: the two cannot be compared, or there is nothing to compare with.
        UsageError: a record is damaged, or there is no such scorer.
    """
    name = evaluation.header["dataset"]["name"]
    baseline, _ = find_baselines(against, name, workspace=workspace)
    _refuse(evaluation, baseline)
    policy = policy or policy_of(evaluation)
    ids = sorted(evaluation.cohorts)
    sides = _sides(evaluation, baseline, ids, scorers)
    clusters = cluster_numbers(ids, evaluation.clusters or None)
    facts, cohorts = _facts(evaluation, ids)
    groups = describe_slices(facts, cohorts=cohorts, least=least_members(len(ids)))
    halves = Halves.of([evaluation.clusters.get(name, name) for name in ids])
    tested = find_worse(sides, groups, halves, policy, clusters=clusters)
    result = Slices(
        evaluation=evaluation.id,
        against=str(baseline.header["id"]),
        searched=len(halves.search),
        tested=len(halves.test),
        described=len(groups),
        confidence=policy.confidence,
        margins={side.scorer: policy.margin_for(side.scorer) for side in sides},
        slices=tuple(_worse(item, sides, facts, ids, policy) for item in tested),
        unseen=tuple(_unseen(sides, clusters, halves, policy)),
    )
    _keep(evaluation, result)
    return result


def _refuse(evaluation: Evaluation, baseline: Baseline) -> None:
    if is_partial(evaluation.header):
        raise UndecidedError(
            f"{evaluation.id} was {stopped_after(evaluation.header)}: its scores determined which "
            "rows it has. Evaluate its checkpoint without --until-decided."
        )
    refuse_unlike(evaluation, baseline, None)
    if baseline.header["id"] == evaluation.id:
        raise UsageError(
            f"{evaluation.id} is the baseline itself; choose what to compare it with: "
            "--against EVALUATION"
        )


def _sides(
    evaluation: Evaluation, baseline: Baseline, ids: Sequence[str], scorers: Collection[str]
) -> list[Sides]:
    old = read_side(baseline.scores, ids, side="baseline")
    new = read_side(evaluation.scores, ids, side="candidate")
    shared = sorted(old.columns.keys() & new.columns.keys())
    for name in scorers:
        if name not in shared:
            raise UsageError(
                f"--scorer {name}: both sides have {', '.join(shared) or 'none'}"
                f"{did_you_mean(name, shared)}"
            )
    found = [Sides(name, old.columns[name], new.columns[name]) for name in scorers or shared]
    found = [side for side in found if np.isfinite(side.deltas()).any()]
    if not found:
        raise UndecidedError(
            f"{evaluation.id} and {baseline.header['id']} have no common scorer that scored an "
            "example on both sides"
        )
    return found


def _facts(
    evaluation: Evaluation, ids: Sequence[str]
) -> tuple[list[ExampleFacts], tuple[str, ...]]:
    """Return the features of each example, and the tags that form cohorts.

    The dataset version has more tags than the evaluation's rows, which are used if it is not
    available.
    """
    rows = read_outputs(evaluation.folder, set(ids))
    examples = _examples(evaluation)
    facts = []
    for name in ids:
        row, example = rows[name], examples.get(name)
        cohorts = evaluation.cohorts[name]
        tags = {} if example is None else dict(example.tags)
        facts.append(
            ExampleFacts(
                prompt=str(row.get("input", "" if example is None else example.input)),
                reference=next(iter(row.get("reference", ())), ""),
                tags={**tags, **cohorts},
            )
        )
    return facts, tuple(sorted({tag for tags in evaluation.cohorts.values() for tag in tags}))


def _examples(evaluation: Evaluation) -> dict[str, Example]:
    """Return the dataset's rows by id; empty if the version is missing or has changed."""
    wanted = evaluation.header["dataset"]
    root = wanted.get("root", DatasetConfig.model_fields["root"].default)
    try:
        dataset = load_dataset(str(wanted["version"]), root=Path(root))
        if dataset.card.digest != wanted["digest"]:
            return {}
        return {row.id: row for row in dataset.split(wanted["split"])[: wanted["rows"]]}
    except FtregError:
        return {}


def _worse(
    item: TestedSlice,
    sides: Sequence[Sides],
    facts: Sequence[ExampleFacts],
    ids: Sequence[str],
    policy: GatePolicy,
) -> WorseSlice:
    row = item.row
    deltas = next(side.deltas() for side in sides if side.scorer == row.scorer)
    known = [at for at in item.positions.tolist() if deltas[at] < 0]
    worst = sorted(known, key=lambda at: (deltas[at], ids[at]))[:_MOST_EXAMPLES]
    return WorseSlice(
        slice=item.slice.words,
        without=item.without,
        scorer=row.scorer,
        found=item.p_adjusted <= 1 - policy.confidence,
        declared=item.slice.declared,
        examples=len(item.positions),
        n=row.n,
        delta=row.delta or 0.0,
        interval=row.interval,
        searched_delta=item.searched_delta,
        p=item.p_value,
        p_adjusted=item.p_adjusted,
        worst=tuple(
            SliceExample(id=ids[at], delta=float(deltas[at]), input=facts[at].prompt or None)
            for at in worst
        ),
    )


def _unseen(
    sides: Sequence[Sides], clusters: Any, halves: Halves, policy: GatePolicy
) -> list[UnseenDrop]:
    # Half of the error probability is reserved for the other tested groups.
    tested = policy.model_copy(update={"confidence": (1 + policy.confidence) / 2})
    found = []
    for side in sides:
        deltas = side.deltas()
        there = np.flatnonzero(~np.isnan(deltas))
        units = units_of(deltas[there], None if clusters is None else clusters[there])
        if units.count < 2:
            continue
        for share in _SHARES:
            count = round(share * units.count * len(halves.test) / len(deltas))
            drop = None
            if count > 1:
                margin = policy.margin_for(side.scorer)
                drop = drop_found(units, count=count, margin=margin, policy=tested)
            examples = round(share * len(there))
            found.append(UnseenDrop(scorer=side.scorer, share=share, examples=examples, drop=drop))
    return found


def _keep(evaluation: Evaluation, result: Slices) -> None:
    """Write the result beside the evaluation."""
    found = [
        {**json_object(item), "worst": [json_object(one) for one in item.worst]}
        for item in result.found
    ]
    answer = {"against": result.against, "described": result.described, "found": found}
    keep_answer(evaluation, SLICES, answer)
