"""How far an output answers its input."""

from collections.abc import Sequence

from ftreg.records.samples import Sample, Score
from ftreg.scoring.claims import claims
from ftreg.scoring.pointwise import PointwiseScorer, evidence_of
from ftreg.scoring.protocol import Backend, Inquiry, Relation, Support


class AnswerRelevancy(PointwiseScorer):
    """Relevant statements of the output over its statements, each counted by how relevant it is.

    0 for an output that states nothing; None where there is no input.
    """

    name = "answer_relevancy"
    version = 1
    relation = Relation.RELEVANT

    def __init__(self, *, backend: Backend) -> None:
        super().__init__(backend=backend)

    def _inquiry(self, sample: Sample) -> Inquiry | Score:
        if not sample.input.strip():
            return Score(None, "no input to answer")
        points = claims(sample.output)
        if not points:
            return Score(0.0, "the output states nothing")
        return Inquiry(points, sample.input)

    def _combine(self, inquiry: Inquiry, supports: Sequence[Support]) -> Score:
        value = sum(support.support for support in supports) / len(supports)
        return Score(round(value, 6), evidence=evidence_of("statement", inquiry, supports))
