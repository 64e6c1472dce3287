"""The records passed from stage to stage. Plain data: no I/O, no model, no framework."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftreg.records.turns import Turn, answer_turn, before_answer

PRINTED_SCHEMA = 1
"""Schema version of JSON that commands print but do not store."""

Cell = float | None | Sequence[float | None]
"""The entry of one scorer and example: a score in [0, 1], None if it could not be computed, or a
sequence of these, one per training seed."""

Scores = Mapping[str, Mapping[str, Cell]]
"""An evaluation's scores: scorer to example id to cell; for replicas, sorted by seed."""


def over_seeds(cell: Cell) -> float | None:
    """Return the mean of a cell over its seeds; None if any seed lacks a score."""
    if not isinstance(cell, Sequence):
        return cell
    present = [score for score in cell if score is not None]
    return sum(present) / len(present) if present and len(present) == len(cell) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row of a dataset version.

    `references` are the accepted answers, the canonical one first; empty if the row has none.
    `tags` place the example in its cohorts: tag `difficulty` with value `hard` is the cohort
    `difficulty=hard`. A `critical` example must not get worse, whatever the average does.

    A chat has its turns in `messages`, and the callable functions in `tools`. Its `input` is the
    user's last message, and its first reference is the assistant's last turn.
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
    """A checkpoint's output for one example.

    `finish` is `"stop"` if the model ended its answer and `"length"` if `max_new_tokens` cut it
    off. `tokens` counts the new tokens, including the end token, and is None if a server does not
    report them.
    """

    id: str
    text: str
    finish: str
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A scorer's view of one example: the request, the output, and the reference.

    `reference` is one text, or several accepted alternatives of which the best match counts. For a
    chat, `messages` are the turns before the output, and `input` is the user's last message.
    """

    id: str
    input: str
    output: str
    reference: str | Sequence[str] | None = None
    context: str | None = None
    messages: Sequence[Turn] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """The accepted answers as a tuple, empty if there is no reference."""
        if self.reference is None:
            return ()
        if isinstance(self.reference, str):
            return (self.reference,)
        return tuple(self.reference)


@dataclass(frozen=True, slots=True)
class Score:
    """One scorer's result for one sample.

    `value` is in [0, 1], and 1 is good. It is None if it could not be computed, and `reason` then
    says why (it is never NaN and never a default). `evidence` is JSON-ready: one mapping per claim,
    statement or key point, with the findings for it.
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
