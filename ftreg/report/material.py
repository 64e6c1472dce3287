"""The material of a report: two evaluations and their context."""

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
    """Return scores of an evaluation with one number per example, whatever its seeds."""
    return {
        scorer: {name: over_seeds(cell) for name, cell in column.items()}
        for scorer, column in scores.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The candidate, or what it is compared with.

    `folder` is the evaluation's, if available: it has the outputs and evidence, which a baseline in
    git lacks. `history` is the run's, if its checkpoint is available, and `validation` summarizes
    its validation loss.
    """

    header: Mapping[str, Any]
    scores: MeanScores
    folder: Path | None = None
    history: Sequence[Step] | None = None
    validation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Everything that a report shows.

    `notes` says what could not be found, by part of the report: `verdict`, `training`, `examples`,
    `dataset`. `why` has the questions that can be asked about a regression.
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
        """The available sides, the candidate last."""
        before = {} if self.baseline is None else {"baseline": self.baseline}
        return {**before, "candidate": self.candidate}
