"""Attention over packed examples, each separately.

With a block-diagonal mask the kernel computes every pair of tokens in a row and discards most of
them. On a CPU it is cheaper to compute each example separately: short ones in bf16 by plain
products (`short_attention`), others by one kernel call each. An accelerator gets the examples'
lengths (`attention_by_length`). `told_lengths` chooses between the two.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ftreg.models.attention_by_length import RowLayout, attention_by_length
from ftreg.models.short_attention import LONGEST_EXAMPLE, Span, short_attention

PACKED = "ftreg_packed"


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    example_lengths: Sequence[int] | RowLayout,
    shared_prefix: int = 0,
    scaling: float | None = None,
    dropout: float = 0.0,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each example of a row.

    Args:
        module: the attention layer.
        query: (1, heads, tokens, width).
        key: (1, groups, tokens, width), where `groups` divides `heads`.
        value: see `key`.
        attention_mask: None; the causal mask of each example is implied.
        example_lengths: tokens of each example in the row, in order, with any shared prefix; or a
            layout, for accelerators.
        shared_prefix: number of tokens that begin every example, stored only with the first one.
        scaling: scale of the scores; None for 1/sqrt(width).
        dropout: of the attention weights.
        **settings: passed on to torch's kernel, if it is called.

    Returns:
        (1, tokens, heads, width), and None instead of attention weights.
    """
    if isinstance(example_lengths, RowLayout):
        output = attention_by_length(
            query, key, value, layout=example_lengths, scaling=scaling, dropout=dropout
        )
        return output, None
    kind = query.device.type
    autocast = torch.is_autocast_enabled(kind)
    short = autocast and torch.get_autocast_dtype(kind) is torch.bfloat16 and not dropout
    if short and max(example_lengths) <= LONGEST_EXAMPLE:
        spans = _spans(example_lengths, shared_prefix)
        return short_attention(query, key, value, spans=spans, scaling=scaling), None
    first, *others = example_lengths
    lengths = [first, *(length - shared_prefix for length in others)]
    pieces = [list(torch.split(part, lengths, dim=2)) for part in (query, key, value)]
    for of_kind in pieces[1:] if shared_prefix else ():  # every query sees the shared prefix
        prefix = of_kind[0][:, :, :shared_prefix]
        of_kind[1:] = [torch.cat([prefix, rest], dim=2) for rest in of_kind[1:]]
    outputs = [
        short_attention(*parts, spans=[Span.whole(*parts[:2])], scaling=scaling)
        if short and parts[1].shape[2] <= LONGEST_EXAMPLE
        else _by_kernel(module, *parts, scaling=scaling, dropout=dropout, **settings)
        for parts in zip(*pieces, strict=True)
    ]
    output = torch.cat(outputs, dim=1)
    # With bf16 weights under FSDP the next layer takes nothing else; autocast casts by itself.
    return output if autocast else output.to(query.dtype), None


def _spans(example_lengths: Sequence[int], shared_prefix: int) -> list[Span]:
    spans: list[Span] = []
    start = 0
    for length in example_lengths:
        prefix = shared_prefix if spans else 0
        own = slice(start, start + length - prefix)
        spans.append(Span(own, own, prefix))
        start = own.stop
    return spans


def _by_kernel(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    **settings: Any,
) -> torch.Tensor:
    """Attend from an example's last tokens (1, heads, n, width) to all of its tokens, in fp32."""
    missing = key.shape[2] - query.shape[2]
    with torch.autocast(query.device.type, enabled=False):
        # The kernel's causal mask starts at the first token: pad the queries, and drop the padding.
        output: torch.Tensor = sdpa_attention_forward(
            module,
            functional.pad(query.float(), (0, 0, missing, 0)),
            key.float(),
            value.float(),
            None,
            **settings,
        )[0]
    return output[:, missing:]


AttentionInterface.register(PACKED, packed_attention)


def shares_prefixes(device: torch.device) -> bool:
    """Whether attention on a device takes rows that store a shared prefix once."""
    return device.type == "cpu"


def told_lengths(
    lengths: Sequence[int], *, shared_prefix: int, device: torch.device
) -> dict[str, Any]:
    """Return the arguments that describe a row's examples to a model with `packed_attention`.

    Their type decides how the model's device attends.

    Args:
        lengths: tokens of each example, in order.
        shared_prefix: number of tokens that begin every example, stored once in the row; must be 0
            unless `shares_prefixes`.
        device: the model's.
    """
    if device.type == "cpu":
        return {"example_lengths": lengths, "shared_prefix": shared_prefix}
    return {"example_lengths": RowLayout.of(lengths, device)}


def takes_packed_attention(model: PreTrainedModel) -> bool:
    """Whether a model has full causal attention in all layers, by `sdpa`.

    Sliding windows and the like are part of the mask, which `packed_attention` does not use.
    """
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    plain = set(layers) == {"full_attention"} and not getattr(config, "sliding_window", None)
    return plain and config._attn_implementation == "sdpa"


def use_packed_attention(model: PreTrainedModel) -> bool:
    """Switch a model to `packed_attention` if it supports it.

    Returns:
        Whether the model was switched.
    """
    if not takes_packed_attention(model):
        return False
    model.set_attn_implementation(PACKED)
    return bool(model.config.get_text_config()._attn_implementation == PACKED)


def restore_attention(model: PreTrainedModel) -> None:
    """Undo `use_packed_attention`, so that the model works without `example_lengths` again."""
    model.set_attn_implementation("sdpa")


@contextmanager
def attending(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Make a model use a registered attention function within the block."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
