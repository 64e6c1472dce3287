"""Running a sentence-transformers model so that a text's vector is the same in any company."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from ftreg.scoring.backends.encoder import WordVectors
from ftreg.scoring.backends.int8 import to_int8
from ftreg.scoring.backends.vector_store import FloatArray

_BATCH = 32
_LEAST_TOKENS = 64


class SentenceModel:
    """A sentence-transformers model on the CPU, its products in int8.

    Args:
        folder: the model's folder.
    """

    def __init__(self, folder: Path) -> None:
        transformers_logging.disable_progress_bar()
        self._model = SentenceTransformer(str(folder), device="cpu", local_files_only=True).eval()
        to_int8(self._model)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the L2-normalised embeddings, shape (len(texts), width).

        One thread works: products this small lose by being divided, and would be summed otherwise.
        """
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        places, rows = [], []
        with _one_thread():
            for batch, filled in _batches(self._read(texts)["input_ids"]):
                found = self._forward(filled)["sentence_embedding"][: len(batch)]
                rows.append(torch.nn.functional.normalize(found, p=2, dim=1).numpy())
                places += batch
        found = np.concatenate(rows)
        vectors = np.empty_like(found)
        vectors[places] = found
        return vectors

    def words(self, texts: Sequence[str]) -> list[WordVectors]:
        """Return the words of each text with the mean of their pieces' last hidden states.

        As with `encode`, they do not depend on the company. A word that the tokenizer does not know
        has the vector 0, near to nothing. What is beyond the length that the model reads is left
        out.
        """
        if not texts:
            return []
        read = self._read(texts)
        unknown = self._model.tokenizer.unk_token_id
        found: dict[int, WordVectors] = {}
        with _one_thread():
            for batch, filled in _batches(read["input_ids"]):
                states = self._forward(filled)["token_embeddings"].numpy().copy()
                for place, state in zip(batch, states, strict=False):
                    state[np.array(read["input_ids"][place]) == unknown] = 0.0
                    spans = zip(read.word_ids(place), read["offset_mapping"][place], strict=True)
                    found[place] = _words(texts[place], list(spans), state)
        return [found[place] for place in range(len(texts))]

    def _read(self, texts: Sequence[str]) -> Any:
        return self._model.tokenizer(
            list(texts),
            truncation=True,
            max_length=self._model.max_seq_length,
            return_offsets_mapping=True,
        )

    @torch.inference_mode()
    def _forward(self, ids: Sequence[Sequence[int]]) -> Any:
        tokens = torch.tensor(ids)
        return self._model({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})


def _batches(ids: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], list[Sequence[int]]]]:
    """Yield the places of the texts of a batch, and the tokens that the model gets for it.

    Only texts of one token count share a batch, so nothing is padded, and a batch of few tokens is
    filled up with repeats, since small products are summed in another order.
    """
    groups: dict[int, list[int]] = {}
    for place, own in enumerate(ids):
        groups.setdefault(len(own), []).append(place)
    for tokens, places in groups.items():
        least = -(-_LEAST_TOKENS // tokens)
        for start in range(0, len(places), _BATCH):
            batch = places[start : start + _BATCH]
            filled = [*batch, *batch[:1] * (least - len(batch))]
            yield batch, [ids[place] for place in filled]


def _words(
    text: str, spans: Sequence[tuple[int | None, tuple[int, int]]], states: FloatArray
) -> WordVectors:
    """Join pieces to words: `spans` has the number of each piece's word, and where it stands."""
    pieces: dict[int, list[int]] = {}
    for place, (number, _) in enumerate(spans):
        if number is not None:
            pieces.setdefault(number, []).append(place)
    found, rows = [], []
    for own in pieces.values():
        word = text[spans[own[0]][1][0] : spans[own[-1]][1][1]].casefold()
        if word.isalnum():
            row = states[own].mean(axis=0)
            found.append(word)
            rows.append(row / max(float(np.linalg.norm(row)), 1e-9))
    vectors = np.array(rows, dtype=np.float32).reshape(len(rows), states.shape[1])
    return WordVectors(tuple(found), vectors)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
