"""The shared part of scorers that judge point by point: one batch to the backend, scores back."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ftreg.errors import UsageError, did_you_mean
from ftreg.records.samples import Sample, Score
from ftreg.scoring.claims import is_code, is_question, sentences
from ftreg.scoring.protocol import (
    Backend,
    BackendError,
    Inquiry,
    Relation,
    Support,
    check_relation,
)
from ftreg.scoring.words import words


class PointwiseScorer(ABC):
    """The base of these scorers: a backend, and the part of an example that it reads.

    Args:
        backend: judges the points.
        source: one of `sources`; None if a scorer has no choice.

    Raises:
        UsageError: the source is none of these, or the backend cannot judge this relation.
    """

    name: str
    version: int
    relation: Relation
    sources: tuple[str, ...] = ()

    def __init__(self, *, backend: Backend, source: str | None = None) -> None:
        if self.sources and source not in self.sources:
            raise UsageError(
                f"{self.name}: {source!r} is not a source"
                f"{did_you_mean(str(source), self.sources)} (known: {', '.join(self.sources)})"
            )
        check_relation(backend, self.relation, scorer=self.name)
        self.source = source
        self.backend = backend

    def describe(self) -> dict[str, Any]:
        """Return the JSON-ready identity: evaluations are comparable only if it is equal."""
        return {
            "name": self.name,
            "version": self.version,
            "options": {"source": self.source} if self.sources else {},
            "levels": None,
            "backend": self.backend.describe(),
        }

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Score each sample, in order, with one call of the backend.

        A score is null with a reason if the backend failed.
        """
        planned = [self._inquiry(sample) for sample in samples]
        inquiries = [plan for plan in planned if isinstance(plan, Inquiry)]
        findings = iter(self.backend.judge(self.relation, inquiries) if inquiries else [])
        scores = []
        for plan in planned:
            if isinstance(plan, Score):
                scores.append(plan)
                continue
            found = next(findings)
            if isinstance(found, BackendError):
                scores.append(found.score())
            else:
                scores.append(self._combine(plan, found))
        return scores

    @abstractmethod
    def _inquiry(self, sample: Sample) -> Inquiry | Score:
        """What to ask about a sample, or its score if no inquiry is needed."""

    @abstractmethod
    def _combine(self, inquiry: Inquiry, supports: Sequence[Support]) -> Score:
        """Compute the score from the backend's findings."""


def mean_of(kind: str, inquiry: Inquiry, supports: Sequence[Support]) -> Score:
    """Return the mean support of some points as a score.

    Its evidence is a JSON-ready mapping per point, the point's text under `kind`.
    """
    evidence = tuple(
        {
            kind: point,
            "support": support.support,
            "best": support.best,
            "checks": list(support.checks),
            **support.details,
        }
        for point, support in zip(inquiry.points, supports, strict=True)
    )
    value = sum(support.support for support in supports) / len(supports)
    return Score(round(value, 6), evidence=evidence)


_LONGEST_QUESTION = 40
_ASKING_LIST = """
    who whom whose what when where which why how is are was were do does did can could may must
    should will would has have name list give tell explain describe state say wer was wann wo warum
    wie welche qui que quoi quand où pourquoi comment quel quelle quién qué cuándo dónde cómo cuál
"""
_ASKING = frozenset(_ASKING_LIST.split())


def question_of(text: str) -> str | None:
    """Return the last short question of an input; None if it has none, and for code.

    Statements in an input are left out: a question may be read together with a text, but a
    statement would be evidence.
    """
    if is_code(text):
        return None
    for unit in reversed(sentences(text)):
        found = words(unit)
        if len(found) <= _LONGEST_QUESTION and (is_question(unit) or _ASKING & {*found[:1]}):
            return unit
    return None
