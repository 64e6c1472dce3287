"""What turns texts into vectors, and the memory that spares it from doing so twice."""

import threading
from collections.abc import Sequence
from typing import Any, Protocol

from ftreg.scoring.backends.vector_store import FloatArray, VectorStore

__all__ = ["CachedEmbedder", "Embedder", "FloatArray"]

_CACHED = 50_000
"""Vectors kept in memory: 384 floats each, so about 75 MB."""


class Embedder(Protocol):
    """Turns texts into unit vectors; anything that does may stand in for the packaged model."""

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the L2-normalised float32 embeddings, shape (len(texts), width)."""
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
        # A lone surrogate is legal in a Python string and in no tokenizer.
        clean = [text.encode("utf-8", "replace").decode() for text in missing]
        made = dict(zip(missing, self.embedder.encode(clean), strict=True))
        if self._store is not None:
            self._store.put(made)
        return kept | made
