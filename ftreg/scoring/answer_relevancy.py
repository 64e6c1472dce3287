"""How well an output answers its input."""

from collections.abc import Sequence

from ftreg.records.samples import Sample, Score
from ftreg.scoring.claims import claims, is_question, sentences
from ftreg.scoring.conversation import question
from ftreg.scoring.nonanswers import echoes, is_refusal
from ftreg.scoring.pointwise import PointwiseScorer, mean_of
from ftreg.scoring.protocol import Backend, Inquiry, Relation, Support


class AnswerRelevancy(PointwiseScorer):
    """Relevant statements of the output / its statements, weighted by relevance.

    In a chat, the input is the user's last message, together with the question that it continues.

    0 for an output that states nothing, declines to answer, or only repeats the question; None if
    there is no input.
    """

    name = "answer_relevancy"
    version = 2
    relation = Relation.RELEVANT

    def __init__(self, *, backend: Backend) -> None:
        super().__init__(backend=backend)

    def _inquiry(self, sample: Sample) -> Inquiry | Score:
        if not sample.input.strip():
            return Score(None, "no input to answer")
        if is_refusal(sample.output):
            return Score(0.0, "the output declines to answer")
        if echoes(sample.input, sample.output):
            return Score(0.0, "the output only repeats the question")
        asked_back = [unit for unit in sentences(sample.output) if is_question(unit)]
        points = claims(sample.output) or asked_back
        if not points:
            return Score(0.0, "the output states nothing")
        return Inquiry(points, question(sample))

    def _combine(self, inquiry: Inquiry, supports: Sequence[Support]) -> Score:
        return mean_of("statement", inquiry, supports)
