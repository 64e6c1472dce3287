"""Turn examples into token ids with the loss on the answer only."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ftreg.data.card import Prompt
from ftreg.errors import UsageError
from ftreg.records import Example


class TokenisedExamples:
    """Token ids of many examples in one flat array: 4 bytes a token, no Python object each.

    Example i is `ids(i)`; its first `prompt_length(i)` tokens carry no loss.
    """

    def __init__(self) -> None:
        self._ids = array("i")
        self._starts = array("q", [0])
        self._prompts = array("i")

    def __len__(self) -> int:
        return len(self._prompts)

    def append(self, prompt: list[int], answer: list[int]) -> None:
        """Add one example."""
        self._ids.extend(prompt)
        self._ids.extend(answer)
        self._starts.append(len(self._ids))
        self._prompts.append(len(prompt))

    def ids(self, index: int) -> "array[int]":
        """Token ids of one example, prompt then answer."""
        return self._ids[self._starts[index] : self._starts[index + 1]]

    def length(self, index: int) -> int:
        """Number of tokens of one example."""
        return self._starts[index + 1] - self._starts[index]

    def prompt_length(self, index: int) -> int:
        """Number of leading tokens without loss."""
        return self._prompts[index]

    def answer_length(self, index: int) -> int:
        """Number of tokens with loss, the end token included."""
        return self.length(index) - self._prompts[index]


def tokenise(
    examples: Iterable[Example],
    *,
    tokenizer: Any,
    prompt: Prompt,
    max_length: int,
    advance: Callable[[], None] = lambda: None,
) -> TokenisedExamples:
    """Write each example as a chat and tokenise it; the answer is its first reference.

    The answer ends with the end-of-sequence token; what a chat template puts behind it (a line
    break, often) is dropped, since the model never has to write it.

    Args:
        examples: rows to train on.
        tokenizer: with a chat template.
        prompt: the dataset's template.
        max_length: most tokens of one example.
        advance: called after each example.

    Raises:
        UsageError: a row has no reference or lacks the context that the prompt needs; one is
            longer than `max_length`; or the template does not put the answer behind the prompt.
    """
    result = TokenisedExamples()
    for prompt_ids, answer_ids, example in _pairs(examples, tokenizer=tokenizer, prompt=prompt):
        total = len(prompt_ids) + len(answer_ids)
        if total > max_length:
            raise UsageError(
                f"example {example.id!r} has {total} tokens, more than the {max_length} that the "
                "model takes; shorten it in a new dataset version, or raise train.max_length if "
                "the model allows more"
            )
        result.append(prompt_ids, answer_ids)
        advance()
    return result


def _pairs(
    examples: Iterable[Example], *, tokenizer: Any, prompt: Prompt
) -> Iterator[tuple[list[int], list[int], Example]]:
    for example in examples:
        if not example.references:
            raise UsageError(
                f"example {example.id!r} has no reference, so nothing to learn from it"
            )
        try:
            messages = prompt.messages(example)
        except ValueError as error:
            raise UsageError(str(error)) from error
        prompt_ids = chat_ids(tokenizer, messages, answer_next=True)
        answer = {"role": "assistant", "content": example.references[0]}
        full = chat_ids(tokenizer, [*messages, answer], answer_next=False)
        if full[: len(prompt_ids)] != prompt_ids:
            raise UsageError(
                f"example {example.id!r}: the chat template does not put the answer right behind "
                "the prompt, so the loss cannot be kept to the answer; use a template whose "
                "generation prompt begins the assistant's turn"
            )
        answer_ids = full[len(prompt_ids) :]
        end = tokenizer.eos_token_id
        if end in answer_ids:
            answer_ids = answer_ids[: len(answer_ids) - answer_ids[::-1].index(end)]
        else:
            answer_ids = [*answer_ids, end]
        yield prompt_ids, answer_ids, example


def chat_ids(tokenizer: Any, messages: list[dict[str, str]], *, answer_next: bool) -> list[int]:
    """Token ids of a chat, with the opening of the assistant's turn if `answer_next`."""
    return list(
        tokenizer.apply_chat_template(
            messages, add_generation_prompt=answer_next, tokenize=True, return_dict=False
        )
    )
