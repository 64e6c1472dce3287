"""The records that pass from stage to stage. Plain data: no I/O, no model, no framework."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftreg.records.turns import Turn, answer_turn, before_answer

PRINTED_SCHEMA = 1
"""Version of what commands print as JSON and that is in no file."""

Cell = float | None | Sequence[float | None]
"""What an evaluation holds for one scorer and example: a score in [0, 1], None where it could not
be computed, or a sequence of these, one a training seed."""

Scores = Mapping[str, Mapping[str, Cell]]
"""An evaluation's scores: scorer to example id to cell; of replicas, the seeds in their order."""


def over_seeds(cell: Cell) -> float | None:
    """Return the mean of a cell over its seeds; None where any of them lacks its score."""
    if not isinstance(cell, Sequence):
        return cell
    present = [score for score in cell if score is not None]
    return sum(present) / len(present) if present and len(present) == len(cell) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row of a dataset version.

    `references` are the accepted answers, the canonical one first; empty where the row has none.
    `tags` place the example in its cohorts: tag `difficulty` with value `hard` is the cohort
    `difficulty=hard`. A `critical` example may not get worse, whatever the average does.

    A chat has its turns in `messages`, and the functions that may be called in `tools`. Its `input`
    is what the user said last, and its first reference what the assistant says in its last turn.
    """

    id: str
    input: str
    references: tuple[str, ...] = ()
    context: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    critical: bool = False
    messages: tuple[Turn, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def asked(self) -> Sequence[Turn]:
        """The turns of a chat before its answer."""
        return before_answer(self.messages)

    @property
    def answer(self) -> Turn | None:
        """The assistant's turn that a chat ends with, if it does."""
        return answer_turn(self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a checkpoint wrote for one example.

    `finish` is `"stop"` when the model ended its answer and `"length"` when `max_new_tokens`
    cut it; `tokens` counts the new tokens, the end token included, and is None where a server does
    not say.
    """

    id: str
    text: str
    finish: str
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a scorer sees of one example: the request, the output, and what to hold it against.

    `reference` is one text, or several accepted alternatives of which the best match counts. Of a
    chat, `messages` are the turns before the output, and `input` is what the user said last.
    """

    id: str
    input: str
    output: str
    reference: str | Sequence[str] | None = None
    context: str | None = None
    messages: Sequence[Turn] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """The accepted answers as a tuple, empty where there is no reference."""
        if self.reference is None:
            return ()
        if isinstance(self.reference, str):
            return (self.reference,)
        return tuple(self.reference)


@dataclass(frozen=True, slots=True)
class Score:
    """One scorer's finding on one sample.

    `value` lies in [0, 1], 1 is good; it is None when it could not be computed, and `reason`
    then says why (it is never NaN and never a default). `evidence` is JSON-ready: one mapping
    per claim, statement or key point, with what was found for it.
    """

    value: float | None
    reason: str | None = None
    evidence: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        if self.value is None:
            if not self.reason:
                raise ValueError("a score without a value needs a reason")
        elif not 0.0 <= self.value <= 1.0:  # also false for NaN
            raise ValueError(f"a score must lie in [0, 1], got {self.value}")
