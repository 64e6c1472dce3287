"""Causal attention over packed examples on an accelerator, which is told where each begins.

A block-diagonal mask has the kernel compute every pair of tokens of a row, and a call for each
example waits for a launch. torch's `varlen_attn` takes the examples' ends instead. It computes in
16 bits, on CUDA alone; elsewhere examples of like length are attended to side by side, padded.
Neither adds up in an order that depends on timing.
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
# What a product in bf16 may be off by, as a share of the largest value.
_ROUNDED = 0.03


@dataclass(frozen=True, slots=True)
class _Block:
    """Neighbouring examples that are padded to one length; indices count within the block.

    `padded` (rows * longest) has the token at each place, any at a place that is padding; `places`
    (tokens) where each token is; `real` (rows * longest, 1, 1) is 0 at padding.
    """

    tokens: slice
    rows: int
    padded: torch.Tensor
    places: torch.Tensor
    real: torch.Tensor


@dataclass(frozen=True)
class RowLayout:
    """Where the examples of a row lie, as kernels on a device want to be told.

    Made once for a row, so that its layers share what is copied to the device. `ends`
    (examples + 1,) are the tokens before each example and in all, int32.
    """

    lengths: tuple[int, ...]
    ends: torch.Tensor

    @functools.cached_property
    def blocks(self) -> tuple[_Block, ...]:
        """The row by examples of like length; made when padding first asks for it."""
        return tuple(_blocks(self.lengths, self.ends.device))

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "RowLayout":
        """Return the layout of examples with these numbers of tokens, end to end."""
        ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
        return cls(tuple(lengths), sent(ends, device))


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the CPU on a device, without waiting for what the device is at.

    CUDA copies behind what is queued only from memory that is pinned.
    """
    if device.type == "cuda" and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _blocks(lengths: Sequence[int], device: torch.device) -> Iterator[_Block]:
    """Cut a row so that at most half of a block is padding; the longest first make few blocks."""
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
    """Rows of a tensor by an index, whose gradient is taken by another one, and adds up nothing.

    Autograd's own would add to rows in whatever order threads come to it. `real` is 0 where a row
    of the gradient stands for none of the output's.
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
        scaling: of the scores; None for one over the root of the width.
        dropout: of the attention weights.

    Returns:
        (1, tokens, heads, width), in the type of autocast where it is on, else of the query.
    """
    kind = query.device.type
    autocast = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if autocast else query.dtype
    with torch.autocast(kind, enabled=False):
        # Token by token, as the kernel and the padding want them.
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
    attend: Any = varlen_attn  # which keywords it has, depends on torch
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
    """Allow heads that share keys; torch before 2.12 does so without being asked."""
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
    """Attend by padding; all are (tokens, heads, width)."""
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
    """Attend in a block (tokens, heads, width): no real token sees padding, which is behind it."""

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
    """Whether `varlen_attn` is here, takes such heads, and is right in a pass and its gradient."""
    if device.type != "cuda" or dtype not in _HALF:
        return False
    return _varlen_is_right(heads, groups, width, dtype, device)


@functools.cache
def _varlen_is_right(
    heads: int, groups: int, width: int, dtype: torch.dtype, device: torch.device
) -> bool:
    """Hold the kernel against padded attention, once for each shape of heads."""
    with torch.enable_grad():
        layout = RowLayout.of((7, 5, 1), device)
        state = torch.Generator().manual_seed(0)
        parts = [
            torch.randn((13, count, width), generator=state).to(device, dtype).requires_grad_()
            for count in (heads, groups, groups)
        ]
        try:
            found = _output_and_gradients(_by_ends(*parts, layout=layout, scaling=None), parts)
        except Exception:  # no build of it, no such width, an older GPU: torch says it in many ways
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
