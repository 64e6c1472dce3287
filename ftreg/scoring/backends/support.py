"""The evidence that a source supports a claim: features in [0, 1], 1 speaking for it.

Words count here only as they are: "Monday" is near "Tuesday" to an embedding, and no support.
"""

import numpy as np

from ftreg.scoring.backends.evidence import (
    Evidence,
    Passage,
    SourceText,
    checks,
    common_subsequence,
    nearest,
    neighbours,
    share,
)
from ftreg.scoring.backends.vector_store import FloatArray

CODE_FEATURES = ("similarity", "name")
"""What `code_evidence` returns, in order."""
SUPPORT_FEATURES = ("similarity", "recall", "bigrams", "order")
"""What `support_evidence` returns, in order; the coefficients are fitted for these."""


def support_evidence(
    claim: Passage,
    source: SourceText,
    similarities: FloatArray,
    *,
    point: Passage,
    question: Passage | None = None,
) -> Evidence:
    """Collect the evidence for a claim.

    Args:
        claim: the claim, after its question if it is no sentence.
        source: the text to hold it against, of n passages.
        similarities: cosine of the claim and each passage, shape (n,).
        point: the claim alone, which is checked.
        question: what it answers.

    Returns:
        The features (see `SUPPORT_FEATURES`), all 1 for a passage of the source itself: cosine of
        the nearest passage; share of the claim's content words in the passage with most of them;
        share of its neighbouring content words that are neighbours in the source; longest common
        subsequence of words with a near passage, as a share of the claim (ROUGE-L recall, Lin
        2004). A claim stitched together of true pieces has the words, but not the neighbours.
    """
    ranked = nearest(claim, source, similarities)
    order = max(
        common_subsequence(claim.stems, source.passages[place].stems) for place in ranked
    ) / max(len(claim.stems), 1)
    features = (
        min(max(float(np.max(similarities)), 0.0), 1.0),
        max(share(claim.content_set, passage.content_set) for passage in source.passages),
        share(neighbours(claim.content), source.bigrams),
        order if claim.stems else 1.0,
    )
    return Evidence(
        features, source.passages[ranked[0]].text, checks(point, source, ranked, question)
    )


def code_evidence(claim: Passage, name: Passage | None, *, whole: float, best: str) -> Evidence:
    """Collect the evidence that source code does what a claim says.

    A summary says what the code is for, seldom what one of its lines does; its author and that of
    the name meant the same. It names classes and numbers that are not written there, so nothing is
    checked.

    Args:
        claim: the claim, identifiers cut into words.
        name: what the code defines, cut into words; None where it defines nothing.
        whole: cosine of the claim and the whole code.
        best: the nearest line.

    Returns:
        The features (see `CODE_FEATURES`): the cosine, and the share of the name's words in the
        claim; the cosine again where there is no name.
    """
    similarity = min(max(whole, 0.0), 1.0)
    named = similarity
    if name is not None:
        named = share(frozenset(name.stems), claim.stems)
    return Evidence((similarity, named), best, (), of_code=True)
