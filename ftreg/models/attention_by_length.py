"""Causal attention over packed examples on an accelerator, given where each starts.

With a block-diagonal mask the kernel computes every pair of tokens in a row, and one call per
example pays for a launch each. torch's `varlen_attn` takes the examples' boundaries instead, but
only in 16 bits on CUDA; elsewhere examples of similar length are padded and batched. Both are
deterministic: neither sums in an order that depends on timing.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

_HALF = (torch.bfloat16, torch.float16)
# Tolerance for a product in bf16, as a share of the largest value.
_ROUNDED = 0.03


@dataclass(frozen=True, slots=True)
class _Block:
    """Neighbouring examples padded to one length; indices count within the block.

    `padded` (rows * longest) is the token at each padded position, arbitrary at padding; `places`
    (tokens) is the padded position of each token; `real` (rows * longest, 1, 1) is 0 at padding.
    """

    tokens: slice
    rows: int
    padded: torch.Tensor
    places: torch.Tensor
    real: torch.Tensor


@dataclass(frozen=True)
class RowLayout:
    """The boundaries of a row's examples, in the form that kernels on a device take.

    Made once per row, so that all layers share the copy on the device. `ends` (examples + 1,) is
    the cumulative number of tokens, from 0, in int32.
    """

    lengths: tuple[int, ...]
    ends: torch.Tensor

    @functools.cached_property
    def blocks(self) -> tuple[_Block, ...]:
        """The row in blocks of examples of similar length, made on first use."""
        return tuple(_blocks(self.lengths, self.ends.device))

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "RowLayout":
        """Return the layout of examples of these lengths in tokens, packed end to end."""
        ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
        return cls(tuple(lengths), sent(ends, device))


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a CPU tensor to a device without waiting for work queued there.

    CUDA copies asynchronously only from pinned memory.
    """
    if device.type == "cuda" and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _blocks(lengths: Sequence[int], device: torch.device) -> Iterator[_Block]:
    """Split a row so that at most half of a block is padding; longest first makes few blocks."""
    start, alike = 0, list(lengths[:1])
    for length in lengths[1:]:
        if not alike[0] // 2 <= length <= alike[0]:
            yield _block(alike, start, device)
            start, alike = start + sum(alike), []
        alike.append(length)
    yield _block(alike, start, device)


def _block(lengths: Sequence[int], start: int, device: torch.device) -> _Block:
    of_row = torch.tensor(lengths)[:, None]
    columns = torch.arange(max(lengths))
    begins = of_row.cumsum(0) - of_row
    real = columns < of_row
    padded = torch.where(real, begins + columns, 0).flatten()
    places = real.flatten().nonzero().flatten()
    return _Block(
        slice(start, start + sum(lengths)),
        len(lengths),
        sent(padded, device),
        sent(places, device),
        sent(real.view(-1, 1, 1), device),
    )


