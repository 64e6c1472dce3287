"""Compute how many examples a margin needs, from the paired deltas of the last gate."""

import math

import numpy as np

from ftreg.config.policy import GatePolicy
from ftreg.errors import UndecidedError
from ftreg.gate import Row, compare
from ftreg.gate.aligned import all_ids, cluster_numbers, mean_over_seeds, read_side
from ftreg.gate.planning import examples_to_find
from ftreg.gate.units import Units, units_of
from ftreg.gate.verdict import PRIMARY
from ftreg.jobs.gate import held_against, last_gate, levels_of
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.printed import Printed, printed
from ftreg.records.samples import Scores
from ftreg.records.workspace import Workspace


@printed
class NeededExamples:
    """How many examples one scorer needs."""

    scorer: str
    """Its name."""
    have: int
    """Number of compared examples."""
    spread: float
    """Standard deviation of their paired deltas, on the scale of the scores."""
    need: int | None
    """Examples with which a candidate as good as the baseline passes in four of five cases; null
    if the noise of the training seeds alone exceeds the margin."""
    need_range: tuple[int, int] | None
    """Its 90 % interval, given the sampling error of the examples."""
    need_to_find: int | None
    """Examples with which a drop of twice the margin is a regression in 19 of 20 cases, for one
    training seed; null if a score cannot drop by that much."""


@printed
class Power(Printed):
    """What `ftreg power --json` prints."""

    evaluation: str
    """Its id."""
    margin: float
    """The allowed mean drop, on the scale of the scores."""
    scorers: tuple[NeededExamples, ...]
    """Scorers that both sides have."""


def power(evaluation: Evaluation, *, margin: float, workspace: Workspace) -> Power:
    """Return, per scorer, how many examples an equally good candidate needs to pass a margin.

    The paired deltas and the seed noise are those of the evaluation's last gate. The numbers are
    the same as in a verdict with this margin.

    Args:
        evaluation: one that has been gated.
        margin: the allowed mean drop, in (0, 1].
        workspace: has the evaluation that it was compared with.

    Raises:
        UndecidedError: the evaluation has not been gated, or the one it was compared with is gone.
        UsageError: the record of its gate is damaged.
    """
    gate = last_gate(evaluation)
    if gate is None:
        raise UndecidedError(
            f"{evaluation.id} has not been gated, and the spread of paired deltas comes from a "
            f"gate; run `ftreg gate baseline {evaluation.id}`"
        )
    baseline = held_against(gate.baseline, evaluation, workspace=workspace)
    if baseline is None:
        raise UndecidedError(
            f"{evaluation.id} was compared with {gate.baseline}, which is no longer available; "
            f"`ftreg gate baseline {evaluation.id}` compares it with the present baseline"
        )
    policy = GatePolicy.model_validate(gate.verdict.policy, strict=False)
    verdict = compare(
        baseline.scores,
        evaluation.scores,
        policy.model_copy(update={"margin": margin, "margins": {}, "floors": {}, "cohorts": []}),
        clusters=evaluation.clusters or None,
        levels=levels_of(evaluation),
        looks=gate.verdict.looks,
    )
    return Power(
        evaluation=evaluation.id,
        margin=margin,
        scorers=tuple(
            _needed(
                row,
                row.standard_error,
                find=examples_to_find(
                    _units(row.scorer, baseline.scores, evaluation), margin=margin, policy=policy
                ),
            )
            for row in verdict.rows
            if row.cohort == PRIMARY and row.standard_error is not None
        ),
    )


def _units(scorer: str, baseline: Scores, evaluation: Evaluation) -> Units:
    """Return the paired deltas of a scorer, averaged over seeds."""
    ids = all_ids(baseline, evaluation.scores)
    old, new = (
        mean_over_seeds(read_side(scores, ids, side=side).columns[scorer])
        for side, scores in (("baseline", baseline), ("candidate", evaluation.scores))
    )
    both = ~np.isnan(new - old)
    needed = [name for name, known in zip(ids, both, strict=True) if known]
    clusters = cluster_numbers(ids, evaluation.clusters or None, needed=needed)
    return units_of((new - old)[both], None if clusters is None else clusters[both])


def _needed(row: Row, error: float, *, find: int | None) -> NeededExamples:
    spread = (error if row.example_error is None else row.example_error) * math.sqrt(row.n)
    return NeededExamples(
        scorer=row.scorer,
        have=row.n,
        spread=round(min(spread, 1.0), 4),
        need=row.n_needed,
        need_range=row.n_needed_range,
        need_to_find=find,
    )
