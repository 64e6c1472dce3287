"""Attention over packed examples, one example at a time.

With a block-diagonal mask the kernel computes every pair of tokens of a row and throws most of them
away. On a CPU it is cheaper to call it once per example, on that example's own tokens.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

PACKED = "ftreg_packed"
# Up to so many tokens bf16 attention keeps its weights; they take 2 bytes a pair and head.
_SHORT = 512


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    example_lengths: Sequence[int],
    shared_prefix: int = 0,
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
        shared_prefix: so many tokens begin every example, and are in the row once, with the first.
        **settings: passed on (scaling, dropout).

    Returns:
        (1, tokens, heads, width), and None in the place of the attention weights.
    """
    first, *others = example_lengths
    lengths = [first, *(length - shared_prefix for length in others)]
    pieces = [list(torch.split(part, lengths, dim=2)) for part in (query, key, value)]
    for of_kind in pieces[1:] if shared_prefix else ():  # every query sees the shared keys, values
        prefix = of_kind[0][:, :, :shared_prefix]
        of_kind[1:] = [torch.cat([prefix, rest], dim=2) for rest in of_kind[1:]]
    outputs = [_causal_attention(module, *parts, **settings) for parts in zip(*pieces, strict=True)]
    output = torch.cat(outputs, dim=1)
    # Where FSDP has made the weights bf16, what follows takes nothing else; autocast casts itself.
    if not torch.is_autocast_enabled(query.device.type):
        output = output.to(query.dtype)
    return output, None


def _causal_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **settings: Any,
) -> torch.Tensor:
    """Attention of an example's last tokens (1, heads, n, width) to all of its tokens."""
    kind = query.device.type
    low = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) is torch.bfloat16
    missing = key.shape[2] - query.shape[2]
    with torch.autocast(kind, enabled=False):
        if low and not dropout and key.shape[2] <= _SHORT:
            return _short_attention(query.bfloat16(), key.bfloat16(), value.bfloat16(), scaling)
        # The kernel's causal mask begins at the first token; what it computes for it is dropped.
        output: torch.Tensor = sdpa_attention_forward(
            module,
            functional.pad(query.float(), (0, 0, missing, 0)),
            key.float(),
            value.float(),
            None,
            scaling=scaling,
            dropout=dropout,
            **settings,
        )[0]
    return output[:, missing:]


def _short_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    """Attention by plain products, in bf16; the softmax adds up in fp32.

    On rows this short torch's own kernel is slower: in bf16 its backward takes twice as long as in
    fp32, and in fp32 products take twice as long as in bf16.
    """
    _, heads, length, width = query.shape
    groups, tokens = key.shape[1:3]
    scale = width**-0.5 if scaling is None else scaling
    # Heads that share keys and values are one product. The gradient of an index fills in zeros.
    rows = (query * scale).reshape(groups, -1, width)
    scores = torch.bmm(rows, key.squeeze(0).transpose(1, 2)).view(heads, length, tokens)
    scores += _causal_mask(_SHORT, query.device)[tokens - length : tokens, :tokens]
    weights = torch.softmax(scores, dim=-1).view(groups, -1, tokens)
    return torch.bmm(weights, value.squeeze(0)).view(1, heads, length, width).transpose(1, 2)


@functools.cache
def _causal_mask(size: int, device: torch.device) -> torch.Tensor:
    """Minus infinity where a row's token would see one after it."""
    full = torch.full((size, size), -torch.inf, dtype=torch.bfloat16, device=device)
    return full.triu(1)


AttentionInterface.register(PACKED, packed_attention)


def takes_packed_attention(model: PreTrainedModel) -> bool:
    """Whether a model attends to everything before a token, by `sdpa`, and is not for a GPU.

    Sliding windows and the like live in the mask that `packed_attention` does without; and on an
    accelerator one masked call beats many small ones.
    """
    config = model.config
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    plain = set(layers) == {"full_attention"} and not getattr(config, "sliding_window", None)
    return plain and config._attn_implementation == "sdpa" and not torch.cuda.is_available()


def use_packed_attention(model: PreTrainedModel) -> bool:
    """Switch a model to `packed_attention`, if it takes it; else it keeps its own.

    Returns:
        Whether the model was switched.
    """
    if not takes_packed_attention(model):
        return False
    model.set_attn_implementation(PACKED)
    return bool(model.config._attn_implementation == PACKED)


def restore_attention(model: PreTrainedModel) -> None:
    """Undo `use_packed_attention`, so that the model works without `example_lengths` again."""
    model.set_attn_implementation("sdpa")
