"""Vectors of texts, kept in the cache: what was encoded once is read back, bit for bit."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from ftreg.files.cache.table import Table

FloatArray = npt.NDArray[np.float32]


class VectorStore:
    """Vectors by text, for one identity of what makes them.

    Args:
        identity: everything that decides a text's vector, but for the text: the model's digest,
            the versions of the libraries, the processor.
    """

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._table = Table("vectors", identity)

    def part(self, name: str) -> "VectorStore":
        """Return the store of something else that the model makes of texts."""
        return VectorStore(f"{self._identity}/{name}")

    def get(self, texts: Iterable[str]) -> dict[str, FloatArray]:
        """Return the vectors of those texts that are kept, each of shape (width,)."""
        return {
            text: np.frombuffer(value, dtype="<f4").astype(np.float32)
            for text, value in self._table.get_many(texts).items()
        }

    def put(self, vectors: Mapping[str, FloatArray]) -> None:
        """Keep vectors.

        One that holds a NaN or an infinity is a model's failure, and is not kept.
        """
        self._table.put_many(
            {
                text: vector.astype("<f4").tobytes()
                for text, vector in vectors.items()
                if np.isfinite(vector).all()
            }
        )
