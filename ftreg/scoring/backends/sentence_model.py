"""Running a sentence-transformers model so that a text's vector is the same in any company."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from ftreg.scoring.backends.vector_store import FloatArray

_BATCH = 32
_LEAST_TOKENS = 64


class SentenceModel:
    """A sentence-transformers model in fp32 on the CPU.

    Args:
        folder: the model's folder.
    """

    def __init__(self, folder: Path) -> None:
        transformers_logging.disable_progress_bar()
        self._model = SentenceTransformer(str(folder), device="cpu", local_files_only=True).eval()

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the L2-normalised embeddings, shape (len(texts), width).

        Only texts of one token count share a batch, so nothing is padded, and a batch of few tokens
        is filled up with repeats, since small products are summed in another order. One thread
        works: products this small lose by being divided, and would be summed otherwise.
        """
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        most = self._model.max_seq_length
        read = self._model.tokenizer(list(texts), truncation=True, max_length=most)["input_ids"]
        groups: dict[int, list[int]] = {}
        for place, ids in enumerate(read):
            groups.setdefault(len(ids), []).append(place)
        batches = [
            places[start : start + _BATCH]
            for places in groups.values()
            for start in range(0, len(places), _BATCH)
        ]

        def run(batch: list[int]) -> FloatArray:
            least = -(-_LEAST_TOKENS // len(read[batch[0]]))
            filled = [*batch, *batch[:1] * (least - len(batch))]
            return self._forward([read[place] for place in filled])[: len(batch)]

        with _one_thread():
            found = np.concatenate([run(batch) for batch in batches])
        vectors = np.empty_like(found)
        vectors[[place for batch in batches for place in batch]] = found
        return vectors

    @torch.inference_mode()
    def _forward(self, ids: Sequence[Sequence[int]]) -> FloatArray:
        tokens = torch.tensor(ids)
        found = self._model({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})
        unit = torch.nn.functional.normalize(found["sentence_embedding"], p=2, dim=1)
        return np.asarray(unit.numpy())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
