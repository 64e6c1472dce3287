"""Causal attention within short examples, by plain matrix products in bf16.

On rows of a few hundred tokens torch's own kernel is slower on a CPU: its backward pass takes twice
as long in bf16 as in fp32, and products take twice as long in fp32 as in bf16. All examples of a
row are one autograd function here: autograd would record a dozen operations for each, and assemble
their gradients from slices.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

LONGEST_EXAMPLE = 512
"""Most tokens of an example; its attention weights are kept, at 2 bytes per token pair and head."""


@dataclass(frozen=True, slots=True)
class Span:
    """An example's place in a row: its queries, and its own keys after `prefix` shared ones."""

    queries: slice
    keys: slice
    prefix: int = 0

    @classmethod
    def whole(cls, query: torch.Tensor, key: torch.Tensor) -> "Span":
        """Return the span of a row that holds a single example."""
        return cls(slice(0, query.shape[2]), slice(0, key.shape[2]))


class _Attention(torch.autograd.Function):
    """softmax(s q k' + causal mask) v, for each span separately."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        spans: Sequence[Span],
        scale: float,
    ) -> torch.Tensor:
        _, heads, tokens, width = query.shape
        groups = key.shape[1]
        output = query.new_empty(1, tokens, heads, width, dtype=torch.bfloat16)
        kept: list[torch.Tensor] = []
        for span in spans:
            part = query[0, :, span.queries]
            # A model's queries are laid out by token; this copies them by head, once.
            rows = query.new_empty(part.shape, dtype=torch.bfloat16)
            torch.mul(part, scale, out=rows)
            # Heads that share keys and values go into one product.
            rows = rows.view(groups, -1, width)
            keys, values = _with_prefix(key[0], span), _with_prefix(value[0], span)
            length, seen = part.shape[1], keys.shape[1]
            scores = torch.bmm(rows, keys.transpose(1, 2)).view(heads, length, seen)
            scores += _causal_mask(LONGEST_EXAMPLE, query.device)[seen - length : seen, :seen]
            weights = torch.softmax(scores, dim=-1).view(groups, -1, seen)
            output[0, span.queries] = torch.bmm(weights, values).view(part.shape).transpose(0, 1)
            kept += [rows, keys, values, weights]
        ctx.save_for_backward(*kept)
        ctx.spans, ctx.scale = spans, scale
        ctx.like = [(part.shape[1:], part.dtype) for part in (query, key, value)]
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        output = gradients[0][0]
        of_query, of_key, of_value = (
            output.new_empty(shape, dtype=dtype) for shape, dtype in ctx.like
        )
        heads, _, width = of_query.shape
        groups = of_key.shape[0]
        shared: list[tuple[torch.Tensor, torch.Tensor]] = []
        saved = ctx.saved_tensors  # read once: activation checkpointing frees them on access
        for index, span in enumerate(ctx.spans):
            rows, keys, values, weights = saved[4 * index : 4 * index + 4]
            part = output[span.queries].transpose(0, 1)
            of_output = part.to(torch.bfloat16, memory_format=torch.contiguous_format, copy=True)
            of_output = of_output.view(groups, -1, width)
            values_part = torch.bmm(weights.transpose(1, 2), of_output)
            of_weights = torch.bmm(of_output, values.transpose(1, 2))
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            rows_part = torch.bmm(of_scores, keys).view(heads, -1, width)
            keys_part = torch.bmm(of_scores.transpose(1, 2), rows)
            torch.mul(rows_part, ctx.scale, out=of_query[:, span.queries])
            of_key[:, span.keys] = keys_part[:, span.prefix :]
            of_value[:, span.keys] = values_part[:, span.prefix :]
            if span.prefix:
                shared.append((keys_part[:, : span.prefix], values_part[:, : span.prefix]))
        if shared:  # every example adds to their gradient
            for gradient, parts in zip((of_key, of_value), zip(*shared, strict=True), strict=True):
                begins = gradient[:, : parts[0].shape[1]]
                begins += torch.stack(parts).sum(0, dtype=torch.float32)
        return of_query[None], of_key[None], of_value[None], None, None


def short_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    spans: Sequence[Span],
    scaling: float | None,
) -> torch.Tensor:
    """Causal attention of each span's queries to its keys, in bf16; softmax sums are in fp32.

    Args:
        query: (1, heads, tokens, width).
        key: (1, groups, keys, width), where `groups` divides `heads`.
        value: see `key`.
        spans: one per example, of at most `LONGEST_EXAMPLE` keys each; together they cover all
            queries and keys. An example's queries are its last tokens. Shared keys come first in
            the row.
        scaling: scale of the scores; None for 1/sqrt(width).

    Returns:
        (1, tokens, heads, width), bf16.

    Raises:
        ValueError: the spans do not cover the queries, or there are several rows.
    """
    covered = sum(span.queries.stop - span.queries.start for span in spans)
    if covered != query.shape[2] or query.shape[0] != 1:
        raise ValueError(f"examples of {covered} tokens do not cover {tuple(query.shape)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast(query.device.type, enabled=False):
        output: torch.Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
            query, key, value, spans, scale
        )
    return output


def _with_prefix(row: torch.Tensor, span: Span) -> torch.Tensor:
    """Return all keys or values (groups, n, width) of a span, shared ones first, in bf16."""
    groups, _, width = row.shape
    own = row[:, span.keys]
    found = row.new_empty(groups, span.prefix + own.shape[1], width, dtype=torch.bfloat16)
    found[:, : span.prefix] = row[:, : span.prefix]
    found[:, span.prefix :] = own
    return found


@functools.cache
def _causal_mask(size: int, device: torch.device) -> torch.Tensor:
    """(size, size): minus infinity where a token would attend to a later one, else 0."""
    full = torch.full((size, size), -torch.inf, dtype=torch.bfloat16, device=device)
    return full.triu(1)
