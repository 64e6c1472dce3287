"""How many examples a margin needs, from the paired deltas of an evaluation's last gate."""

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
    """Examples that are compared."""
    spread: float
    """Standard deviation of the paired deltas of these, on the scale of the scores."""
    need: int | None
    """Examples with which a candidate as good as the baseline passes in four of five cases; null
    where the noise of the training seeds alone is more than the margin."""
    need_range: tuple[int, int] | None
    """The range around it for what the examples leave open, with a probability of 90 %."""
    need_to_find: int | None
    """Examples with which a drop of twice the margin is a regression in 19 of 20 cases, of one
    training seed; null where a score cannot drop by so much."""


@printed
class Power(Printed):
    """What `ftreg power --json` prints."""

    evaluation: str
    """Its id."""
    margin: float
    """The mean drop that is allowed, on the scale of the scores."""
    scorers: tuple[NeededExamples, ...]
    """Those that are on both sides."""


def power(evaluation: Evaluation, *, margin: float, workspace: Workspace) -> Power:
    """Return, per scorer, how many examples an equally good candidate needs to pass a margin.

    The paired deltas are those of the evaluation's last gate, and so is the noise of seeds. The
    numbers are those of the verdict that this margin would have.

    Args:
        evaluation: one that has been gated.
        margin: the mean drop that is allowed, in (0, 1].
        workspace: has what it was held against.

    Raises:
        UndecidedError: the evaluation has not been gated, or what it was held against is gone.
        UsageError: the record of its gate is damaged.
    """
    gate = last_gate(evaluation)
    if gate is None:
        raise UndecidedError(
            f"{evaluation.id} has not been gated, and the spread of paired deltas comes from a "
            f"gate; `ftreg gate baseline {evaluation.id}` makes one"
        )
    baseline = held_against(gate.baseline, evaluation, workspace=workspace)
    if baseline is None:
        raise UndecidedError(
            f"{evaluation.id} was held against {gate.baseline}, which is no longer here; "
            f"`ftreg gate baseline {evaluation.id}` holds it against the present baseline"
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
    """Return the paired deltas of a scorer, means over seeds."""
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
