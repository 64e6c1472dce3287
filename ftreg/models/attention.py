"""Attention over packed examples, each by itself.

With a block-diagonal mask the kernel computes every pair of tokens of a row and throws most of them
away. On a CPU it is cheaper to compute each example on its own tokens: short ones in bf16 by plain
products (`short_attention`), others by a call of the kernel each. An accelerator is told the
examples' lengths (`attention_by_length`). Which of the two it is, `told_lengths` decides.
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
        query: (1, heads, tokens, width); `key` and `value` alike, with their own heads.
        key: see `query`.
        value: see `query`.
        attention_mask: None; the causal mask of each example is implied.
        example_lengths: tokens of each example in the row, in order; or a layout, for the kernels
            of accelerators.
        shared_prefix: so many tokens begin every example, and are in the row once, with the first.
        scaling: of the scores; None for one over the root of the width.
        dropout: of the attention weights.
        **settings: passed on to torch's kernel, where it is called.

    Returns:
        (1, tokens, heads, width), and None in the place of the attention weights.
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
    for of_kind in pieces[1:] if shared_prefix else ():  # every query sees the shared keys, values
        prefix = of_kind[0][:, :, :shared_prefix]
        of_kind[1:] = [torch.cat([prefix, rest], dim=2) for rest in of_kind[1:]]
    outputs = [
        short_attention(*parts, spans=[Span.whole(*parts[:2])], scaling=scaling)
        if short and parts[1].shape[2] <= LONGEST_EXAMPLE
        else _by_kernel(module, *parts, scaling=scaling, dropout=dropout, **settings)
        for parts in zip(*pieces, strict=True)
    ]
    output = torch.cat(outputs, dim=1)
    # Where FSDP has made the weights bf16, what follows takes nothing else; autocast casts itself.
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
    """Attention of an example's last tokens (1, heads, n, width) to all of its tokens, in fp32."""
    missing = key.shape[2] - query.shape[2]
    with torch.autocast(query.device.type, enabled=False):
        # The kernel's causal mask begins at the first token; what it computes for it is dropped.
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
    """Whether attention on a device takes rows that have once what all examples begin with."""
    return device.type == "cpu"


def told_lengths(
    lengths: Sequence[int], *, shared_prefix: int, device: torch.device
) -> dict[str, Any]:
    """Return the arguments by which a model that was switched is told of a row's examples.

    Here is chosen how a kind of device attends.

    Args:
        lengths: tokens of each example, in order.
        shared_prefix: so many tokens begin all of them, and are in the row once; 0 but where
            `shares_prefixes`.
        device: that the model is on.
    """
    if device.type == "cpu":
        return {"example_lengths": lengths, "shared_prefix": shared_prefix}
    return {"example_lengths": RowLayout.of(lengths, device)}


def takes_packed_attention(model: PreTrainedModel) -> bool:
    """Whether a model attends to everything before a token, by `sdpa`.

    Sliding windows and the like live in the mask that `packed_attention` does without.
    """
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    plain = set(layers) == {"full_attention"} and not getattr(config, "sliding_window", None)
    return plain and config._attn_implementation == "sdpa"


def use_packed_attention(model: PreTrainedModel) -> bool:
    """Switch a model to `packed_attention`, if it takes it; else it keeps its own.

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
    """Have a model attend by a registered function within the block."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
