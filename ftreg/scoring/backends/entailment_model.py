"""The network behind the judge of entailment: all-mpnet-base-v2 with merged adapters, two heads.

A text is read once, and any number of claims is then held against that reading: the text does not
see the claims, and a claim sees the text and itself, placed as if it followed the text alone. So a
claim's probability does not depend on the claims beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from ftreg.scoring.backends.int8 import to_int8

_START, _PADDING, _END = 0, 1, 2
_FIRST_POSITION = _PADDING + 1
_BUCKETS = 32
_STEP = 16
"""Rows are padded to a multiple of so many tokens, and computed with others of that length."""
_AT_ONCE = 1024
"""Tokens of a batch, with their padding."""
WINDOW, STRIDE = 320, 256
"""Tokens of a text that are read at a time, and from one window's start to the next one's."""
QUESTION, CLAIM = 64, 128
"""Tokens of a question, and of a claim, beyond which the rest is left out."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is kept of a text that was read: the keys and values of each layer."""

    keys: tuple[Tensor, ...]  # (heads, n, width) each
    values: tuple[Tensor, ...]

    @property
    def tokens(self) -> int:
        """How many tokens the text has, n."""
        return self.keys[0].shape[1]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(part.nbytes for part in (*self.keys, *self.values))


class EntailmentModel:
    """Reads texts, and judges claims about them.

    Args:
        base: folder of all-mpnet-base-v2.
        weights: safetensors file of adapters (`….A`, `….B`) and heads.
        int8: whether the layers' products are in int8, and readings are kept in fp16; else all is
            in fp32, as the heads are.
    """

    def __init__(self, base: Path, weights: Path, *, int8: bool) -> None:
        transformers_logging.disable_progress_bar()
        self._tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()  # the base's pooler is not wanted
        model = AutoModel.from_pretrained(
            base, add_pooling_layer=False, use_safetensors=True, local_files_only=True
        )
        transformers_logging.set_verbosity(verbosity)
        tensors = {name: value.float() for name, value in load_file(weights).items()}
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                module.weight.data += tensors[f"{name}.B"] @ tensors[f"{name}.A"]
        if int8:
            to_int8(model.encoder)
        self._model: Any = model.eval()
        self._kept = torch.float16 if int8 else torch.float32
        parts = ("0.weight", "0.bias", "2.weight", "2.bias")
        self._heads = [[tensors[f"heads.{head}.{part}"] for part in parts] for head in (0, 1)]

    def windows(self, text: str, question: str | None) -> list[list[int]]:
        """Return the tokens of a text in windows, each with the question in front."""
        ids = self._ids(text)
        head = [_START, *self._ids(question)[:QUESTION], _END, _END] if question else [_START]
        starts = range(0, max(len(ids) - WINDOW + STRIDE, 1), STRIDE)
        return [[*head, *ids[start : start + WINDOW], _END, _END] for start in starts]

    @torch.inference_mode()
    def read(self, windows: Sequence[Sequence[int]]) -> list[Reading]:
        """Read windows of texts."""
        found: dict[int, Reading] = {}
        for (length,), places in _batches([(len(window),) for window in windows]):
            own = [windows[place] for place in places]
            _, keys, values = self._forward(own, length)
            for number, (place, window) in enumerate(zip(places, own, strict=True)):
                found[place] = Reading(
                    *(
                        tuple(
                            part[number, :, : len(window)].to(self._kept, copy=True)
                            for part in parts
                        )
                        for parts in (keys, values)
                    )
                )
        return [found[place] for place in range(len(windows))]

    def claim(self, text: str) -> list[int]:
        """Return the tokens of a claim."""
        return [*self._ids(text)[:CLAIM], _END]

    @torch.inference_mode()
    def support(self, claims: Sequence[tuple[Reading, Sequence[int]]]) -> Tensor:
        """Return the probabilities of entailment, neutral and contradiction, shape (claims, 3).

        Claims of like length about texts of like length are computed together, padded as each of
        them would be alone, so that sums run in the same order in any company.

        Args:
            claims: what was read of a text, and the tokens of a claim about it.
        """
        found = torch.empty(len(claims), 3)
        lengths = [(len(claim), reading.tokens) for reading, claim in claims]
        for (length, _), places in _batches(lengths):
            readings, own = zip(*(claims[place] for place in places), strict=True)
            states, _, _ = self._forward(own, length, readings)
            for place, state, row in zip(places, states, own, strict=True):
                found[place] = self._head(0, state[: len(row)].mean(0)[None])[0]
        return found

    @torch.inference_mode()
    def answers(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return, for each question and text, the probability that the text answers it."""
        heads = [[_START, *self._ids(ask)[:WINDOW], _END, _END] for ask, _ in pairs]
        rows = [
            [*head, *self._ids(answer)[:CLAIM], _END]
            for head, (_, answer) in zip(heads, pairs, strict=True)
        ]
        found = [0.0] * len(pairs)
        for (length,), places in _batches([(len(row),) for row in rows]):
            states, _, _ = self._forward([rows[place] for place in places], length)
            for place, state in zip(places, states, strict=True):
                mean = state[len(heads[place]) : len(rows[place])].mean(0)
                found[place] = float(self._head(1, mean[None])[0, 1])
        return found

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _head(self, which: int, states: Tensor) -> Tensor:
        inner, bias, outer, end = self._heads[which]
        hidden = functional.gelu(functional.linear(states, inner, bias))
        return functional.linear(hidden, outer, end).softmax(-1)

    def _forward(
        self, rows: Sequence[Sequence[int]], length: int, readings: Sequence[Reading] = ()
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return the last states of rows, each after its reading, and their keys and values.

        Shapes (rows, length, width) and (rows, heads, length, width of a head). What stands behind
        a row's end is of no meaning.
        """
        ids = torch.tensor([[*row, *[_PADDING] * (length - len(row))] for row in rows])
        first = torch.tensor([reading.tokens for reading in readings] or [0])[:, None]
        before = _padded(int(first.max()))
        positions = first + torch.arange(length)
        embeddings = self._model.embeddings
        x = embeddings.word_embeddings(ids)
        x = embeddings.LayerNorm(x + embeddings.position_embeddings(positions + _FIRST_POSITION))
        bias = self._bias(positions, first, before, torch.tensor([len(row) for row in rows]))
        distinct = {id(reading): reading for reading in readings}
        places = {key: place for place, key in enumerate(distinct)}
        of_row = torch.tensor([places[id(reading)] for reading in readings], dtype=torch.long)

        def past(parts: Sequence[Tensor]) -> Tensor:
            padded = [functional.pad(part, (0, 0, 0, before - part.shape[1])) for part in parts]
            return torch.stack(padded).float()[of_row]

        kept_keys, kept_values = [], []
        for number, layer in enumerate(self._model.encoder.layer):
            attention = layer.attention.attn
            heads = (attention.num_attention_heads, attention.attention_head_size)
            q, k, v = (
                part(x).unflatten(-1, heads).transpose(1, 2)
                for part in (attention.q, attention.k, attention.v)
            )
            kept_keys.append(k)
            kept_values.append(v)
            if readings:
                k = torch.cat([past([each.keys[number] for each in distinct.values()]), k], 2)
                v = torch.cat([past([each.values[number] for each in distinct.values()]), v], 2)
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            mixed = attention.o(mixed.transpose(1, 2).flatten(2))
            x = layer.attention.LayerNorm(mixed + x)
            inner = functional.gelu(layer.intermediate.dense(x))
            x = layer.output.LayerNorm(layer.output.dense(inner) + x)
        return x, kept_keys, kept_values

    def _bias(self, positions: Tensor, first: Tensor, before: int, lengths: Tensor) -> Tensor:
        """Return the relative positions' bias, minus infinity where there is padding.

        Shape (rows, heads, own tokens, seen tokens); seen are `before` tokens of a reading, of
        which `first` are real, and a row's own.
        """
        encoder = self._model.encoder
        earlier = torch.arange(before).expand(len(positions), before)
        seen = torch.cat([earlier, positions], 1)
        distance = seen[:, None, :] - positions[:, :, None]
        bucket = encoder.relative_position_bucket(distance, num_buckets=_BUCKETS)
        bias = encoder.relative_attention_bias(bucket).permute(0, 3, 1, 2)
        own = torch.arange(positions.shape[1]) < lengths[:, None]
        real = torch.cat([(earlier < first).expand(len(own), before), own], 1)
        return torch.where(real[:, None, None], bias, float("-inf"))


def _padded(length: int) -> int:
    return -(-length // _STEP) * _STEP


def _batches(
    lengths: Sequence[tuple[int, ...]],
) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Yield padded lengths, and the places of some rows that have them; the first is a row's."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, each in enumerate(lengths):
        groups.setdefault(tuple(map(_padded, each)), []).append(place)
    for padded, places in groups.items():
        rows = max(_AT_ONCE // padded[0], 1)
        for start in range(0, len(places), rows):
            yield padded, places[start : start + rows]
