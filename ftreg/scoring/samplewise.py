"""Scorers that score each sample separately, from their options alone and without a backend."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ftreg.records.samples import Sample, Score


class UncheckableError(ValueError):
    """A sample cannot be scored; the message becomes the reason of a null score."""


class SamplewiseScorer(ABC):
    """The base of these scorers; `options` is a dataclass, and part of the identity."""

    name: str
    version: int
    options: Any
    levels: int | None = None
    """Number of different scores there can be; None if any value is possible."""

    def describe(self) -> dict[str, Any]:
        """Return the JSON-ready identity: evaluations are comparable only if it is equal."""
        return {
            "name": self.name,
            "version": self.version,
            "options": asdict(self.options),
            "levels": self.levels,
            "backend": None,
        }

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Score each sample, in order; None if one cannot be scored."""
        return [self._score_or_reason(sample) for sample in samples]

    def _score_or_reason(self, sample: Sample) -> Score:
        try:
            return self._score_one(sample)
        except UncheckableError as error:
            return Score(None, str(error))

    @abstractmethod
    def _score_one(self, sample: Sample) -> Score:
        """Score one sample; if it raises UncheckableError, there is no score."""
