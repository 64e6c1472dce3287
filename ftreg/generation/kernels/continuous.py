"""Greedy decoding of a batch that stays full: where an answer ends, the next prompt begins.

Every forward pass of the loop is one token of each live row. A prompt is read beforehand, all but
its last token (`ftreg.generation.kernels.prefill`), so that a new row is nothing special in the
loop, and the head is computed only where a token is chosen.
"""

import inspect
from collections.abc import Callable, Sequence

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ftreg.generation.kernels.packed_linear import packed_linears
from ftreg.generation.kernels.prefill import Prefill, cache_argument
from ftreg.generation.kernels.slot_attention import slot_attentions, wants_fp32_keys
from ftreg.generation.kernels.slots import SlotCache


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
    """Write the new tokens of each prompt, up to and including its end token.

    Args:
        prompts: token ids, none empty; begun in this order, so that prompts of like length
            should be neighbours.
        model: one that `can_decode_continuously`.
        stops: tokens that end an answer.
        max_new_tokens: most tokens of an answer, at least 1.
        batch_size: most rows at a time.
        ended: is given a prompt's index and its new tokens as soon as they are complete, each once,
            in any order.
        together: prompts to read at a time, once as many slots are free; None leaves it to the
            device.
    """
    slots = min(batch_size, len(prompts))
    prefill = Prefill(prompts, model=model, slots=slots, together=together)
    with packed_linears(model), slot_attentions(model):
        _Decoding(prompts, model, stops, max_new_tokens, slots, ended, prefill).run()


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
        prefill: Prefill,
    ) -> None:
        self._prompts = prompts
        self._model = model
        self._stops = stops
        self._most = max_new_tokens
        self._ended = ended
        self._prefill = prefill
        self._rows: list[int] = []
        self._tokens: list[int] = []
        self._written: dict[int, list[int]] = {}
        self._slots = slots
        longest = max(map(len, prompts), default=0)
        self._cache = SlotCache(
            len(DynamicCache(config=model.config).layers),
            slots=slots,
            columns=longest + max_new_tokens,
            fp32_keys=wants_fp32_keys(model),
        )
        self._with_cache = {cache_argument(model): self._cache}

    def run(self) -> None:
        """Decode until nothing waits and nothing lives."""
        while self._prefill.left or self._rows:
            for read in self._prefill.take(self._slots - len(self._rows)):
                self._cache.admit(read.cache, read.row, read.columns)
                self._rows.append(read.prompt)
                self._tokens.append(self._prompts[read.prompt][-1])
                self._written[read.prompt] = []
            self._step()

    def _step(self) -> None:
        """Write one token to each live row, and free the slots of those that have ended."""
        device = self._model.device
        lengths = torch.tensor(
            [len(self._prompts[row]) - 1 + len(self._written[row]) for row in self._rows],
            device=device,
        )
        logits = self._model(
            input_ids=torch.tensor(self._tokens, device=device)[:, None],
            attention_mask=self._cache.advance(lengths).long(),
            position_ids=lengths[:, None],
            use_cache=True,
            **self._with_cache,
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
