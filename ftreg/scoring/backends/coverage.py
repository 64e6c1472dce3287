"""The evidence that an output covers a key point: how much of it is there, and what is against it.

A key point may be covered in other words, so words count by their meaning in the sentence, and in
phrases: words that stand about one by one convey nothing.
"""

from ftreg.scoring.answers import answer_words
from ftreg.scoring.backends.evidence import (
    Evidence,
    Passage,
    SourceText,
    checks,
    nearest,
    share,
)
from ftreg.scoring.backends.vector_store import FloatArray


def coverage_evidence(
    point: Passage, source: SourceText, similarities: FloatArray, wording: float | None
) -> Evidence:
    """Collect the evidence that a source covers a key point.

    Args:
        point: the key point.
        source: the output, of n passages.
        similarities: cosine of the point and each passage, shape (n,).
        wording: the share of its phrases that the source conveys, see `wording.Wording`; None where
            the model reads no word of it, and the words as they are written must do.

    Returns:
        One feature, `wording`: 1 for a passage of the source itself.
    """
    ranked = nearest(point, source, similarities)
    held = share(frozenset(point.stems), source.stems) if wording is None else wording
    fired = checks(point, source, ranked)
    if _answers_otherwise(point.text, source):
        fired = (*fired, "answer")
    return Evidence((held,), source.passages[ranked[0]].text, fired)


def _answers_otherwise(point: str, source: SourceText) -> bool:
    """Whether the point is one letter or one word of yes and no, and the source has another."""
    wanted = answer_words(point)
    if len(wanted) != 1 or not (len(wanted[0]) == 1 or wanted[0] in ("yes", "no")):
        return False
    return all(wanted[0] not in answer_words(passage.text) for passage in source.passages)
