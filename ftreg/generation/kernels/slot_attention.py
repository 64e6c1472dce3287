"""Attention of one token per row, over no more columns than the rows have, fast in bf16 too.

A decoding step gives every row one token, and the keys and values of all rows as wide as those of
the longest. What is masked is computed all the same. Here rows that lie beside each other are
attended to in parts, each as wide as its own longest row.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ftreg.generation.kernels.packed_linear import bf16_is_fast
from ftreg.generation.kernels.slots import whole_blocks
from ftreg.models.attention import attending

SLOTS = "ftreg_slots"

# Rows of a part, at least, so that each call has enough to share among the cores.
_ROWS = 8


@dataclass(frozen=True, slots=True)
class _Part:
    """Neighbouring rows, and their mask of (rows, 1, 1, columns), to be added to their weights."""

    rows: slice
    mask: torch.Tensor


def slot_mask(*arguments: Any, **settings: Any) -> torch.Tensor | None:
    """Make the mask of `sdpa`; that of one token per row says in `spans` what its rows need."""
    mask: torch.Tensor | None = sdpa_mask(*arguments, **settings)
    if mask is not None and mask.dtype is torch.bool and mask.shape[1:3] == (1, 1):
        mask.spans = _spans(mask[:, 0, 0])  # type: ignore[attr-defined]
    return mask


def _spans(seen: torch.Tensor) -> list[tuple[slice, int]]:
    """Return neighbouring rows with the columns that they need, from a mask (rows, columns)."""
    behind = torch.arange(1, seen.shape[1] + 1, device=seen.device)
    ends = (seen * behind).amax(-1).tolist()
    spans: list[tuple[slice, int]] = []
    for start in range(0, len(ends), _ROWS):
        rows = slice(start, start + _ROWS)
        # One column is always masked, see `SlotCache.advance`.
        columns = min(whole_blocks(max(ends[rows]) + 1), seen.shape[1])
        if spans and spans[-1][1] == columns:
            rows = slice(spans.pop()[0].start, rows.stop)
        spans.append((rows, columns))
    return spans


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as `sdpa` does; one token per row in the parts that the mask's `spans` name.

    Args:
        module: the attention layer.
        query: (rows, heads, tokens, width).
        key: (rows, heads, columns, width), with heads of its own; in fp32 where the others are not,
            see `SlotCache`.
        value: (rows, heads, columns, width), with the heads of `key`.
        attention_mask: made by `slot_mask`, or None.
        **settings: passed on (scaling, dropout).

    Returns:
        (rows, tokens, heads, width), and None in the place of the attention weights.
    """
    if not hasattr(attention_mask, "spans"):
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **settings
        )
        return found
    if not hasattr(attention_mask, "parts"):
        # Once for all layers: torch would make the same of a mask of booleans in each of them.
        added = torch.zeros_like(attention_mask, dtype=query.dtype)
        added.masked_fill_(~attention_mask, -torch.inf)
        attention_mask.parts = [
            _Part(rows, added[rows, :, :, :columns].contiguous())
            for rows, columns in attention_mask.spans
        ]
    attend = _by_kernel if key.dtype is query.dtype else _by_products
    outputs = []
    for part in attention_mask.parts:
        columns = part.mask.shape[-1]
        keys, values = (side[part.rows, :, :columns] for side in (key, value))
        outputs.append(attend(module, query[part.rows], keys, values, part.mask, **settings))
    return (torch.cat(outputs) if len(outputs) > 1 else outputs[0]), None


def _by_kernel(module: torch.nn.Module, *parts: torch.Tensor, **settings: Any) -> torch.Tensor:
    output: torch.Tensor = sdpa_attention_forward(module, *parts, **settings)[0]
    return output


def _by_products(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    scaling: float | None = None,
    **_settings: Any,
) -> torch.Tensor:
    """Attention of one token per row by plain products, in bf16 but for keys in fp32.

    torch's own kernel takes twice as long in bf16 for so few queries. It sums up in fp32 as well.
    """
    rows, heads, _, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    # Heads that share keys and values are one product.
    grouped = query.float().view(rows, key.shape[1], -1, width)
    scores = torch.matmul(grouped, key.transpose(2, 3)).mul_(scale).add_(mask)
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    return torch.matmul(weights, value).view(rows, 1, heads, width)


AttentionInterface.register(SLOTS, slot_attention)
AttentionMaskInterface.register(SLOTS, slot_mask)


@contextmanager
def slot_attentions(model: PreTrainedModel) -> Iterator[None]:
    """Attend in parts within the block, where the model attends as `sdpa` does and on a CPU."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        with attending(model, SLOTS):
            yield
    else:
        yield


def wants_fp32_keys(model: PreTrainedModel) -> bool:
    """Whether `slot_attention` is to compute a model's attention by products of bf16."""
    attends = model.config._attn_implementation == SLOTS
    return attends and model.dtype is torch.bfloat16 and bf16_is_fast()
