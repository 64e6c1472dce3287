"""Greedy decoding by transformers' own `generate()`: in batches padded on the left, and alone.

It supports every model that transformers supports, including sliding windows and recurrent states.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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
    with _greedy(model, stops=stops, max_new_tokens=max_new_tokens) as generate:
        for start in range(0, len(prompts), batch_size):
            tokens, mask = _left_padded(prompts[start : start + batch_size], device=model.device)
            written = generate(input_ids=tokens, attention_mask=mask)
            for row, answer in enumerate(written[:, tokens.shape[1] :].tolist(), start=start):
                ended(row, until_stop(answer, stops))


@torch.inference_mode()
def generate_alone(
    prompt: Sequence[int], *, model: PreTrainedModel, stops: frozenset[int], max_new_tokens: int
) -> tuple[list[int], torch.Tensor]:
    """Return what `generate()` writes for one prompt, and the logits of each of its tokens.

    Returns:
        The new tokens, up to and including a stop token; fp32 logits, (tokens, vocabulary).
    """
    shown = {"output_logits": True, "return_dict_in_generate": True}
    with _greedy(model, stops=stops, max_new_tokens=max_new_tokens, **shown) as generate:
        tokens, mask = _left_padded([prompt], device=model.device)
        written = generate(input_ids=tokens, attention_mask=mask)
    answer: list[int] = written.sequences[0, len(prompt) :].tolist()
    return answer, torch.cat(written.logits).float()


def until_stop(tokens: list[int], stops: frozenset[int]) -> list[int]:
    """Return an answer up to and including the first stop token."""
    ends = (place for place, token in enumerate(tokens, start=1) if token in stops)
    return tokens[: next(ends, len(tokens))]


@contextlib.contextmanager
def _greedy(
    model: PreTrainedModel, *, stops: frozenset[int], max_new_tokens: int, **others: bool
) -> Iterator[Callable[..., Any]]:
    """Yield a model's `generate()` with greedy settings and no others."""
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(stops) or None,
        pad_token_id=min(stops, default=0),
        **others,
    )
    # `generate()` fills what is not set from here: sampling settings that lie beside the weights.
    beside, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield lambda **inputs: model.generate(generation_config=settings, **inputs)
    finally:
        model.generation_config = beside


def _left_padded(
    prompts: Sequence[Sequence[int]], *, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both (prompts, longest); masked positions have token 0."""
    width = max(map(len, prompts))
    tokens = torch.zeros((len(prompts), width), dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return tokens.to(device), mask.to(device)
