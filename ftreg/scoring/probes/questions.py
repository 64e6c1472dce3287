"""What a probe is: a scorer with questions of its own, about what fine-tuning may have broken."""

import importlib.resources
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeGuard

from ftreg.errors import UsageError
from ftreg.records.samples import Score


@dataclass(frozen=True, slots=True)
class Answered:
    """What a model made of one item of a probe.

    `loss` is the mean loss per token in nats, None where the text has too few `tokens`; `answer`
    is what the model wrote. One of the two is there, by what the probe `asks` for.
    """

    loss: float | None = None
    tokens: int = 0
    answer: str = ""


class Probe(Protocol):
    """A scorer of `eval.scorers` that is given no output of the dataset's rows."""

    name: str
    version: int
    asks: Literal["loss", "answer"]
    """Whether items are texts whose loss is wanted, or instructions that are to be answered."""
    items: Mapping[str, str]
    """Id to text or instruction."""

    def describe(self) -> dict[str, Any]:
        """Return the JSON-ready identity: evaluations compare only where it is equal."""
        ...

    def judge(self, replies: Sequence[Answered]) -> list[Score]:
        """Return a score for each item, in order."""
        ...


def is_probe(scorer: Any) -> TypeGuard[Probe]:
    """Whether a scorer asks the model itself."""
    return hasattr(scorer, "asks") and hasattr(scorer, "judge")


def refuse_probe(scorer: Any, *, place: str) -> None:
    """Refuse a probe where there are outputs to score and no model to ask.

    Raises:
        UsageError: it is one.
    """
    if is_probe(scorer):
        raise UsageError(
            f"{place}: {scorer.name} asks the model itself and scores no outputs; put it into "
            "eval.scorers, for `ftreg eval`"
        )


def packaged_rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file that lies beside this module."""
    text = (importlib.resources.files(__package__) / name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]
