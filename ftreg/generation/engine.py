"""Greedy generation in process, with transformers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from ftreg.errors import UsageError
from ftreg.records import Output

Prompt = tuple[str, Sequence[int]]
"""An example's id, and the token ids of its prompt."""


def generate(
    prompts: Sequence[Prompt],
    *,
    model: PreTrainedModel,
    tokenizer: Any,
    max_new_tokens: int,
    batch_size: int,
    advance: Callable[[int], None] = lambda done: None,
) -> list[Output]:
    """Write an output for each prompt, always taking the likeliest token.

    Prompts are batched by length, padded on the left. In fp32 the outputs do not depend on the
    batch size; in bf16 they do, where two tokens are nearly as likely as each other.

    Args:
        prompts: ids and prompt tokens.
        model: in evaluation mode; it generates on the device and in the type that it has.
        tokenizer: decodes the outputs.
        max_new_tokens: most tokens of an output.
        batch_size: prompts at a time.
        advance: is told the number of outputs done so far.

    Returns:
        The outputs, in the order of the prompts.

    Raises:
        UsageError: a prompt and its output do not fit into the model's context.
    """
    _refuse_too_long(prompts, model=model, max_new_tokens=max_new_tokens)
    settings = _greedy(model, tokenizer, max_new_tokens=max_new_tokens)
    outputs: dict[int, Output] = {}
    # Longest first: what does not fit into memory fails at once and not at the end.
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index][1]), index))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        written = _batch([prompts[index][1] for index in chosen], model=model, settings=settings)
        for index, tokens in zip(chosen, written, strict=True):
            outputs[index] = _output(prompts[index][0], tokens, tokenizer, settings)
        advance(len(outputs))
    return [outputs[index] for index in range(len(prompts))]


def _refuse_too_long(
    prompts: Sequence[Prompt], *, model: PreTrainedModel, max_new_tokens: int
) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    for name, ids in prompts:
        if limit is not None and len(ids) + max_new_tokens > limit:
            raise UsageError(
                f"example {name!r} has a prompt of {len(ids)} tokens; with {max_new_tokens} new "
                f"ones it does not fit into the model's context of {limit}. Shorten it in a new "
                "dataset version, or lower eval.max_new_tokens."
            )


def _greedy(model: PreTrainedModel, tokenizer: Any, *, max_new_tokens: int) -> GenerationConfig:
    """Settings of our own, so that a sampling default beside the weights does not slip in."""
    stop = getattr(model.generation_config, "eos_token_id", None) or tokenizer.eos_token_id
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        eos_token_id=stop,
        pad_token_id=tokenizer.pad_token_id,
    )


def _batch(
    prompts: Sequence[Sequence[int]], *, model: PreTrainedModel, settings: GenerationConfig
) -> list[list[int]]:
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), settings.pad_token_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    with torch.inference_mode():
        written = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=settings,
        )
    new: list[list[int]] = written[:, width:].tolist()
    return new


def _output(name: str, tokens: list[int], tokenizer: Any, settings: GenerationConfig) -> Output:
    """Cut what stands behind the end token: the padding of a row that ended early."""
    stop = settings.eos_token_id
    ends = set(stop) if isinstance(stop, list) else {stop}
    end = next((index for index, token in enumerate(tokens) if token in ends), None)
    kept = tokens if end is None else tokens[:end]
    return Output(
        id=name,
        text=tokenizer.decode(kept, skip_special_tokens=True).strip(),
        finish="length" if end is None else "stop",
        tokens=len(kept) + (end is not None),
    )