class _Moved(torch.autograd.Function):
    """Select rows by an index; the gradient selects by the inverse index, without summing.

    Autograd's own gradient would sum rows in an order that depends on threads. `real` is 0 at rows
    of the gradient that belong to padding.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        index: torch.Tensor,
        inverse: torch.Tensor,
        real: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(inverse, *(() if real is None else (real,)))
        return rows.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor, None, None, None]:
        inverse, *real = ctx.saved_tensors
        found = gradients[0].index_select(0, inverse)
        return found * real[0] if real else found, None, None, None


def attention_by_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    layout: RowLayout,
    scaling: float | None,
    dropout: float,
) -> torch.Tensor:
    """Causal attention within each example of a row.

    Args:
        query: (1, heads, tokens, width).
        key: (1, groups, tokens, width), where `groups` divides `heads`.
        value: see `key`.
        layout: of the row, on the tensors' device.
        scaling: scale of the scores; None for 1/sqrt(width).
        dropout: of the attention weights.

    Returns:
        (1, tokens, heads, width), in autocast's dtype if it is on, else in the query's.
    """
    kind = query.device.type
    autocast = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if autocast else query.dtype
    with torch.autocast(kind, enabled=False):
        # By token, as the kernel and the padding expect them.
        parts = [part[0].transpose(0, 1).to(dtype) for part in (query, key, value)]
        shape = (query.shape[1], key.shape[1], query.shape[3])
        if not dropout and takes_lengths(*shape, dtype=dtype, device=query.device):
            return _by_ends(*parts, layout=layout, scaling=scaling)[None]
        return _in_blocks(*parts, layout=layout, scaling=scaling, dropout=dropout)[None]


def _by_ends(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    layout: RowLayout,
    scaling: float | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    longest = max(layout.lengths)
    attend: Any = varlen_attn  # its keywords depend on the version of torch
    output: torch.Tensor = attend(
        query.contiguous(),
        key.contiguous(),
        value.contiguous(),
        layout.ends,
        layout.ends,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0),
        **_shared_heads(attend),
    )
    return output


@functools.cache
def _shared_heads(attend: Callable[..., Any]) -> dict[str, bool]:
    """Allow grouped-query attention; torch before 2.12 always does, and has no such keyword."""
    return {"enable_gqa": True} if "enable_gqa" in inspect.signature(attend).parameters else {}


def _in_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    layout: RowLayout,
    scaling: float | None,
    dropout: float,
) -> torch.Tensor:
    """Attend with padding; all tensors are (tokens, heads, width)."""
    pieces = [
        _side_by_side(query[own], key[own], value[own], block, scaling, dropout)
        for block in layout.blocks
        for own in [block.tokens]
    ]
    return torch.cat(pieces)


def _side_by_side(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    block: _Block,
    scaling: float | None,
    dropout: float,
) -> torch.Tensor:
    """Attend in a block (tokens, heads, width); padding comes last, so no real token sees it."""

    def apart(part: torch.Tensor) -> torch.Tensor:
        moved: torch.Tensor = _Moved.apply(  # type: ignore[no-untyped-call]
            part, block.padded, block.places, None
        )
        return moved.view(block.rows, -1, *part.shape[1:]).transpose(1, 2)

    output = functional.scaled_dot_product_attention(
        apart(query),
        apart(key),
        apart(value),
        dropout_p=dropout,
        is_causal=True,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    together: torch.Tensor = _Moved.apply(  # type: ignore[no-untyped-call]
        output.transpose(1, 2).flatten(0, 1), block.places, block.padded, block.real
    )
    return together


def takes_lengths(
    heads: int, groups: int, width: int, *, dtype: torch.dtype, device: torch.device
) -> bool:
    """Whether `varlen_attn` exists, takes such heads, and is right both forward and backward."""
    if device.type != "cuda" or dtype not in _HALF:
        return False
    return _varlen_is_right(heads, groups, width, dtype, device)


@functools.cache
def _varlen_is_right(
    heads: int, groups: int, width: int, dtype: torch.dtype, device: torch.device
) -> bool:
    """Check the kernel against padded attention, once for each shape of heads."""
    with torch.enable_grad():
        layout = RowLayout.of((7, 5, 1), device)
        state = torch.Generator().manual_seed(0)
        parts = [
            torch.randn((13, count, width), generator=state).to(device, dtype).requires_grad_()
            for count in (heads, groups, groups)
        ]
        try:
            found = _output_and_gradients(_by_ends(*parts, layout=layout, scaling=None), parts)
        except Exception:  # not built, unsupported width, older GPU: torch raises many types
            return False
        padded = _in_blocks(*parts, layout=layout, scaling=None, dropout=0.0)
        wanted = _output_and_gradients(padded, parts)
    return all(
        bool((one - other).abs().max() <= _ROUNDED * max(1.0, float(other.abs().max())))
        for one, other in zip(found, wanted, strict=True)
    )


def _output_and_gradients(
    output: torch.Tensor, parts: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    gradients = torch.autograd.grad(output.float().square().sum(), parts)
    return [part.detach().float() for part in (output, *gradients)]
