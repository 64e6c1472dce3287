"""How much of an output its context supports."""

from collections.abc import Sequence

from ftreg.records.samples import Sample, Score
from ftreg.scoring.claims import claims, passages
from ftreg.scoring.pointwise import PointwiseScorer, evidence_of
from ftreg.scoring.protocol import Backend, Inquiry, Relation, Support

UNSUPPORTED = 0.3
"""Support up to which a claim counts as not supported at all."""
WEAKEST = 0.3
"""How much of the score is the weakest claim's support."""


def combine(supports: Sequence[float]) -> float:
    """Return the faithfulness of claims with these supports.

    `0.7 · mean(max(0, s - 0.3) / 0.7) + 0.3 · min(s)`: the share of supported claims, each
    counted by how well, and the weakest claim. A claim that is not supported (s ≤ 0.3) adds
    nothing to the mean and can only lower the minimum, so adding one never raises the score.
    """
    counted = [max(0.0, support - UNSUPPORTED) / (1 - UNSUPPORTED) for support in supports]
    return (1 - WEAKEST) * sum(counted) / len(counted) + WEAKEST * min(supports)


class Faithfulness(PointwiseScorer):
    """Supported claims of the output over its claims, held against the context.

    None where there is no context, or where the output claims nothing. Of a backend that gives
    verdicts or probabilities it is their mean (`supported / claims`); graded support is combined
    by `combine`.

    Args:
        backend: judges claims against the context.
        source: what is the context: `context`, or `input` where the input is the context (a
            function to summarise).

    Raises:
        UsageError: the source is neither.
    """

    name = "faithfulness"
    version = 2
    relation = Relation.SUPPORTED
    sources = ("context", "input")

    def __init__(self, *, backend: Backend, source: str = "context") -> None:
        super().__init__(backend=backend, source=source)

    def _inquiry(self, sample: Sample) -> Inquiry | Score:
        source = sample.context if self.source == "context" else sample.input
        if source is None or not passages(source):
            return Score(None, f"no {self.source} to hold the output against")
        points = claims(sample.output)
        if not points:
            return Score(None, "no claims in the output")
        return Inquiry(points, source)

    def _combine(self, inquiry: Inquiry, supports: Sequence[Support]) -> Score:
        found = [support.support for support in supports]
        plain = getattr(self.backend, "averages", False)
        value = sum(found) / len(found) if plain else combine(found)
        return Score(round(value, 6), evidence=evidence_of("claim", inquiry, supports))
