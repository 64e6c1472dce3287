"""Greedy decoding by transformers' continuous batching, with its paged cache and captured graphs.

On a GPU a step of a small model is limited by kernel launches. A captured graph needs only one
launch; transformers captures graphs if FlashAttention is installed, for 16-bit weights.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from ftreg.models.attention import attending

_FLASH = "flash_attention_2"
_PATIENCE = 1.0
"""Seconds of waiting for an answer before it is looked whether somebody still writes one."""


def pages_fast(model: PreTrainedModel) -> bool:
    """Whether paged decoding captures graphs for a model on its current device."""
    from transformers.utils import is_flash_attn_2_available

    half = model.dtype in (torch.bfloat16, torch.float16)
    return half and model.device.type == "cuda" and bool(is_flash_attn_2_available())


def decode_paged(
    prompts: Sequence[Sequence[int]],
    *,
    model: PreTrainedModel,
    stops: frozenset[int],
    max_new_tokens: int,
    batch_size: int,
    ended: Callable[[int, list[int]], None],
) -> None:
    """Write the answer of each prompt; the arguments are those of `decode_continuously`.

    Raises:
        RuntimeError: transformers did not finish an answer.
    """
    attention = _FLASH if pages_fast(model) else "sdpa"
    with attending(model, attention), _manager(model, stops, max_new_tokens, batch_size) as manager:
        names = manager.add_requests(
            inputs=[list(prompt) for prompt in prompts], max_new_tokens=max_new_tokens
        )
        places = {name: place for place, name in enumerate(names)}
        while places:
            found = manager.get_result(timeout=_PATIENCE)
            if found is None and not manager.is_running():
                raise RuntimeError(f"continuous batching left {len(places)} answers unwritten")
            if found is not None and found.is_finished():
                if found.error is not None:
                    raise RuntimeError(f"continuous batching failed: {found.error}")
                ended(places.pop(found.request_id), list(map(int, found.generated_tokens)))


@contextlib.contextmanager
def _manager(
    model: Any, stops: frozenset[int], max_new_tokens: int, batch_size: int
) -> Iterator[Any]:
    """Yield an object that takes prompts and returns answers; it is closed after the block."""
    from transformers import ContinuousBatchingConfig

    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(stops) or -1,
        pad_token_id=min(stops, default=0),
    )
    pages = ContinuousBatchingConfig(
        max_requests_per_batch=batch_size,
        # It would fetch kernels from a hub.
        auto_switch_to_flash=False,
        # On a CPU free memory cannot be measured.
        **({} if model.device.type == "cuda" else {"num_blocks": 256, "max_batch_tokens": 1024}),
    )
    with model.continuous_batching_context_manager(
        generation_config=settings, continuous_batching_config=pages, warmup=False
    ) as manager:
        yield manager
