"""How much of a point's wording stands in a source: words compared in their sentences, in phrases.

After the recall of BERTScore (Zhang et al. 2020), by whole words and with exact matches counted
in full. The content units that people look for (Nenkova and Passonneau 2004) are phrases: one of
which half the words stand somewhere in a long output is not half conveyed.

Only points and sources are held in vectors at once that are being compared: a vector a word is
much; what is remembered, and kept on disk, is one number per point and source.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain

import numpy as np
import numpy.typing as npt

from ftreg.scoring.backends.encoder import Embedder, WordVectors
from ftreg.scoring.backends.remembered import Remembered, key_of
from ftreg.scoring.backends.vector_store import FloatArray, VectorStore
from ftreg.scoring.facts import numbers
from ftreg.scoring.words import FUNCTION_WORDS, stem, without_surrogates, words

_FUNCTION_WEIGHT = 0.1
_UNRELATED, _SAME = 0.5, 0.7
"""The cosines of two words in their sentences below and above which they surely differ or agree."""
_AROUND = 3
"""Words to the left and to the right of a word that make its phrase."""
_MISSED, _CONVEYED = 0.4, 0.9
"""The shares of a phrase up to which it is not conveyed, and from which it is."""
_VERSION = 3
"""Raise it when a share may change: what is kept on disk is then computed anew."""
_AT_ONCE = 32
_REMEMBERED = 200_000

WordingPair = tuple[str, tuple[str, ...]]
"""A point, and the passages of a source."""


class Wording:
    """Compares points with sources word by word.

    Args:
        embedder: what turns the words of a text into vectors.
        store: keeps the shares on disk; None for none.
    """

    def __init__(self, embedder: Embedder, store: VectorStore | None = None) -> None:
        self._embedder = embedder
        kept = None if store is None else store.part(f"wording {_VERSION}")
        self._shares = Remembered(kept, most=_REMEMBERED)

    def shares(self, pairs: Sequence[WordingPair]) -> dict[WordingPair, float | None]:
        """Return the share of each point's phrases that its source conveys.

        A word that stands in the source in any form has 1. Another one has the largest cosine with
        a word of the source, each in its sentence: 0 up to 0.5, 1 from 0.7, a straight line
        between; a number has 0, for another one is near and wrong. The mean of a word and its three
        neighbours on either side, function words counting 0.1, is how much of its phrase is there;
        0 up to 0.4, 1 from 0.9, is how far the phrase is conveyed; and the mean of that over the
        words is the share. None where the point has no word; nan where the model returned none.
        """
        keys = {pair: _key(pair) for pair in pairs}
        found = self._shares.get({key: pair for pair, key in keys.items()}, self._fresh)
        # A point without a word has a vector without a number.
        return {
            pair: float(found[key][0]) if found[key].size else None for pair, key in keys.items()
        }

    def _fresh(self, pairs: Sequence[WordingPair]) -> list[FloatArray]:
        made = dict(self._compute(pairs))
        shares = [made[pair] for pair in pairs]
        return [np.array([] if share is None else [share], dtype=np.float32) for share in shares]

    def _compute(self, pairs: Sequence[WordingPair]) -> Iterator[tuple[WordingPair, float | None]]:
        """Yield the share of each pair; a source is read once for all of its points."""
        points: dict[tuple[str, ...], list[str]] = {}
        for point, source in pairs:
            points.setdefault(source, []).append(point)
        for some in _batches(points):
            texts = sorted({text for source in some for text in (*points[source], *source)})
            read = self._embedder.words([without_surrogates(text) for text in texts])
            vectors = dict(zip(texts, read, strict=True))
            for source in some:
                held = _Source([vectors[text] for text in source])
                for point in points[source]:
                    yield (point, source), held.share(vectors[point])


def _batches(
    points: Mapping[tuple[str, ...], Sequence[str]],
) -> Iterator[list[tuple[str, ...]]]:
    """Yield sources together until they have enough points."""
    some: list[tuple[str, ...]] = []
    count = 0
    for source, own in points.items():
        some.append(source)
        count += len(own)
        if count >= _AT_ONCE:
            yield some
            some, count = [], 0
    if some:
        yield some


class _Source:
    """The words of a source, and what they mean there."""

    def __init__(self, texts: Sequence[WordVectors]) -> None:
        words = chain(*(text.words for text in texts))
        self._forms = frozenset(chain.from_iterable(map(_form, words)))
        with_words = [text.vectors for text in texts if text.words]
        self._vectors = np.concatenate(with_words) if with_words else None

    def share(self, point: WordVectors) -> float | None:
        """See `Wording.shares`."""
        if not point.words:
            return None
        exact = np.array([self._forms.issuperset(_form(word)) for word in point.words])
        weights = np.where([word in FUNCTION_WORDS for word in point.words], _FUNCTION_WEIGHT, 1.0)
        near = np.zeros(len(point.words))
        if self._vectors is not None:
            cosines = point.vectors @ self._vectors.T
            # Rounded, so that the last bits, which depend on the batch, do not show in a score.
            near = np.round(cosines.max(axis=1), 5)
        agreement = np.clip((near - _UNRELATED) / (_SAME - _UNRELATED), 0.0, 1.0)
        counts = np.array([_is_number(word) for word in point.words])
        agreement = np.where(counts & np.isfinite(near), 0.0, agreement)
        agreement = np.where(exact & np.isfinite(near), 1.0, agreement)
        phrases = _around(agreement * weights) / _around(weights)
        conveyed = np.clip((phrases - _MISSED) / (_CONVEYED - _MISSED), 0.0, 1.0)
        # In the precision that is kept on disk, so that what is read back is the same.
        return float(np.float32(min((conveyed * weights).sum() / weights.sum(), 1.0)))


def _around(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return, for each of n values, the sum of it and its neighbours, shape (n,)."""
    sums = np.convolve(values, np.ones(2 * _AROUND + 1))
    return sums[_AROUND : _AROUND + len(values)]


@lru_cache(maxsize=1 << 15)
def _form(word: str) -> tuple[str, ...]:
    """Return what two forms of a word have in common; "twelve" and "12" are one number."""
    return tuple(map(stem, words(word))) or (word,)


@lru_cache(maxsize=1 << 15)
def _is_number(word: str) -> bool:
    return bool(numbers(word))


def _key(pair: WordingPair) -> str:
    point, source = pair
    return key_of(point, *source)
