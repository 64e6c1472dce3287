"""Attention over packed examples, one example at a time.

With a block-diagonal mask the kernel computes every pair of tokens of a row and throws most of them
away. On a CPU it is cheaper to call it once per example, on that example's own tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

PACKED = "ftreg_packed"


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    example_lengths: Sequence[int],
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each example of a row.

    Args:
        module: the attention layer.
        query: (1, heads, tokens, width); `key` and `value` alike, with their own heads.
        key: see `query`.
        value: see `query`.
        attention_mask: None; the causal mask of each example is implied.
        example_lengths: tokens of each example in the row, in order.
        **settings: passed on (scaling, dropout).

    Returns:
        (1, tokens, heads, width), and None in the place of the attention weights.
    """
    lengths = list(example_lengths)
    # In fp32 also under autocast: on short rows the bf16 kernel's backward takes twice as long.
    pieces = [torch.split(part.float(), lengths, dim=2) for part in (query, key, value)]
    with torch.autocast(query.device.type, enabled=False):
        outputs = [
            sdpa_attention_forward(module, *parts, None, **settings)[0]
            for parts in zip(*pieces, strict=True)
        ]
    # Where FSDP has made the weights bf16, what follows takes nothing else.
    return torch.cat(outputs, dim=1).to(query.dtype), None


AttentionInterface.register(PACKED, packed_attention)


def use_packed_attention(model: PreTrainedModel) -> bool:
    """Switch a model to `packed_attention`, if it attends to everything before a token.

    Sliding windows and the like live in the mask that this attention does without; such a model
    keeps its own, and so does one on an accelerator, where one masked call beats many small ones.

    Returns:
        Whether the model was switched.
    """
    config = model.config
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    plain = set(layers) == {"full_attention"} and not getattr(config, "sliding_window", None)
    if not plain or config._attn_implementation != "sdpa" or torch.cuda.is_available():
        return False
    model.set_attn_implementation(PACKED)
    return bool(config._attn_implementation == PACKED)


def restore_attention(model: PreTrainedModel) -> None:
    """Undo `use_packed_attention`, so that the model works without `example_lengths` again."""
    model.set_attn_implementation("sdpa")
