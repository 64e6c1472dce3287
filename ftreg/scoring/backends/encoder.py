"""What turns texts into vectors, and the memory that spares it from doing so twice."""

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

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
    """Encodes each text once, the short ones together, so that little is padded."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._vectors: dict[str, FloatArray] = {}
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """Return a vector of shape (width,) for each distinct text."""
        with self._lock:
            missing = sorted(set(texts) - self._vectors.keys(), key=lambda text: (len(text), text))
            # A lone surrogate is legal in a Python string and in no tokenizer.
            clean = [text.encode("utf-8", "replace").decode() for text in missing]
            fresh = dict(zip(missing, self.embedder.encode(clean), strict=True)) if missing else {}
            found = {text: fresh[text] if text in fresh else self._vectors[text] for text in texts}
            self._vectors |= fresh
            while len(self._vectors) > _CACHED:
                del self._vectors[next(iter(self._vectors))]
            return found
