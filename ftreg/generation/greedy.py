"""Greedy generation in process, with transformers.

Most models decode continuously (`ftreg.generation.kernels`). The others, and all of them where
`eval.kernels` is off, decode batch by batch (`ftreg.generation.padded`), which carries a row to the
end of its batch, long after it has ended. Which way a model takes is proven on it
(`ftreg.generation.ways`): the tokens are those of `generate(do_sample=False)`.
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
    """Write an output for each prompt, always taking the likeliest token.

    Prompts are taken by length, and a prompt begins where another's output has ended. In fp32 on a
    CPU the outputs do not depend on the batch size; else they may, where two tokens are nearly as
    likely as each other.

    Args:
        prompts: ids and prompt tokens.
        model: in evaluation mode; it generates on the device and in the type that it has.
        chat: reads the outputs.
        max_new_tokens: most tokens of an output.
        batch_size: most prompts at a time.
        way: how to decode, as `choose_way` found.
        advance: is told the number of outputs done so far.
        keep: is given outputs as soon as they are whole, each once, in any order.

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
        UsageError: one does not.
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
