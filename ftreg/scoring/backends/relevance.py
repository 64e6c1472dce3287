"""The evidence that a statement answers a question: features in [0, 1], 1 speaking for it."""

from collections.abc import Sequence

import numpy as np

from ftreg.scoring.backends.evidence import Evidence
from ftreg.scoring.backends.vector_store import FloatArray

RELEVANCE_FEATURES = ("similarity",)
"""What `relevance_evidence` returns, in order; the coefficients are fitted for these."""


def relevance_evidence(units: Sequence[str], similarities: FloatArray) -> Evidence:
    """Collect the evidence that a statement answers a question.

    Args:
        units: the input and its parts, n texts, the whole first.
        similarities: cosine of the statement and each unit, shape (n,).

    Returns:
        The features (see `RELEVANCE_FEATURES`): cosine with the whole input. The passage is the
        nearest unit.
    """
    whole = min(max(float(similarities[0]), 0.0), 1.0)
    return Evidence((whole,), units[int(np.argmax(similarities))], ())
