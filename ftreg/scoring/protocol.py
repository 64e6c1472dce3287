"""The interface of a scorer, and what it asks of a backend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from ftreg.errors import UsageError
from ftreg.records.samples import Sample, Score
from ftreg.scoring.clauses import is_fragment


class Scorer(Protocol):
    """Scores a batch of samples; what `get_scorer` returns and what users can write."""

    name: str
    version: int

    def describe(self) -> dict[str, Any]:
        """Return the JSON-ready identity: evaluations are comparable only if it is equal.

        Its `levels`, if any, tell the gate how many different scores there can be: 2 for right or
        wrong, None for any number in [0, 1]. Without them, the gate guesses from the scores.
        """
        ...

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Return a score for each sample, in order."""
        ...


class Relation(StrEnum):
    """What a backend is asked about a point and a text."""

    SUPPORTED = "supported"
    """Does the text support the claim?"""
    COVERED = "covered"
    """Does the text convey the key point?"""
    RELEVANT = "relevant"
    """Does the statement answer the question that the text asks?"""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """The points of one sample (claims, key points, statements), and the text to judge them by.

    `question` is what the text or the points answer, if known: without it "Yes" and "£5" mean
    nothing.
    """

    points: Sequence[str]
    text: str
    question: str | None = None

    @property
    def statements(self) -> tuple[str, ...]:
        """The points; those that are not sentences ("Yes", "£5") are preceded by the question."""
        ask = self.question
        return tuple(f"{ask} {each}" if ask and is_fragment(each) else each for each in self.points)


@dataclass(frozen=True, slots=True)
class Support:
    """A backend's finding on one point.

    `support` is in [0, 1]; `best` is the passage that supports the point most, `checks` are the
    names of the checks that fired against it (`number`, `unit`, `name`, `negation`, `opposite`,
    `order`, `condition`, `answer`, `question`, `quote`). `details` is what else the backend reports
    about it, JSON-ready.
    """

    support: float
    best: str | None = None
    checks: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class BackendError(Exception):
    """A backend could not judge one inquiry; the sample's score becomes null with this reason.

    Args:
        reason: why, in words.
        details: anything else to report, JSON-ready: the evidence of the null score.
    """

    def __init__(self, reason: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.details = dict(details or {})

    def score(self) -> Score:
        """Return the resulting null score."""
        evidence = (self.details,) if self.details else ()
        return Score(None, f"the backend failed: {self}", evidence)


class Backend(Protocol):
    """Judges points against texts. A failure affects only its own inquiry.

    Its support is a verdict or a probability, so that a score is its plain mean. A backend that
    cannot judge all relations may list those that it can, in the attribute `relations`.
    """

    def describe(self) -> dict[str, Any]:
        """Return name, version and what identifies the model, JSON-ready."""
        ...

    def judge(
        self, relation: Relation, inquiries: Sequence[Inquiry]
    ) -> list[list[Support] | BackendError]:
        """Return a finding for each point of each inquiry, in order."""
        ...


def check_relation(backend: Backend, relation: Relation, *, scorer: str) -> None:
    """Refuse a backend that cannot judge what a scorer asks.

    Raises:
        UsageError: the backend declares that it does not judge this relation.
    """
    able = getattr(backend, "relations", None)
    if able is not None and relation not in able:
        raise UsageError(
            f"{scorer}: the backend {backend.describe().get('name')} cannot judge whether a point "
            f"is {relation}; use another backend, such as embedded or judge"
        )
