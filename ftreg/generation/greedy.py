"""Greedy generation in process, with transformers.

Most models decode continuously (`ftreg.generation.kernels`). The others, and all models if
`eval.kernels` is off, decode batch by batch (`ftreg.generation.padded`), which keeps a row until
the end of its batch, long after its output has ended. Each model's way of decoding is verified on
that model (`ftreg.generation.ways`): the tokens are those of `generate(do_sample=False)`.
"""

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from ftreg.errors import UsageError
from ftreg.generation.ways import Way, decoder_of
from ftreg.models.chat_template import Chat, stop_tokens
from ftreg.models.soundness import context_of
from ftreg.records.samples import Output

_Prompt = tuple[str, Sequence[int]]
"""An example's id, and the token ids of its prompt."""


def generate(
    prompts: Sequence[_Prompt],
    *,
    model: PreTrainedModel,
    chat: Chat,
    max_new_tokens: int,
    batch_size: int,
    way: Way,
    advance: Callable[[int], None] = lambda done: None,
    keep: Callable[[Sequence[Output]], None] = lambda outputs: None,
) -> list[Output]:
    """Write an output for each prompt, always choosing the likeliest token.

    Prompts are sorted by length; when an output ends, the next prompt starts in its place. In fp32
    on a CPU the outputs do not depend on the batch size; otherwise they may, if two tokens are
    almost equally likely.

    Args:
        prompts: ids and prompt tokens.
        model: in evaluation mode; it generates on its own device and in its own dtype.
        chat: reads the outputs.
        max_new_tokens: maximum number of tokens of an output.
        batch_size: maximum number of prompts at a time.
        way: how to decode, as returned by `choose_way`.
        advance: called with the number of outputs done so far.
        keep: called with outputs as soon as they are complete, each once, in any order.

    Returns:
        The outputs, in the order of the prompts.

    Raises:
        UsageError: a prompt and its output do not fit into the model's context.
    """
    refuse_too_long(prompts, model=model, max_new_tokens=max_new_tokens)
    stops = stop_tokens(chat.tokenizer, model.generation_config)
    outputs: dict[int, Output] = {}
    # Longest first: what does not fit into memory fails at once and not at the end.
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index][1]), index))

    def ended(place: int, tokens: list[int]) -> None:
        index = order[place]
        outputs[index] = _output(prompts[index][0], tokens, stops=stops, chat=chat)
        keep([outputs[index]])
        advance(len(outputs))

    decoder_of(way)(
        [prompts[index][1] for index in order],
        model=model,
        stops=stops,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        ended=ended,
    )
    return [outputs[index] for index in range(len(prompts))]


def refuse_too_long(
    prompts: Sequence[_Prompt], *, model: PreTrainedModel, max_new_tokens: int
) -> None:
    """Refuse prompts that, with their output, do not fit into the model's context.

    Raises:
        UsageError: one of them does not fit.
    """
    limit = context_of(model)
    for name, ids in prompts:
        if limit is not None and len(ids) + max_new_tokens > limit:
            raise UsageError(
                f"example {name!r} has a prompt of {len(ids)} tokens; with {max_new_tokens} new "
                f"ones it does not fit into the model's context of {limit}. Shorten it in a new "
                "dataset version, or lower eval.max_new_tokens."
            )


def _output(name: str, tokens: list[int], *, stops: frozenset[int], chat: Chat) -> Output:
    ended = bool(tokens) and tokens[-1] in stops
    return Output(
        id=name,
        text=chat.read(tokens[:-1] if ended else tokens),
        finish="stop" if ended else "length",
        tokens=len(tokens),
    )
