"""A cache of keys and values in which every row has a slot of its own, written in place.

The cache of transformers copies itself, in every layer, for every token. Here a row's keys and
values lie at the start of its slot, in the order of its tokens, so a new token is written behind
them and nothing else moves; and a row may come or go while the others are in mid-answer.
"""

import weakref
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

# Columns are read in whole blocks, so that kernels see few shapes.
_BLOCK = 64


class SlotCache(Cache):  # type: ignore[misc]
    """Keys and values of up to `slots` rows; the first `live` of them are in use.

    Before each pass of one token per row, call `advance`, which says where the tokens go.

    Args:
        layers: layers of the model.
        slots: most rows.
        columns: most tokens of a row, its prompt included.
        fp32_keys: keep keys in fp32, whatever the model computes in, and keys and values by head,
            as products want them: for `slot_attention` in bf16.
    """

    def __init__(self, layers: int, *, slots: int, columns: int, fp32_keys: bool = False) -> None:
        super().__init__(layers=[])
        self.fp32_keys = fp32_keys
        self.columns = whole_blocks(columns + 1)
        self.slots = slots
        self.live = 0
        self.span = 0
        self.target: tuple[torch.Tensor, torch.Tensor] = (torch.empty(0), torch.empty(0))
        self.layers: list[SlotLayer] = [SlotLayer(self) for _ in range(layers)]

    def advance(self, lengths: torch.Tensor) -> torch.Tensor:
        """Prepare for one more token per live row.

        Args:
            lengths: (live,), the tokens that each row has so far.

        Returns:
            The attention mask, (live, span): what each row has, and the token to come.
        """
        # One column is always left over: attention takes another kernel where nothing is masked,
        # and a row's bits should not depend on whether its neighbours are as long as it is.
        self.span = whole_blocks(int(lengths.max()) + 2)
        slots = torch.arange(self.live, device=lengths.device)
        self.target = (slots, lengths)
        return torch.arange(self.span, device=lengths.device) <= lengths[:, None]

    def admit(self, prompts: DynamicCache, row: int, columns: Sequence[slice]) -> None:
        """Give a prompt the next free slot.

        Args:
            prompts: keys and values of one prompt or more.
            row: the row of them that the prompt lies in.
            columns: where its tokens lie in that row, in order.
        """
        for layer, filled in zip(self.layers, prompts.layers, strict=True):
            layer.admit(filled, row, columns)
        self.live += 1

    def drop(self, slot: int) -> None:
        """Free a slot; the last live row moves into it."""
        self.live -= 1
        if slot != self.live:
            for layer in self.layers:
                layer.move(self.live, slot)


def whole_blocks(columns: int) -> int:
    """Return the columns of whole blocks that hold so many."""
    return -(-columns // _BLOCK) * _BLOCK


class SlotLayer(DynamicLayer):  # type: ignore[misc]
    """One layer of a `SlotCache`; keys and values are each (slots, columns, heads, width)."""

    is_croppable = False
    keys: torch.Tensor | None
    values: torch.Tensor | None

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        # In a circle all keys and values would wait for the garbage collector, which counts objects
        # and not their bytes: several caches of gigabytes could lie there at once.
        self._cache = cast(SlotCache, weakref.proxy(cache))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a token's (live, heads, 1, width), and return what attention is to see."""
        return self._written(self.keys, key_states), self._written(self.values, value_states)

    def _written(self, stored: Any, states: torch.Tensor) -> torch.Tensor:
        stored.index_put_(self._cache.target, states[:, :, 0].to(stored.dtype))
        seen: torch.Tensor = stored[: self._cache.live, : self._cache.span].transpose(1, 2)
        return seen

    def admit(self, filled: DynamicLayer, row: int, columns: Sequence[slice]) -> None:
        """See `SlotCache.admit`."""
        if self.keys is None or self.values is None:
            self.keys, self.values = self._empty(filled.keys), self._empty(filled.values)
            if self._cache.fp32_keys:
                keys = self.keys.float().permute(0, 2, 3, 1)
                self.keys = keys.contiguous().permute(0, 3, 1, 2)
                self.values = self.values.transpose(1, 2).contiguous().transpose(1, 2)
            self.is_initialized = True
        for stored, states in ((self.keys, filled.keys), (self.values, filled.values)):
            start = 0
            for part in columns:
                end = start + part.stop - part.start
                place = stored[self._cache.live, start:end]
                place.copy_(states[row, :, part].transpose(0, 1))
                start = end

    def _empty(self, states: torch.Tensor) -> torch.Tensor:
        _, heads, _, width = states.shape
        # Zeros: masked columns weigh nothing, but nothing times not-a-number is not a number.
        return states.new_zeros(self._cache.slots, self._cache.columns, heads, width)

    def move(self, source: int, target: int) -> None:
        """Copy a row into another slot."""
        for stored in (self.keys, self.values):
            if stored is not None:
                stored[target, : self._cache.span].copy_(stored[source, : self._cache.span])

    def get_seq_length(self) -> int:
        """Return the columns before the token to come, of the longest row."""
        return max(self._cache.span - 1, 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the columns that attention sees, and the first of them."""
        return self._cache.span, 0
