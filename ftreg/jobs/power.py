"""How many examples a margin needs, from what the last gate of an evaluation measured."""

import math

from ftreg.errors import UndecidedError
from ftreg.gate import Row
from ftreg.gate.sample_size import POWER, examples_for_pass
from ftreg.gate.seeds import margin_left
from ftreg.gate.verdict import PRIMARY
from ftreg.jobs.gate import last_gate
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.printed import Printed, printed


@printed
class NeededExamples:
    """How many examples one scorer needs."""

    scorer: str
    """Its name."""
    have: int
    """Examples that were compared in the evaluation's last gate."""
    spread: float
    """Standard deviation of the paired deltas of these, on the scale of the scores."""
    need: int | None
    """Examples with which a candidate as good as the baseline passes in four of five cases; null
    where the noise of the training seeds alone is more than the margin."""


@printed
class Power(Printed):
    """What `ftreg power --json` prints."""

    evaluation: str
    """Its id."""
    margin: float
    """The mean drop that is allowed, on the scale of the scores."""
    scorers: tuple[NeededExamples, ...]
    """Those whose deltas have a spread."""


def power(evaluation: Evaluation, *, margin: float) -> Power:
    """Return, per scorer, how many examples an equally good candidate needs to pass a margin.

    The spread of the paired deltas is that of the evaluation's last gate, and so is the noise of
    seeds.

    Args:
        evaluation: one that has been gated.
        margin: the mean drop that is allowed, in (0, 1].

    Raises:
        UndecidedError: the evaluation has not been gated, so no spread is known.
        UsageError: the record of its gate is damaged.
    """
    gate = last_gate(evaluation)
    if gate is None:
        raise UndecidedError(
            f"{evaluation.id} has not been gated, and the spread of paired deltas comes from a "
            f"gate; `ftreg gate baseline {evaluation.id}` makes one"
        )
    confidence = gate.verdict.policy["confidence"]
    scorers = tuple(
        _needed(row, row.standard_error, margin=margin, confidence=confidence)
        for row in gate.verdict.rows
        if row.cohort == PRIMARY and row.against == "baseline" and row.standard_error is not None
    )
    return Power(evaluation=evaluation.id, margin=margin, scorers=scorers)


def _needed(row: Row, error: float, *, margin: float, confidence: float) -> NeededExamples:
    left = margin_left(
        margin,
        (
            (row.baseline_seeds, row.baseline_seed_deviation),
            (row.candidate_seeds, row.candidate_seed_deviation),
        ),
        level=(1 - confidence) / 2,
        power=POWER,
    )
    spread = (error if row.example_error is None else row.example_error) * math.sqrt(row.n)
    # Scores of 0 and 1 are bounded exactly, with one unseen example reckoned at its worst.
    bounded = row.method.partition(";")[0] in ("exact", "rule of three")
    needed = (
        None
        if left is None
        else examples_for_pass(
            min(spread, 1.0), margin=left, confidence=confidence, worst=float(bounded)
        )
    )
    return NeededExamples(scorer=row.scorer, have=row.n, spread=round(spread, 4), need=needed)
