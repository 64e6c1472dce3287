"""The evidence that an output covers a key point: features in [0, 1], 1 speaking for it.

A key point may be covered in other words, so words count by their letters and their meaning.
"""

from collections.abc import Mapping

import numpy as np

from ftreg.scoring.backends.evidence import (
    Evidence,
    FloatArray,
    Passage,
    Source,
    checks,
    nearest,
    trigrams,
)
from ftreg.scoring.words import FUNCTION_WORDS, stem

COVERAGE_FEATURES = ("similarity", "letters", "meaning")
"""What `gather` returns, in order; the coefficients are fitted for these."""

_FUNCTION_WEIGHT = 0.3
_UNRELATED = 0.4
"""The cosine that unrelated words have in MiniLM; it counts as no agreement at all."""


def gather(
    point: Passage,
    source: Source,
    similarities: FloatArray,
    vectors: Mapping[str, FloatArray],
) -> Evidence:
    """Collect the evidence that a source covers a key point.

    Args:
        point: the key point.
        source: the output, of n passages.
        similarities: cosine of the point and each passage, shape (n,).
        vectors: a unit vector for each content word of both.

    Returns:
        The features (see `COVERAGE_FEATURES`), all 1 for a passage of the source itself: cosine of
        the nearest passage; share of the point's letter trigrams in the source, within words, so
        that long words count for more (after chrF, Popovic 2015); mean over its content words of
        the nearest content word's cosine (after BERTScore recall, Zhang et al. 2020).
    """
    ranked = nearest(point, source, similarities)
    features = (
        min(max(float(np.max(similarities)), 0.0), 1.0),
        _letters(point, source),
        _meaning(point, source, vectors),
    )
    return Evidence(features, source.passages[ranked[0]].text, checks(point, source, ranked))


def _letters(point: Passage, source: Source) -> float:
    found = total = 0.0
    for word in dict.fromkeys(point.words):
        weight = _FUNCTION_WEIGHT if word in FUNCTION_WORDS else 1.0
        pieces = trigrams(word)
        found += weight * sum(piece in source.trigrams for piece in pieces)
        total += weight * len(pieces)
    return found / total if total else 1.0


def _meaning(point: Passage, source: Source, vectors: Mapping[str, FloatArray]) -> float:
    if not point.vocabulary:
        return 1.0
    agreement = [1.0 if stem(word) in source.stems else 0.0 for word in point.vocabulary]
    if source.vocabulary:
        wanted = np.stack([vectors[word] for word in point.vocabulary])
        there = np.stack([vectors[word] for word in source.vocabulary])
        near = np.round((wanted @ there.T).max(axis=1), 5)
        agreement = [
            max(exact, float(cosine - _UNRELATED) / (1 - _UNRELATED))
            for exact, cosine in zip(agreement, near, strict=True)
        ]
    return min(sum(agreement) / len(agreement), 1.0)
