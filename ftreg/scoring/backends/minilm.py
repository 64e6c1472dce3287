"""The packaged sentence encoder, all-MiniLM-L6-v2, from a folder."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from ftreg.errors import UsageError
from ftreg.models.packaged import packaged_folder
from ftreg.scoring.backends.embedded import EmbeddedBackend
from ftreg.scoring.backends.encoder import FloatArray
from ftreg.store import file_digest

PACKAGED = "all-minilm-l6-v2"
WIDTH = 384
_BATCH = 32
_LEAST_TOKENS = 64


class MiniLM:
    """A sentence-transformers model from a folder, in fp32 on the CPU.

    Args:
        folder: a sentence-transformers model folder; the packaged model where None.

    Raises:
        UsageError: the folder is missing or holds no such model.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            folder = packaged_folder(PACKAGED)
        if not (folder / "modules.json").is_file():
            raise UsageError(f"{folder}: not a sentence-transformers model (no modules.json)")
        self.folder = folder
        transformers_logging.disable_progress_bar()
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
        """Return the embeddings, shape (len(texts), 384).

        Only texts of one token count share a batch, so nothing is padded, and a batch of few tokens
        is filled up with repeats, since small products are summed in another order. So a text's
        embedding does not depend on its company, to the last bit.
        """
        vectors = np.empty((len(texts), WIDTH), dtype=np.float32)
        groups: dict[int, list[int]] = {}
        most = self._model.max_seq_length
        tokenizer = self._model.tokenizer
        read = tokenizer(list(texts), truncation=True, max_length=most) if texts else {}
        for place, ids in enumerate(read.get("input_ids", ())):
            groups.setdefault(len(ids), []).append(place)
        with _some_threads():
            for tokens, places in groups.items():
                least = -(-_LEAST_TOKENS // tokens)
                for start in range(0, len(places), _BATCH):
                    batch = places[start : start + _BATCH]
                    filled = [*batch, *batch[:1] * (least - len(batch))]
                    found = self._model.encode(
                        [texts[place] for place in filled],
                        batch_size=len(filled),
                        normalize_embeddings=True,
                        show_progress_bar=False,
                    )
                    vectors[batch] = found[: len(batch)]
        return vectors


@contextlib.contextmanager
def _some_threads() -> Iterator[None]:
    """Use half of torch's threads: products this small lose more by waiting than all would gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def shared(folder: Path | None = None, /) -> EmbeddedBackend:
    """Return this process's backend for a model folder (the packaged model where None)."""
    return EmbeddedBackend(MiniLM(folder))
