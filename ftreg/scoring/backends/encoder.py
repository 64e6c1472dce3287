"""The sentence encoder: all-MiniLM-L6-v2 from a folder, cached by content, and its protocol."""

import hashlib
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ftreg.errors import UsageError
from ftreg.store import file_digest

FloatArray = npt.NDArray[np.float32]

PACKAGED = "all-minilm-l6-v2"
_BATCH = 32
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


class MiniLM:
    """A sentence-transformers model from a folder, in fp32 on the CPU.

    Args:
        folder: a sentence-transformers model folder; the packaged model where None.

    Raises:
        UsageError: the folder is missing or holds no such model.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            from ftreg.models.packaged import packaged_folder

            folder = packaged_folder(PACKAGED)
        if not (folder / "modules.json").is_file():
            raise UsageError(f"{folder}: not a sentence-transformers model (no modules.json)")
        from sentence_transformers import SentenceTransformer

        self.folder = folder
        self._model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the weights and tokenizer files, by name."""
        total = hashlib.sha256()
        for path in sorted(self.folder.rglob("*")):
            if path.suffix in {".safetensors", ".bin"} or path.name == "tokenizer.json":
                total.update(f"{path.relative_to(self.folder)} {file_digest(path)}\n".encode())
        return total.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return the model's name and digest."""
        return {"name": PACKAGED, "digest": self.digest}

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the embeddings, shape (len(texts), 384)."""
        vectors = self._model.encode(
            list(texts), batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)


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
