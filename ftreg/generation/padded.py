"""Greedy decoding batch by batch, padded on the left, by transformers' own `generate()`.

It is for every model that transformers knows: with sliding windows, with recurrent states.
"""

from collections.abc import Callable, Sequence

import torch
from transformers import GenerationConfig, PreTrainedModel


@torch.inference_mode()
def decode_padded(
    prompts: Sequence[Sequence[int]],
    *,
    model: PreTrainedModel,
    stops: frozenset[int],
    max_new_tokens: int,
    batch_size: int,
    ended: Callable[[int, list[int]], None],
) -> None:
    """Write the answer of each prompt; the arguments are those of `decode_continuously`."""
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(stops),
        pad_token_id=min(stops),
    )
    # `generate()` fills what is not set from here: sampling settings that lie beside the weights.
    beside, model.generation_config = model.generation_config, GenerationConfig()
    try:
        for start in range(0, len(prompts), batch_size):
            tokens, mask = _left_padded(prompts[start : start + batch_size], device=model.device)
            written = model.generate(
                input_ids=tokens, attention_mask=mask, generation_config=settings
            )
            for row, answer in enumerate(written[:, tokens.shape[1] :].tolist(), start=start):
                ends = (place for place, token in enumerate(answer, start=1) if token in stops)
                ended(row, answer[: next(ends, len(answer))])
    finally:
        model.generation_config = beside


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
