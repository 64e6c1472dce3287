"""Greedy decoding of many prompts.

`generate()` of transformers carries a row to the end of its batch, long after it has ended; with
answers of unlike lengths most of its work is on such rows. It also takes sampling settings that lie
beside the weights for defaults. The tokens here are those of `generate(do_sample=False)`.

Most models decode continuously (`ftreg.generation.kernels`). The others, and all of them where
`eval.kernels` is off, decode batch by batch (`ftreg.generation.padded`).
"""

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from ftreg.generation.kernels.continuous import can_decode_continuously, decode_continuously
from ftreg.generation.padded import decode_padded


def decode_greedily(
    prompts: Sequence[Sequence[int]],
    *,
    model: PreTrainedModel,
    stops: frozenset[int],
    max_new_tokens: int,
    batch_size: int,
    kernels: bool,
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
        kernels: whether to decode continuously, if the model can be decoded so. It is the only
            place where generation's kernels are switched on.
        ended: is given a prompt's index and its new tokens as soon as they are complete, each once,
            in any order.
    """
    continuously = kernels and can_decode_continuously(model)
    decode = decode_continuously if continuously else decode_padded
    decode(
        prompts,
        model=model,
        stops=stops,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        ended=ended,
    )
