"""How much of an output its context supports."""

from collections.abc import Sequence

from ftreg.records.samples import Sample, Score
from ftreg.scoring.claims import claims, passages
from ftreg.scoring.conversation import evidence, question
from ftreg.scoring.pointwise import PointwiseScorer, mean_of, question_of
from ftreg.scoring.protocol import Backend, Inquiry, Relation, Support


class Faithfulness(PointwiseScorer):
    """Supported claims of the output / its claims, compared with the context.

    Tool results in a chat are context too.

    The mean of the probabilities, or verdicts, that the backend gives. None if there is no context,
    or the output claims nothing.

    Args:
        backend: judges claims against the context.
        source: what is the context: `context`, or `input` if the input is the context (a function
            to summarise).

    Raises:
        UsageError: the source is neither.
    """

    name = "faithfulness"
    version = 3
    relation = Relation.SUPPORTED
    sources = ("context", "input")

    def __init__(self, *, backend: Backend, source: str = "context") -> None:
        super().__init__(backend=backend, source=source)

    def _inquiry(self, sample: Sample) -> Inquiry | Score:
        source = evidence(sample) if self.source == "context" else sample.input
        if source is None or not passages(source):
            return Score(None, f"no {self.source} to hold the output against")
        points = claims(sample.output)
        if not points:
            return Score(None, "no claims in the output")
        asked = question_of(question(sample)) if self.source == "context" else None
        return Inquiry(points, source, asked)

    def _combine(self, inquiry: Inquiry, supports: Sequence[Support]) -> Score:
        return mean_of("claim", inquiry, supports)
