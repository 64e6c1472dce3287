"""Prefill: the keys and values of prompts, all but their last tokens, before answers begin.

On a CPU prompts are read in long rows, one behind the other, each by its own attention: so there is
no padding, and a pass has enough tokens to keep the cores busy. What all prompts of a row begin
with is read once, but not in fp32, whose outputs are promised not to depend on other prompts. A
model that does not take such rows reads its prompts one by one there. On an accelerator they are
read together, padded.
"""

import inspect
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from ftreg.models.attention import PACKED, attending, takes_packed_attention

# Tokens of a row of prompts, unless a prompt alone has more.
_ROW = 1024
# On an accelerator prompts are read once so large a share of the slots is free.
_READ_TOGETHER = 0.25


@dataclass(frozen=True, slots=True)
class Prefilled:
    """Where a prompt's keys and values are."""

    prompt: int
    """Its index."""
    cache: DynamicCache
    row: int
    """The row of the cache."""
    columns: tuple[slice, ...]
    """Where the tokens are in that row, in order."""


class Prefill:
    """Reads prompts in order, as slots become free for them.

    Args:
        prompts: token ids; none empty.
        model: a causal language model in evaluation mode, before its attention is switched.
        slots: most rows that are decoded at a time.
        together: prompts to read at a time, padded, once as many slots are free; None leaves it to
            the device.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        model: PreTrainedModel,
        slots: int,
        together: int | None = None,
    ) -> None:
        self._known = [list(prompt[:-1]) for prompt in prompts]
        self._model = model
        self._waiting = deque(range(len(prompts)))
        self._ready: deque[Prefilled] = deque()
        self._in_rows = together is None and model.device.type == "cpu" and _takes_rows(model)
        if together is None:
            together = 1 if model.device.type == "cpu" else int(slots * _READ_TOGETHER)
        self._together = min(max(together, 1), slots)

    @property
    def left(self) -> bool:
        """Whether there are prompts that `take` has not given out."""
        return bool(self._waiting or self._ready)

    def take(self, free: int) -> list[Prefilled]:
        """Return prompts for free slots, at most as many; fewer where reading more has to wait."""
        taken: list[Prefilled] = []
        while len(taken) < free:
            if not self._ready:
                rows = self._next(free - len(taken))
                if not rows:
                    break
                self._ready.extend(self._read_row(rows) if self._in_rows else self._read(rows))
            taken.append(self._ready.popleft())
        return taken

    def _next(self, free: int) -> list[int]:
        """Choose the prompts to read now."""
        if not self._in_rows:
            count = min(self._together, len(self._waiting)) if free >= self._together else 0
        else:
            sizes = itertools.accumulate(len(self._known[row]) for row in self._waiting)
            fitting = sum(1 for _ in itertools.takewhile(lambda size: size <= _ROW, sizes))
            count = min(max(fitting, 1), len(self._waiting))
        return [self._waiting.popleft() for _ in range(count)]

    def _read(self, rows: list[int]) -> list[Prefilled]:
        """Read prompts side by side."""
        known = [self._known[row] for row in rows]
        width = max(1, *map(len, known))
        tokens = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for index, ids in enumerate(known):
            tokens[index, : len(ids)] = torch.tensor(ids, dtype=torch.long)
            mask[index, : max(len(ids), 1)] = 1
        device = self._model.device
        cache = self._forward(
            input_ids=tokens.to(device),
            attention_mask=mask.to(device),
            position_ids=torch.arange(width, device=device).expand(len(rows), -1),
        )
        return [
            Prefilled(row, cache, index, (slice(0, len(ids)),))
            for index, (row, ids) in enumerate(zip(rows, known, strict=True))
        ]

    def _read_row(self, rows: list[int]) -> list[Prefilled]:
        """Read prompts one behind the other."""
        # One of a single token has nothing to read; a pass needs a token.
        known = [self._known[row] for row in rows if self._known[row]] or [[0]]
        shared = _common_prefix(known) if _shares(self._model) and len(known) > 1 else 0
        tokens = [*known[0], *itertools.chain.from_iterable(ids[shared:] for ids in known[1:])]
        places = [*range(len(known[0]))]
        for ids in known[1:]:
            places += range(shared, len(ids))
        with attending(self._model, PACKED):
            cache = self._forward(
                input_ids=torch.tensor([tokens]),
                position_ids=torch.tensor([places]),
                example_lengths=[len(ids) for ids in known],
                shared_prefix=shared,
            )
        found = []
        end = 0
        for row in rows:
            size = len(self._known[row])
            begun = (slice(0, shared),) if end and size else ()
            rest = slice(end, end + size - shared) if begun else slice(0, size)
            end = max(end, rest.stop)
            found.append(Prefilled(row, cache, 0, (*begun, rest)))
        return found

    def _forward(self, **inputs: Any) -> DynamicCache:
        cache = DynamicCache(config=self._model.config)
        part = self._model.base_model
        part(**inputs, **{cache_argument(part): cache}, use_cache=True)
        return cache


def _takes_rows(model: PreTrainedModel) -> bool:
    """Whether a model takes `packed_attention`, and hands its arguments through to it."""
    taken = inspect.signature(model.base_model.forward).parameters.values()
    through = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken)
    return through and takes_packed_attention(model)


def _shares(model: PreTrainedModel) -> bool:
    """Whether to read once what prompts begin with.

    The last bits of a prefix depend on how long the prompt is that it is read with.
    """
    return model.dtype is not torch.float32


def _common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Count the tokens that all prompts begin with, but leave each at least one of its own."""
    alike = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return min(sum(1 for _ in alike), min(map(len, prompts)) - 1)


def cache_argument(part: Any) -> str:
    """Return what a model calls the argument for its cache: transformers renamed it in 5.24."""
    return "cache" if "cache" in inspect.signature(part.forward).parameters else "past_key_values"
