"""What a training run tells while it goes on; the command line draws it."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One optimizer step, a line of `history.jsonl`.

    `loss` is the mean negative log-likelihood per loss token in nats; `grad_norm` the global L2
    norm before clipping; `step_size` the mean absolute change of the weights; `examples`,
    `tokens` and `loss_tokens` count from the beginning of the run, padding does not exist;
    `tokens_per_second` is of this step. `validation_loss` is the loss, in the same unit, of the
    validation split after the step; None where it was not measured. `device_gib` is the most
    memory of the device that tensors of this process have taken so far; None on a CPU.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    step_size: float
    examples: int
    tokens: int
    loss_tokens: int
    tokens_per_second: float
    validation_loss: float | None = None
    device_gib: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record JSON-ready.

        A number that JSON does not have is its name: `"nan"`, `"inf"`, `"-inf"`. A step that
        diverged is in the history like any other.
        """
        return {
            key: None if value is None else as_number(value) for key, value in asdict(self).items()
        }


def as_number(value: float) -> float | str:
    """Return a finite number as it is, and another one by its name."""
    return value if math.isfinite(value) else str(value)


class TrainEvents(Protocol):
    """A listener; every method may do nothing."""

    def phase(self, text: str) -> None:
        """A preparation has begun, in a few words."""
        return

    def notice(self, text: str) -> None:
        """Something the user should know; it stays on the screen."""
        return

    def preparing(self, done: int, total: int) -> None:
        """So many of the examples are tokenised."""
        return

    def progress(self, what: str, done: int, total: int) -> None:
        """So many outputs of a checkpoint are generated, or scored."""
        return

    def start(self, total_steps: int, done: int) -> None:
        """The steps begin, after so many that an earlier session has done."""
        return

    def step(self, record: StepRecord) -> None:
        """An optimizer step is done."""
        return


class Silent(TrainEvents):
    """A listener that does nothing."""


class WithoutNotices:
    """Hands on what a listener is told, but for notices: each of many runs would repeat them."""

    def __init__(self, events: TrainEvents) -> None:
        self._events = events

    def notice(self, text: str) -> None:
        """Say nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._events, name)
