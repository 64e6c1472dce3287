"""Which examples go into which step, and how a step's examples are laid out for the model."""

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ftreg.files.store import canonical_json
from ftreg.training.batching.examples import TokenisedExamples


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Examples concatenated into one row, ready for the model.

    `input_ids` and `position_ids` are (1, tokens); positions restart at 0 with each example, which
    is how the model separates them. `predict` (n,) are the positions whose next token carries loss,
    and `targets` (n,) are those next tokens. `lengths` is the number of tokens of each example. The
    first `shared_prefix` tokens are common to all examples and appear only once: every example but
    the first is stored without them.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    predict: torch.Tensor
    targets: torch.Tensor
    lengths: tuple[int, ...]
    shared_prefix: int = 0


def steps_of_run(rows: int, *, batch_size: int, epochs: float, max_steps: int | None) -> int:
    """Return the number of optimizer steps: whole batches over `epochs`, at most `max_steps`."""
    per_epoch = math.ceil(rows / batch_size)
    steps = max(1, math.ceil(per_epoch * epochs))
    return steps if max_steps is None else min(steps, max_steps)


def batch_order(rows: int, *, batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Yield the row numbers of each step; the seed gives each epoch a new permutation.

    The last batch of an epoch may be smaller. The order depends only on the arguments.
    """
    done = 0
    epoch = 0
    while done < steps:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(rows, generator=generator).tolist()
        for start in range(0, rows, batch_size):
            if done == steps:
                return
            yield order[start : start + batch_size]
            done += 1
        epoch += 1


def order_digest(order: Iterable[Sequence[int]]) -> str:
    """Return the hex SHA-256 of the row numbers of all steps, one JSON list per line."""
    state = hashlib.sha256()
    for rows in order:
        state.update(canonical_json(list(rows)).encode() + b"\n")
    return state.hexdigest()


def micro_batches(
    rows: Sequence[int],
    examples: TokenisedExamples,
    *,
    max_tokens: int,
    share_prefix: bool = False,
) -> list[MicroBatch]:
    """Pack a step's rows into few micro-batches (first fit, longest first).

    A step's loss is divided by the number of loss tokens in the whole step, so the layout affects
    only memory and speed.

    Args:
        rows: row numbers of the step.
        examples: their tokens.
        max_tokens: maximum tokens of a micro-batch; a longer example gets its own, so with 0 each
            example does.
        share_prefix: store the examples' common prefix once per row.
    """
    shared = _common_prefix(rows, examples) if share_prefix else 0
    bins: list[list[int]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: (-examples.length(row), row)):
        length = examples.length(row)
        fit = next((i for i, free in enumerate(room) if length - shared <= free), None)
        if fit is None:
            bins.append([row])
            room.append(max_tokens - length)
        else:
            bins[fit].append(row)
            room[fit] -= length - shared
    return [_lay_out(members, examples, shared) for members in bins]


def _common_prefix(rows: Sequence[int], examples: TokenisedExamples) -> int:
    """Return the length of the common prefix, which ends before any position that carries loss."""
    # A prompt's last token predicts the first answer token, which differs between examples.
    limit = max(0, min(examples.spans(row)[0][0] for row in rows) - 1)
    columns = zip(*(examples.ids(row)[:limit] for row in rows), strict=True)
    return sum(1 for _ in itertools.takewhile(lambda tokens: len(set(tokens)) == 1, columns))


def _lay_out(rows: Sequence[int], examples: TokenisedExamples, shared: int) -> MicroBatch:
    ids: list[int] = []
    positions: list[int] = []
    predict: list[int] = []
    targets: list[int] = []
    for row in rows:
        tokens = examples.ids(row)
        skipped = shared if ids else 0
        start = len(ids) - skipped
        ids.extend(tokens[skipped:])
        positions.extend(range(skipped, len(tokens)))
        for begin, end in examples.spans(row):
            # The token before an answer predicts the answer's first token.
            predict.extend(range(start + begin - 1, start + end - 1))
            targets.extend(tokens[begin:end])
    return MicroBatch(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        predict=torch.tensor(predict),
        targets=torch.tensor(targets),
        lengths=tuple(examples.length(row) for row in rows),
        shared_prefix=shared,
    )
