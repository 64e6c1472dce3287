"""Tokenise examples, with the loss on the answers only."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ftreg.config.sections import LossOn, Thoughts
from ftreg.data.card import Prompt
from ftreg.errors import UsageError
from ftreg.models.assistant_turn import AssistantTurn, RenderedExample
from ftreg.records.samples import Example
from ftreg.records.thought_tags import answer_of

SCHEMA = pa.schema(
    [
        ("ids", pa.list_(pa.int32())),
        ("prompt_length", pa.int32()),
        ("earlier", pa.list_(pa.int32())),  # start and end of each earlier answer with loss
    ]
)
# Rows of every record batch except the last, so that a row is found by division.
BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class _Views:
    """One record batch's buffers: row offsets, concatenated ids, and prompt lengths.

    `earlier` and `earlier_offsets` hold the spans of the answers within the prompts.
    """

    offsets: memoryview
    ids: memoryview
    prompts: memoryview
    earlier_offsets: memoryview
    earlier: memoryview


class TokenisedExamples:
    """Token ids of many examples in Arrow record batches, in memory or mapped from a file.

    Example i is `ids(i)`, and `spans(i)` of it carry loss: everything after the first
    `prompt_length(i)` tokens and, in a chat, possibly earlier answers. Nothing is copied: the
    buffers are read directly (4 bytes per token), and a mapped file is paged in as needed.

    Args:
        batches: record batches of `SCHEMA`, each except the last with `BATCH_ROWS` rows.

    Raises:
        ValueError: a batch before the last has a different number of rows.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._rows = 0
        self._views: list[_Views] = []
        for batch in batches:
            if self._rows != len(self._views) * BATCH_ROWS:
                raise ValueError("every record batch but the last must have BATCH_ROWS rows")
            self._rows += batch.num_rows
            self._views.append(_views(batch))

    def __len__(self) -> int:
        return self._rows

    def ids(self, index: int) -> Sequence[int]:
        """Return the token ids of one example, prompt then answer; a view, not a copy."""
        batch, row = divmod(index, BATCH_ROWS)
        views = self._views[batch]
        return views.ids[views.offsets[row] : views.offsets[row + 1]]

    def length(self, index: int) -> int:
        """Return the number of tokens of one example."""
        batch, row = divmod(index, BATCH_ROWS)
        offsets = self._views[batch].offsets
        return offsets[row + 1] - offsets[row]

    def prompt_length(self, index: int) -> int:
        """Return the number of tokens before the last answer."""
        batch, row = divmod(index, BATCH_ROWS)
        return self._views[batch].prompts[row]

    def spans(self, index: int) -> list[tuple[int, int]]:
        """Return [start, end) of each answer with loss, including its end token, in order."""
        batch, row = divmod(index, BATCH_ROWS)
        views = self._views[batch]
        ends = views.earlier[views.earlier_offsets[row] : views.earlier_offsets[row + 1]]
        last = (self.prompt_length(index), self.length(index))
        return [*zip(ends[::2], ends[1::2], strict=True), last]

    def answer_length(self, index: int) -> int:
        """Return the number of tokens with loss, including end tokens."""
        return sum(end - begin for begin, end in self.spans(index))

    def longest(self) -> int:
        """Return the number of tokens of the longest example."""
        return max(int(np.diff(ends).max()) for ends in self._ends())

    def largest_id(self) -> int:
        """Return the largest token id in any example."""
        pairs = zip(self._views, self._ends(), strict=True)
        return max(
            int(np.frombuffer(views.ids, np.int32)[: ends[-1]].max()) for views, ends in pairs
        )

    def _ends(self) -> Iterator[Any]:
        """Yield each batch's row offsets, without padding: buffers can exceed their content."""
        for number, views in enumerate(self._views):
            rows = min(self._rows - number * BATCH_ROWS, BATCH_ROWS)
            yield np.frombuffer(views.offsets, np.int32)[: rows + 1]


