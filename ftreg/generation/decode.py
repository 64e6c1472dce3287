"""Greedy decoding of many prompts.

`generate()` of transformers carries a row to the end of its batch, long after it has ended; with
answers of unlike lengths most of its work is on such rows. It also takes sampling settings that lie
beside the weights for defaults. The tokens here are those of `generate(do_sample=False)`.

Most models decode continuously (`ftreg.generation.continuous`). The others, those with sliding
windows or recurrent states, keep the cache that transformers makes for them, and decode batch by
batch, dropping the rows which have ended.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from ftreg.generation.continuous import can_decode_continuously, decode_continuously
from ftreg.generation.prefill import cache_argument

# Dropping rows copies the cache, so it waits until a quarter of them has ended.
_LIVE_SHARE = 0.75


def decode_greedily(
    prompts: Sequence[Sequence[int]],
    *,
    model: PreTrainedModel,
    stops: frozenset[int],
    max_new_tokens: int,
    batch_size: int,
    ended: Callable[[int, list[int]], None],
) -> None:
    """Write the new tokens of each prompt, up to and including its end token.

    Args:
        prompts: token ids; none empty. They are begun in this order, so prompts of like length
            should be neighbours.
        model: a causal language model in evaluation mode.
        stops: tokens that end an answer.
        max_new_tokens: most tokens of an answer, at least 1.
        batch_size: most prompts at a time.
        ended: is given a prompt's index and its new tokens as soon as they are complete, each once,
            in any order.
    """
    settings: dict[str, Any] = {"model": model, "stops": stops, "max_new_tokens": max_new_tokens}
    if can_decode_continuously(model):
        decode_continuously(prompts, batch_size=batch_size, ended=ended, **settings)
        return
    for start in range(0, len(prompts), batch_size):

        def ended_here(row: int, answer: list[int], first: int = start) -> None:
            ended(first + row, answer)

        _decode_batch(prompts[start : start + batch_size], ended=ended_here, **settings)


@torch.inference_mode()
def _decode_batch(
    prompts: Sequence[Sequence[int]],
    *,
    model: PreTrainedModel,
    stops: frozenset[int],
    max_new_tokens: int,
    ended: Callable[[int, list[int]], None],
) -> None:
    """Decode prompts side by side; the arguments are those of `decode_greedily`."""
    tokens, mask = _left_padded(prompts, device=model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    with_cache = {cache_argument(model): cache}
    written: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    while True:
        logits = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            logits_to_keep=1,
            **with_cache,
        ).logits[:, -1]
        chosen = logits.argmax(-1)
        live = []
        for index, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            answer = written[row]
            if answer and answer[-1] in stops:
                continue
            answer.append(token)
            if token not in stops and len(answer) < max_new_tokens:
                live.append(index)
            else:
                ended(row, answer)
        if not live:
            return
        positions = positions[:, -1:] + 1
        if len(live) <= _LIVE_SHARE * len(rows):
            kept = torch.tensor(live, device=model.device)
            cache.batch_select_indices(kept)
            mask, positions, chosen = mask[kept], positions[kept], chosen[kept]
            rows = [rows[index] for index in live]
        tokens = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)


def _left_padded(
    prompts: Sequence[Sequence[int]], *, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both (prompts, longest); what is masked holds token 0."""
    width = max(map(len, prompts))
    tokens = torch.zeros((len(prompts), width), dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return tokens.to(device), mask.to(device)
