"""The judge's network: all-mpnet-base-v2 with adapters, which encodes a text once for all claims.

A row is `<s> question </s></s> text </s></s> claim </s> claim </s> …`. The text does not attend to
the claims; a claim attends to the text and itself, with positions as if it were the only one. So
the text is encoded once for any number of claims, and a claim's probability does not depend on the
other claims.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise, repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

START, END = 0, 2
SUPPORTS, ANSWERS = 0, 1
"""The two heads, with classes (entailment, neutral, contradiction) and (no answer, answer)."""
CLASSES = (3, 2)
_BUCKETS = 32


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of a text and its claims, with position and segment ids, and claim spans."""

    ids: Sequence[int]
    positions: Sequence[int]
    segments: Sequence[int]
    """0 for the text, to which all attend; k for the k-th claim, which attends to it and itself."""
    spans: Sequence[tuple[int, int]]
    """[start, end) of each claim, in tokens."""

    def __len__(self) -> int:
        return len(self.ids)


def supporting(text: Sequence[int], claims: Sequence[Sequence[int]]) -> Row:
    """Return the row of a text (after its question, if it has one) and the claims about it."""
    head = [START, *text, END, END]
    own = [[*claim, END] for claim in claims]
    ends = list(accumulate(map(len, own), initial=len(head)))
    first = len(head)
    return Row(
        [*head, *chain.from_iterable(own)],
        [*range(first), *chain.from_iterable(range(first, first + len(c)) for c in own)],
        [*repeat(0, first), *chain.from_iterable(repeat(k, len(c)) for k, c in enumerate(own, 1))],
        list(pairwise(ends)),
    )


def answering(question: Sequence[int], answer: Sequence[int]) -> Row:
    """Return the row of a question and an answer, which attend to each other."""
    ids = [START, *question, END, END, *answer, END]
    return Row(ids, range(len(ids)), [1] * len(ids), [(len(question) + 3, len(ids))])


def states(model: Any, rows: Sequence[Row]) -> Tensor:
    """Return the mean of the last layer over each claim, shape (claims of all rows, width).

    Args:
        model: transformers' `MPNetModel`; its own forward ignores the rows' positions and segments.
        rows: at least one; padded to the longest, so of similar length.
    """
    longest = max(map(len, rows))
    padded = [[*row.ids, *[1] * (longest - len(row))] for row in rows]
    places = [[*row.positions, *[0] * (longest - len(row))] for row in rows]
    parts = [[*row.segments, *[-1] * (longest - len(row))] for row in rows]
    ids, positions, segments = (torch.tensor(x) for x in (padded, places, parts))
    embeddings, encoder = model.embeddings, model.encoder
    mine, theirs = segments[:, :, None], segments[:, None, :]
    seen = (mine == theirs) | ((theirs == 0) & (mine > 0))
    distance = positions[:, None, :] - positions[:, :, None]
    bucket = encoder.relative_position_bucket(distance, num_buckets=_BUCKETS)
    bias = encoder.relative_attention_bias(bucket).permute(0, 3, 1, 2)
    bias = bias.masked_fill(~seen[:, None], float("-inf"))
    bias = bias.to(encoder.layer[0].attention.attn.q.weight.dtype)
    x = embeddings.word_embeddings(ids) + embeddings.position_embeddings(positions + 2)
    x = _normed(embeddings.LayerNorm, x)
    heads = model.config.num_attention_heads
    for layer in encoder.layer:
        attention = layer.attention.attn
        given = x.to(attention.q.weight.dtype)
        q, k, v = (
            part(given).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in (attention.q, attention.k, attention.v)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = _normed(layer.attention.LayerNorm, attention.o(mixed.transpose(1, 2).flatten(2)), x)
        inner = functional.gelu(layer.intermediate.dense(x.to(q.dtype)))
        x = _normed(layer.output.LayerNorm, layer.output.dense(inner), x)
    pooled = [
        x[place, first:last].float().mean(0)
        for place, row in enumerate(rows)
        for first, last in row.spans
    ]
    return torch.stack(pooled)


def _normed(norm: nn.LayerNorm, new: Tensor, old: Tensor | None = None) -> Tensor:
    """Normalize in the norm's dtype, which is also that of the residual stream."""
    new = new.to(norm.weight.dtype)
    return norm(new if old is None else new + old)
