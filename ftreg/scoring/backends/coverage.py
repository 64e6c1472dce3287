"""The evidence that an output covers a key point: features in [0, 1], 1 speaking for it.

A key point may be covered in other words, so words count by their letters and by their meaning in
the sentence.
"""

from ftreg.scoring.backends.evidence import (
    Evidence,
    FloatArray,
    Passage,
    Source,
    checks,
    nearest,
    trigrams,
)
from ftreg.scoring.words import FUNCTION_WORDS

COVERAGE_FEATURES = ("letters", "wording")
"""What `gather` returns, in order; the coefficients are fitted for these."""

_FUNCTION_WEIGHT = 0.3


def gather(
    point: Passage, source: Source, similarities: FloatArray, wording: float | None
) -> Evidence:
    """Collect the evidence that a source covers a key point.

    Args:
        point: the key point.
        source: the output, of n passages.
        similarities: cosine of the point and each passage, shape (n,).
        wording: the share of its words that stand in the source, see `wording.Wording`; None
            where the model reads none, and letters alone must do.

    Returns:
        The features (see `COVERAGE_FEATURES`), all 1 for a passage of the source itself: share of
        the point's letter trigrams in the source, within words, so that long words count for more
        (after chrF, Popovic 2015); `wording`.
    """
    ranked = nearest(point, source, similarities)
    letters = _letters(point, source)
    features = (letters, letters if wording is None else wording)
    return Evidence(features, source.passages[ranked[0]].text, checks(point, source, ranked))


def _letters(point: Passage, source: Source) -> float:
    found = total = 0.0
    for word in dict.fromkeys(point.words):
        weight = _FUNCTION_WEIGHT if word in FUNCTION_WORDS else 1.0
        pieces = trigrams(word)
        found += weight * sum(piece in source.trigrams for piece in pieces)
        total += weight * len(pieces)
    return found / total if total else 1.0
