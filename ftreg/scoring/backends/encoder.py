"""What turns texts into vectors, and the memory that spares it from doing so twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ftreg.scoring.backends.remembered import Remembered
from ftreg.scoring.backends.vector_store import FloatArray, VectorStore
from ftreg.scoring.words import without_surrogates

_CACHED = 50_000
"""Vectors kept in memory: 384 floats each, so about 75 MB."""


@dataclass(frozen=True, slots=True)
class WordVectors:
    """The n words of a text that have a letter or digit, in order, with their unit vectors.

    The vector of a word that the model does not know is 0.
    """

    words: tuple[str, ...]
    vectors: FloatArray  # (n, width)


class Embedder(Protocol):
    """Turns texts into unit vectors; anything that does may stand in for the packaged model."""

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the L2-normalised float32 embeddings, shape (len(texts), width)."""
        ...

    def words(self, texts: Sequence[str]) -> list[WordVectors]:
        """Return the words of each text, lower-case, with what they mean in it."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the model's name and digest, JSON-ready."""
        ...


class CachedEmbedder:
    """Encodes each text once, the short ones together, so that little is padded.

    Args:
        embedder: what turns texts into vectors.
        store: keeps them on disk; None for none.
    """

    def __init__(self, embedder: Embedder, store: VectorStore | None = None) -> None:
        self.embedder = embedder
        self._vectors = Remembered(store, most=_CACHED)

    def encode(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """Return a vector of shape (width,) for each distinct text."""
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        return self._vectors.get({text: text for text in distinct}, self._compute)

    def _compute(self, texts: Sequence[str]) -> FloatArray:
        return self.embedder.encode([without_surrogates(text) for text in texts])
