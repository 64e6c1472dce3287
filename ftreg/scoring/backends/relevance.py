"""The evidence that a statement answers a question: features in [0, 1], 1 speaking for it."""

import math
from collections.abc import Sequence

import numpy as np

from ftreg.scoring.backends.evidence import Evidence
from ftreg.scoring.backends.questions import holds, kind_of
from ftreg.scoring.backends.vector_store import FloatArray
from ftreg.scoring.words import content_words

RELEVANCE_FEATURES = ("similarity", "kind", "news")
"""What `relevance_evidence` returns, in order; the coefficients are fitted for these."""

_ENOUGH_NEWS = 8
"""New content words above which more say no more; fewer count by their logarithm."""
_NEUTRAL = 0.5


def relevance_evidence(
    statement: str, question: str, units: Sequence[str], similarities: FloatArray
) -> Evidence:
    """Collect the evidence that a statement answers a question.

    Args:
        statement: a sentence of the output.
        question: the whole input.
        units: the input and its parts, n texts.
        similarities: cosine of the statement and each unit, shape (n,).

    Returns:
        The features (see `RELEVANCE_FEATURES`): cosine of the nearest unit; whether the statement
        holds the kind of thing that the question asks for, 0.5 where it asks for no certain kind;
        how many content words the question does not have, for a statement that only says the
        question again answers nothing. A statement that asks itself fires the check `question`.
    """
    held = holds(kind_of(question), statement, question)
    news = len(set(content_words(statement)) - set(content_words(question)))
    features = (
        min(max(float(np.max(similarities)), 0.0), 1.0),
        _NEUTRAL if held is None else held,
        min(math.log1p(news) / math.log1p(_ENOUGH_NEWS), 1.0),
    )
    asks = ("question",) if statement.rstrip().endswith("?") else ()
    return Evidence(features, units[int(np.argmax(similarities))], asks)
