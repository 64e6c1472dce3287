"""Scorers that see only answers, without the thoughts before them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ftreg.records.samples import Sample, Score
from ftreg.records.thought_tags import answer_of
from ftreg.scoring.protocol import Scorer


def answer_only(sample: Sample) -> Sample:
    """Return a sample without thoughts in its output and its references; itself if it has none."""
    reference = sample.reference
    if isinstance(reference, str):
        reference = answer_of(reference)
    elif reference is not None:
        reference = tuple(map(answer_of, reference))
    bare = replace(sample, output=answer_of(sample.output), reference=reference)
    same = (bare.output, bare.references) == (sample.output, sample.references)
    return sample if same else bare


class AnswerScorer:
    """A scorer that sees only answers; otherwise the same as the scorer it wraps.

    Args:
        scorer: gets each sample without the thoughts in it.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_scorer"], name)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Score the answer of each sample, in order."""
        return self._scorer.score([answer_only(sample) for sample in samples])
