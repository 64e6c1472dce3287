"""The packaged sentence encoder, all-MiniLM-L6-v2, from a folder.

The model is loaded when the first text must be encoded: where all vectors are kept on disk
already, neither it nor torch is needed.
"""

import hashlib
import platform
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftreg.data.digests import remembered_digest
from ftreg.errors import UsageError
from ftreg.files.store import digest
from ftreg.models.packaged import packaged_folder
from ftreg.process import cpu_facts
from ftreg.scoring.backends.encoder import WordVectors
from ftreg.scoring.backends.vector_store import FloatArray

if TYPE_CHECKING:
    from ftreg.scoring.backends.sentence_model import SentenceModel

_PACKAGED = "all-minilm-l6-v2"
ENCODING = 2
"""Raise it when a bit of a vector may change: what is kept on disk is then made anew."""
_LIBRARIES = ("torch", "transformers", "tokenizers", "sentence-transformers")


class MiniLM:
    """A sentence-transformers model from a folder, in int8 on the CPU.

    Args:
        folder: a sentence-transformers model folder; the packaged model where None.

    Raises:
        UsageError: the folder is missing or holds no such model.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            folder = packaged_folder(_PACKAGED)
        if not (folder / "modules.json").is_file():
            raise UsageError(f"{folder}: not a sentence-transformers model (no modules.json)")
        self.folder = folder

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the weights and tokenizer files, by name."""
        total = hashlib.sha256()
        for path in sorted(self.folder.rglob("*")):
            if path.suffix in {".safetensors", ".bin"} or path.name == "tokenizer.json":
                total.update(
                    f"{path.relative_to(self.folder)} {remembered_digest(path)}\n".encode()
                )
        return total.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return the model's name and digest."""
        return {"name": _PACKAGED, "digest": self.digest}

    def identity(self) -> str:
        """Return the digest of all that decides the bits of a vector, but for the text.

        The sums of other versions of the libraries, or of another processor's instructions, may
        differ in their last bits.
        """
        return digest(
            {
                "model": self.describe(),
                "configuration": {
                    path.relative_to(self.folder).as_posix(): remembered_digest(path)
                    for path in sorted(self.folder.rglob("*.json"))
                },
                "encoding": ENCODING,
                "libraries": {name: version(name) for name in _LIBRARIES},
                "processor": [
                    platform.machine(),
                    platform.processor(),
                    *cpu_facts("model name", "flags", "Features"),
                ],
            }
        )

    @cached_property
    def _model(self) -> "SentenceModel":
        from ftreg.scoring.backends.sentence_model import SentenceModel

        return SentenceModel(self.folder)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the embeddings, shape (len(texts), 384).

        A text's embedding does not depend on its company, to the last bit.
        """
        return self._model.encode(texts)

    def words(self, texts: Sequence[str]) -> list[WordVectors]:
        """Return the words of each text with what they mean in it; see `SentenceModel.words`."""
        return self._model.words(texts)