def _views(batch: pa.RecordBatch) -> _Views:
    ids, prompts, earlier = batch.columns
    _, offsets, _, values = ids.buffers()
    _, earlier_offsets, _, earlier_values = earlier.buffers()
    # memoryviews, not numpy arrays: their elements are plain ints, and indexing is faster.
    return _Views(
        offsets=memoryview(offsets).cast("i"),
        ids=memoryview(values).cast("i"),
        prompts=memoryview(prompts.buffers()[1]).cast("i"),
        earlier_offsets=memoryview(earlier_offsets).cast("i"),
        earlier=memoryview(earlier_values or b"").cast("i"),
    )


def record_batches(
    pairs: Iterable[RenderedExample | tuple[list[int], list[int]]],
) -> Iterator[pa.RecordBatch]:
    """Yield examples as record batches of `SCHEMA`, with one batch in memory at a time."""
    rows: list[dict[str, Any]] = []

    def batch() -> pa.RecordBatch:
        made = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
        rows.clear()
        return made

    for found in pairs:
        prompt, answer, earlier = RenderedExample(*found)
        places = [place for span in earlier for place in span]
        rows.append({"ids": [*prompt, *answer], "prompt_length": len(prompt), "earlier": places})
        if len(rows) == BATCH_ROWS:
            yield batch()
    if rows:
        yield batch()


def token_pairs(
    examples: Iterable[Example],
    *,
    turn: AssistantTurn,
    prompt: Prompt,
    max_length: int = 2**31,
    thoughts: Thoughts = "keep",
    loss_on: LossOn = "all_turns",
    advance: Callable[[], None] = lambda: None,
) -> Iterator[RenderedExample]:
    """Render each example as a chat, and yield the token ids of its prompt and its answer.

    The answer is the first reference and its end token. Anything that the chat template adds after
    that (often a line break) is dropped, since the model never has to generate it.

    Args:
        examples: the examples; may be a stream.
        turn: the assistant's turn in the tokenizer's chat template.
        prompt: turns an example into chat messages.
        max_length: maximum tokens of an example.
        thoughts: `strip` removes thoughts, with their tags, from the answers.
        loss_on: which assistant turns of a chat carry loss.
        advance: called after each example.

    Raises:
        UsageError: there are no examples; a row has no reference, lacks context that the prompt
            needs, or is longer than `max_length`; or the tokens with loss would not be exactly
            the reference and its end.
    """
    count = 0
    for example in examples:
        found = _rendered(example, turn=turn, prompt=prompt, thoughts=thoughts, loss_on=loss_on)
        total = len(found.prompt) + len(found.answer)
        if total > max_length:
            place = getattr(turn.chat.tokenizer, "name_or_path", "")
            raise UsageError(
                f"example {example.id!r} has {total} tokens, more than the {max_length} that the "
                f"model takes{f' ({place})' if place else ''}; shorten it in a new dataset "
                "version, or raise train.max_length if the model allows more"
            )
        yield found
        count += 1
        advance()
    if count == 0:
        raise UsageError("there is no example to train on: the split has no rows")


def keeps_thoughts(examples: Iterable[Example], thoughts: Thoughts) -> bool:
    """Whether any example is trained with thoughts in its answer."""
    return thoughts == "keep" and any(
        answer_of(text) != text for example in examples for text in example.references[:1]
    )


def _rendered(
    example: Example, *, turn: AssistantTurn, prompt: Prompt, thoughts: Thoughts, loss_on: LossOn
) -> RenderedExample:
    if not example.references:
        raise UsageError(f"example {example.id!r} has no reference, so nothing to learn from it")
    try:
        messages = prompt.messages(example)
    except ValueError as error:
        raise UsageError(str(error)) from error
    reference = dict(example.answer or {"content": example.references[0]})
    all_turns = loss_on == "all_turns"
    if thoughts == "strip":
        learnt = [item for item in messages if all_turns and item["role"] == "assistant"]
        for item in (*learnt, reference):
            item["content"] = answer_of(item["content"])
            if not item["content"] and not item.get("tool_calls"):
                raise UsageError(
                    f"example {example.id!r}: its reference has nothing but thoughts, and "
                    "train.thoughts: strip leaves nothing of it"
                )
    try:
        return turn.example(messages, reference, all_turns=all_turns)
    except UsageError as error:
        raise UsageError(f"example {example.id!r}: {error}") from error
