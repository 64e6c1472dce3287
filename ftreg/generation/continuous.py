"""Greedy decoding of a batch that stays full: where an answer ends, the next prompt begins.

Every forward pass of the loop is one token of each live row. A prompt is read beforehand, all but
its last token, so that a new row is nothing special in the loop, and the head is computed only
where a token is chosen. On a CPU prompts are read one by one: a prompt has enough tokens to keep
the cores busy, and alone it needs no padding and computes the same in every batch.
"""

import inspect
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ftreg.generation.packed_linear import packed_linears
from ftreg.generation.slot_attention import slot_attentions
from ftreg.generation.slots import SlotCache

# On an accelerator prompts are read together, once so large a share of the slots is free.
_READ_TOGETHER = 0.25


def can_decode_continuously(model: PreTrainedModel) -> bool:
    """Whether every layer of a model attends to all that came before, and positions can be told.

    Sliding windows, states of recurrent layers and positions taken from the cache's columns want
    the cache that transformers makes for them.
    """
    if model.config.is_encoder_decoder:
        return False
    layers = DynamicCache(config=model.config).layers
    plain = bool(layers) and all(type(layer) is DynamicLayer for layer in layers)
    taken = inspect.signature(model.base_model.forward).parameters
    return plain and "position_ids" in taken and "attention_mask" in taken


def cache_argument(part: Any) -> str:
    """Return what a model calls the argument for its cache: transformers renamed it in 5.24."""
    return "cache" if "cache" in inspect.signature(part.forward).parameters else "past_key_values"


@torch.inference_mode()
def decode_continuously(
    prompts: Sequence[Sequence[int]],
    *,
    model: PreTrainedModel,
    stops: frozenset[int],
    max_new_tokens: int,
    batch_size: int,
    ended: Callable[[int, list[int]], None],
    together: int | None = None,
) -> None:
    """Write the answer of each prompt; see `decode_greedily` for the arguments.

    Args:
        prompts: begun in this order.
        model: one that `can_decode_continuously`.
        stops: tokens that end an answer.
        max_new_tokens: most tokens of an answer, at least 1.
        batch_size: most rows at a time.
        ended: is given a prompt's index and its new tokens, as soon as they are complete.
        together: prompts to read at a time, once as many slots are free; None leaves it to the
            device.
    """
    slots = min(batch_size, len(prompts))
    if together is None:
        together = 1 if model.device.type == "cpu" else int(slots * _READ_TOGETHER)
    together = min(max(together, 1), slots)
    with packed_linears(model), slot_attentions(model):
        _Decoding(prompts, model, stops, max_new_tokens, slots, ended, together).run()


class _Decoding:
    """The state of `decode_continuously`; `_rows` and `_tokens` are in the order of slots."""

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        model: PreTrainedModel,
        stops: frozenset[int],
        max_new_tokens: int,
        slots: int,
        ended: Callable[[int, list[int]], None],
        together: int,
    ) -> None:
        self._prompts = prompts
        self._model = model
        self._stops = stops
        self._most = max_new_tokens
        self._ended = ended
        self._waiting = deque(range(len(prompts)))
        self._rows: list[int] = []
        self._tokens: list[int] = []
        self._written: dict[int, list[int]] = {}
        self._together = together
        self._slots = slots
        longest = max(map(len, prompts), default=0)
        self._cache = SlotCache(
            len(DynamicCache(config=model.config).layers),
            slots=slots,
            columns=longest + max_new_tokens,
        )

    def run(self) -> None:
        """Decode until nothing waits and nothing lives."""
        while self._waiting or self._rows:
            free = self._slots - len(self._rows)
            while self._waiting and free >= self._together:
                count = min(self._together, len(self._waiting))
                self._read([self._waiting.popleft() for _ in range(count)])
                free -= count
            self._step()

    def _read(self, rows: list[int]) -> None:
        """Put prompts into free slots, with the keys and values of all but their last tokens."""
        known = [self._prompts[row][:-1] for row in rows]
        width = max(1, *map(len, known))
        tokens = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for index, ids in enumerate(known):
            tokens[index, : len(ids)] = torch.tensor(ids, dtype=torch.long)
            mask[index, : max(len(ids), 1)] = 1
        device = self._model.device
        cache = DynamicCache(config=self._model.config)
        self._forward(
            self._model.base_model,
            cache,
            input_ids=tokens.to(device),
            attention_mask=mask.to(device),
            position_ids=torch.arange(width, device=device).expand(len(rows), -1),
        )
        self._cache.admit(cache, [len(ids) for ids in known])
        for row in rows:
            self._rows.append(row)
            self._tokens.append(self._prompts[row][-1])
            self._written[row] = []

    def _step(self) -> None:
        """Write one token to each live row, and free the slots of those that have ended."""
        device = self._model.device
        lengths = torch.tensor(
            [len(self._prompts[row]) - 1 + len(self._written[row]) for row in self._rows],
            device=device,
        )
        logits = self._forward(
            self._model,
            self._cache,
            input_ids=torch.tensor(self._tokens, device=device)[:, None],
            attention_mask=self._cache.advance(lengths).long(),
            position_ids=lengths[:, None],
        ).logits
        # In bf16 the kernel goes number by number; as fp32 the same numbers take a fifth of it.
        self._tokens = logits[:, -1].float().argmax(-1).tolist()
        # From the last slot on: the row that moves into a freed slot has been looked at.
        for slot in reversed(range(len(self._rows))):
            answer = self._written[self._rows[slot]]
            answer.append(self._tokens[slot])
            if self._tokens[slot] in self._stops or len(answer) == self._most:
                self._free(slot)

    def _free(self, slot: int) -> None:
        row = self._rows[slot]
        self._cache.drop(slot)
        for listed in (self._rows, self._tokens):
            listed[slot] = listed[-1]
            listed.pop()
        self._ended(row, self._written.pop(row))

    def _forward(self, part: Any, cache: Any, **inputs: torch.Tensor) -> Any:
        return part(**inputs, **{cache_argument(part): cache}, use_cache=True)
