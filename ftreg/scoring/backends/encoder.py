"""What turns texts into vectors, and the memory that spares it from doing so twice."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ftreg.scoring.backends.vector_store import FloatArray, VectorStore

__all__ = ["CachedEmbedder", "Embedder", "FloatArray", "WordVectors", "readable_text"]

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


def readable_text(text: str) -> str:
    """Replace lone surrogates, which are legal in a Python string and in no tokenizer."""
    return text.encode("utf-8", "replace").decode()


class CachedEmbedder:
    """Encodes each text once, the short ones together, so that little is padded.

    Args:
        embedder: what turns texts into vectors.
        store: keeps them on disk; None for none.
    """

    def __init__(self, embedder: Embedder, store: VectorStore | None = None) -> None:
        self.embedder = embedder
        self._store = store
        self._vectors: dict[str, FloatArray] = {}
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """Return a vector of shape (width,) for each distinct text."""
        with self._lock:
            fresh = self._fetch(set(texts) - self._vectors.keys())
            found = {text: fresh[text] if text in fresh else self._vectors[text] for text in texts}
            self._vectors |= fresh
            while len(self._vectors) > _CACHED:
                del self._vectors[next(iter(self._vectors))]
            return found

    def _fetch(self, texts: set[str]) -> dict[str, FloatArray]:
        """Read vectors from disk, and compute and keep those that are not there."""
        kept = self._store.get(texts) if self._store is not None and texts else {}
        missing = sorted(texts - kept.keys(), key=lambda text: (len(text), text))
        if not missing:
            return kept
        readable = [readable_text(text) for text in missing]
        made = dict(zip(missing, self.embedder.encode(readable), strict=True))
        if self._store is not None:
            self._store.put(made)
        return kept | made
