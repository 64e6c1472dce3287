"""Greedy decoding batch by batch, padded on the left, with the cache that transformers makes.

It is for every model that transformers knows: with sliding windows, with recurrent states.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

# Dropping rows copies the cache, so it waits until a quarter of them has ended.
_LIVE_SHARE = 0.75


def decode_padded(
    prompts: Sequence[Sequence[int]],
    *,
    model: PreTrainedModel,
    stops: frozenset[int],
    max_new_tokens: int,
    batch_size: int,
    ended: Callable[[int, list[int]], None],
) -> None:
    """Write the answer of each prompt, dropping rows that have ended.

    The arguments are those of `decode_greedily`.
    """
    for start in range(0, len(prompts), batch_size):

        def ended_here(row: int, answer: list[int], first: int = start) -> None:
            ended(first + row, answer)

        _decode_batch(
            prompts[start : start + batch_size],
            model=model,
            stops=stops,
            max_new_tokens=max_new_tokens,
            ended=ended_here,
        )


@torch.inference_mode()
def _decode_batch(
    prompts: Sequence[Sequence[int]],
    *,
    model: PreTrainedModel,
    stops: frozenset[int],
    max_new_tokens: int,
    ended: Callable[[int, list[int]], None],
) -> None:
    """Decode prompts side by side."""
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


def cache_argument(part: Any) -> str:
    """Return what a model calls the argument for its cache: transformers renamed it in 5.24."""
    return "cache" if "cache" in inspect.signature(part.forward).parameters else "past_key_values"
