"""What a report is made of: two evaluations and what is around them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftreg.data import DatasetVersion
from ftreg.gate import Verdict
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.samples import Example, Scores, over_seeds
from ftreg.report.history import Step
from ftreg.report.why_part import WhyLine

MeanScores = Mapping[str, Mapping[str, float | None]]
"""Scorer to example id to score; of replicas, the mean over their seeds."""


def mean_scores(scores: Scores) -> MeanScores:
    """Return scores of an evaluation with one number per example, whatever its seeds are."""
    return {
        scorer: {name: over_seeds(cell) for name, cell in column.items()}
        for scorer, column in scores.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The candidate, or what it is held against.

    `folder` is the evaluation's where it is at hand: outputs and evidence lie there, and a baseline
    in git has neither. `history` is the run's, where its checkpoint is at hand, and `validation`
    what its validation loss came to.
    """

    header: Mapping[str, Any]
    scores: MeanScores
    folder: Path | None = None
    history: Sequence[Step] | None = None
    validation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Everything that a report shows.

    `notes` says what could not be found, by the part of the report that lacks it: `verdict`,
    `training`, `examples`, `dataset`. `why` is what can be asked about a regression.
    """

    evaluation: Evaluation
    candidate: Side
    baseline: Side | None = None
    anchor: Mapping[str, Any] | None = None
    verdict: Verdict | None = None
    dataset: DatasetVersion | None = None
    examples: Sequence[Example] = ()
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    why: Sequence[WhyLine] = ()

    @property
    def sides(self) -> dict[str, Side]:
        """The sides that there are, the candidate last."""
        before = {} if self.baseline is None else {"baseline": self.baseline}
        return {**before, "candidate": self.candidate}
