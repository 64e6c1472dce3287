"""Progress events of a training run, for the command line to display."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One optimizer step, a line of `history.jsonl`.

    `loss` is the mean negative log-likelihood per loss token, in nats; `grad_norm` the global L2
    norm before clipping; `step_size` the mean absolute change of the weights. `examples`, `tokens`
    and `loss_tokens` are totals since the start of the run (there is no padding);
    `tokens_per_second` is for this step. `validation_loss` is the validation split's loss after the
    step, in the same unit; None if not measured. `device_gib` is the peak device memory of this
    process's tensors so far, in GiB; None on a CPU.
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

        Numbers that JSON lacks become strings: `"nan"`, `"inf"`, `"-inf"`. So the history can also
        contain a diverged step.
        """
        return {
            key: None if value is None else as_number(value) for key, value in asdict(self).items()
        }


def as_number(value: float) -> float | str:
    """Return a finite number unchanged, any other as a string (`"nan"`, `"inf"`, `"-inf"`)."""
    return value if math.isfinite(value) else str(value)


class TrainEvents(Protocol):
    """A listener to training events; by default every method does nothing."""

    def phase(self, text: str) -> None:
        """A phase of preparation has begun; `text` is a short description."""
        return

    def notice(self, text: str) -> None:
        """Something the user should know, to be shown permanently."""
        return

    def preparing(self, done: int, total: int) -> None:
        """`done` of `total` examples are tokenised."""
        return

    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` outputs of a checkpoint are generated or scored."""
        return

    def start(self, total_steps: int, done: int) -> None:
        """Training begins; earlier sessions have taken `done` steps."""
        return

    def step(self, record: StepRecord) -> None:
        """An optimizer step is complete."""
        return


class Silent(TrainEvents):
    """A listener that does nothing."""


class WithoutNotices:
    """Forwards events except notices, which each of many runs would repeat."""

    def __init__(self, events: TrainEvents) -> None:
        self._events = events

    def notice(self, text: str) -> None:
        """Ignore the notice."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._events, name)
