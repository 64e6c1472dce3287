"""How far an output answers its input."""

from collections.abc import Sequence
from typing import Any

from ftreg.records.samples import Sample, Score
from ftreg.scoring.claims import claims
from ftreg.scoring.pointwise import evidence_of, judged
from ftreg.scoring.protocol import Backend, Inquiry, Relation, Support, check_relation


class AnswerRelevancy:
    """Relevant statements of the output over its statements, each counted by how relevant it is.

    0 for an output that states nothing; None where there is no input.
    """

    name = "answer_relevancy"
    version = 1

    def __init__(self, *, backend: Backend) -> None:
        check_relation(backend, Relation.RELEVANT, scorer=self.name)
        self.backend = backend

    def describe(self) -> dict[str, Any]:
        """Return the JSON-ready identity that makes two evaluations comparable."""
        return {
            "name": self.name,
            "version": self.version,
            "options": {},
            "backend": self.backend.describe(),
        }

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Score each sample, in order."""
        return judged(
            samples, self._inquiry, self._combine, relation=Relation.RELEVANT, backend=self.backend
        )

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
