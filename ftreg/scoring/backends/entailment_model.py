"""The network behind the judge of entailment: all-mpnet-base-v2 with merged adapters, two heads.

A text is read once, and any number of claims is then held against that reading: the text does not
see the claims, and a claim sees the text and itself, placed as if it followed the text alone. So a
claim's probability does not depend on the claims beside it.
"""

from collections.abc import Sequence
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

_START, _PADDING, _END = 0, 1, 2
_FIRST_POSITION = _PADDING + 1
_BUCKETS = 32
_STEP = 16
_ROWS = 64
WINDOW, STRIDE = 320, 256
"""Tokens of a text that are read at a time, and from one window's start to the next one's."""
QUESTION, CLAIM = 64, 128
"""Tokens of a question, and of a claim, beyond which the rest is left out."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is kept of a text that was read: the keys and values of each layer."""

    keys: tuple[Tensor, ...]  # (1, heads, n, width) each
    values: tuple[Tensor, ...]

    @property
    def tokens(self) -> int:
        """How many tokens the text has, n."""
        return self.keys[0].shape[2]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(part.nbytes for part in (*self.keys, *self.values))


class EntailmentModel:
    """Reads texts, and judges claims about them.

    Args:
        base: folder of all-mpnet-base-v2.
        weights: safetensors file of adapters (`….A`, `….B`) and heads.
        dtype: of the matrix products; norms, residuals and heads are in fp32.
    """

    def __init__(self, base: Path, weights: Path, *, dtype: torch.dtype) -> None:
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
                module.to(dtype)
        self._model: Any = model.eval()
        parts = ("0.weight", "0.bias", "2.weight", "2.bias")
        self._heads = [[tensors[f"heads.{head}.{part}"] for part in parts] for head in (0, 1)]

    def windows(self, text: str, question: str | None) -> list[list[int]]:
        """Return the tokens of a text in windows, each with the question in front."""
        ids = self._ids(text)
        head = [_START, *self._ids(question)[:QUESTION], _END, _END] if question else [_START]
        starts = range(0, max(len(ids) - WINDOW + STRIDE, 1), STRIDE)
        return [[*head, *ids[start : start + WINDOW], _END, _END] for start in starts]

    @torch.inference_mode()
    def read(self, window: Sequence[int]) -> Reading:
        """Read a window of a text."""
        _, keys, values = self._forward([window], len(window))
        return Reading(tuple(keys), tuple(values))

    def claim(self, text: str) -> list[int]:
        """Return the tokens of a claim."""
        return [*self._ids(text)[:CLAIM], _END]

    @torch.inference_mode()
    def support(self, reading: Reading, claims: Sequence[Sequence[int]]) -> Tensor:
        """Return the probabilities of entailment, neutral and contradiction, shape (claims, 3).

        Claims of like length are computed together, padded to a length that each of them would be
        padded to alone, so that sums run in the same order in any company.
        """
        groups: dict[int, list[int]] = {}
        for place, claim in enumerate(claims):
            groups.setdefault(-(-len(claim) // _STEP) * _STEP, []).append(place)
        found = torch.empty(len(claims), 3)
        for length, alike in groups.items():
            for start in range(0, len(alike), _ROWS):
                places = alike[start : start + _ROWS]
                own = [claims[place] for place in places]
                states, _, _ = self._forward(own, length, reading)
                means = [state[: len(row)].mean(0) for state, row in zip(states, own, strict=True)]
                found[places] = torch.cat([self._head(0, mean[None]) for mean in means])
        return found

    @torch.inference_mode()
    def answers(self, question: str, answer: str) -> float:
        """Return the probability that a text answers a question."""
        head = [_START, *self._ids(question)[:WINDOW], _END, _END]
        row = [*head, *self._ids(answer)[:CLAIM], _END]
        states, _, _ = self._forward([row], len(row))
        return float(self._head(1, states[:, len(head) :].mean(1))[0, 1])

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _head(self, which: int, states: Tensor) -> Tensor:
        inner, bias, outer, end = self._heads[which]
        hidden = functional.gelu(functional.linear(states, inner, bias))
        return functional.linear(hidden, outer, end).softmax(-1)

    def _forward(
        self, rows: Sequence[Sequence[int]], length: int, reading: Reading | None = None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return the last states of rows that follow a reading, and their keys and values.

        Shapes (rows, length, width) and (rows, heads, length, width of a head). What stands behind
        a row's end is of no meaning.
        """
        first = 0 if reading is None else reading.tokens
        ids = torch.tensor([[*row, *[_PADDING] * (length - len(row))] for row in rows])
        positions = torch.arange(first, first + length)
        embeddings = self._model.embeddings
        x = embeddings.word_embeddings(ids)
        x = embeddings.LayerNorm(x + embeddings.position_embeddings(positions + _FIRST_POSITION))
        lengths = torch.tensor([first + len(row) for row in rows])
        bias = self._bias(positions, first + length, lengths)
        bias = bias.to(self._model.encoder.layer[0].output.dense.weight.dtype)
        kept_keys, kept_values = [], []
        for number, layer in enumerate(self._model.encoder.layer):
            attention = layer.attention.attn
            given = x.to(attention.q.weight.dtype)
            heads = (attention.num_attention_heads, attention.attention_head_size)
            q, k, v = (
                part(given).unflatten(-1, heads).transpose(1, 2)
                for part in (attention.q, attention.k, attention.v)
            )
            kept_keys.append(k)
            kept_values.append(v)
            if reading is not None:
                shape = (len(rows), -1, -1, -1)
                k = torch.cat([reading.keys[number].expand(shape), k], dim=2)
                v = torch.cat([reading.values[number].expand(shape), v], dim=2)
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            mixed = attention.o(mixed.transpose(1, 2).flatten(2))
            x = layer.attention.LayerNorm(mixed.float() + x)
            inner = functional.gelu(layer.intermediate.dense(x.to(given.dtype)))
            x = layer.output.LayerNorm(layer.output.dense(inner).float() + x)
        return x, kept_keys, kept_values

    def _bias(self, positions: Tensor, seen: int, lengths: Tensor) -> Tensor:
        """Return the relative positions' bias, minus infinity behind a row's end.

        Shape (rows, heads, own tokens, seen tokens).
        """
        encoder = self._model.encoder
        distance = torch.arange(seen)[None, :] - positions[:, None]
        bucket = encoder.relative_position_bucket(distance, num_buckets=_BUCKETS)
        bias = encoder.relative_attention_bias(bucket).permute(2, 0, 1)[None]
        behind = torch.arange(seen)[None, :] >= lengths[:, None]
        return torch.where(behind[:, None, None], float("-inf"), bias)
