"""How many key points of a reference an output covers."""

from collections.abc import Sequence
from dataclasses import replace

from ftreg.records.samples import Sample, Score
from ftreg.scoring.claims import claims
from ftreg.scoring.conversation import evidence, question
from ftreg.scoring.nonanswers import is_refusal
from ftreg.scoring.pointwise import PointwiseScorer, mean_of, question_of
from ftreg.scoring.protocol import Backend, Inquiry, Relation, Support


class Completeness(PointwiseScorer):
    """Covered key points of the reference / its key points, weighted by how well they are covered.

    0 for an output that says nothing or declines to answer, unless the reference declines too; None
    if there is no reference or it has no key point.

    Args:
        backend: judges key points against the output.
        source: where the key points come from: `reference` (of several, the alternative that is
            covered best), `context` or `input`.

    Raises:
        UsageError: the source is none of these.
    """

    name = "completeness"
    version = 2
    relation = Relation.COVERED
    sources = ("reference", "context", "input")

    def __init__(self, *, backend: Backend, source: str = "reference") -> None:
        super().__init__(backend=backend, source=source)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Score each sample, in order."""
        spread = [
            (place, replace(sample, reference=text))
            for place, sample in enumerate(samples)
            for text in self._texts(sample)
        ]
        found = super().score([sample for _, sample in spread])
        best: dict[int, Score] = {}
        for (place, _), score in zip(spread, found, strict=True):
            held = best.get(place)
            if held is None or _rank(score) > _rank(held):
                best[place] = score
        return [
            best.get(place, Score(None, f"no {self.source} to take key points from"))
            for place in range(len(samples))
        ]

    def _texts(self, sample: Sample) -> tuple[str, ...]:
        match self.source:
            case "reference":
                texts = sample.references
            case "context":
                texts = (evidence(sample) or "",)
            case _:
                texts = (sample.input,)
        return tuple(text for text in texts if text.strip())

    def _inquiry(self, sample: Sample) -> Inquiry | Score:
        points = [point for text in sample.references for point in claims(text)]
        if not points:
            return Score(None, f"no key points in the {self.source}")
        if not claims(sample.output):
            return Score(0.0, "the output says nothing")
        if is_refusal(sample.output):
            expected = all(map(is_refusal, sample.references))
            return Score(float(expected), "the output declines to answer")
        return Inquiry(points, sample.output, question_of(question(sample)))

    def _combine(self, inquiry: Inquiry, supports: Sequence[Support]) -> Score:
        return mean_of("key_point", inquiry, supports)


def _rank(score: Score) -> float:
    return -1.0 if score.value is None else score.value
