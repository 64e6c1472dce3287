"""What to notice while a run goes on, and what must be finite before anything is saved."""

import statistics
from collections import deque
from typing import Any

import torch

from ftreg.config.optimizer import OptimizerConfig
from ftreg.errors import DivergedError
from ftreg.training.events import StepRecord
from ftreg.training.optim.advice import StepDecay
from ftreg.training.state.tensors import all_finite

_WINDOW = 64
_LEAST = 16
_DEVIATIONS = 6.0
# Scales the median absolute deviation to the standard deviation of a normal distribution.
_MAD_TO_SIGMA = 1.4826
# Losses that hardly vary have a deviation near 0; below 2 % of the median nothing is a spike.
_LEAST_SIGMA = 0.02


class LossSpikes:
    """Finds losses far above those of the steps before, by the Hampel identifier.

    A loss is a spike when it lies more than 6 robust standard deviations (1.4826 times the median
    absolute deviation) above the median of the last 64 steps; 16 have to be there. Median and MAD
    are not moved by the spikes themselves, as mean and standard deviation would be (Hampel 1974,
    JASA 69; Davies and Gather 1993, JASA 88).
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self.steps: list[int] = []

    def notice(self, record: StepRecord) -> str | None:
        """Take the next step's loss; return a sentence if it is a spike."""
        recent = list(self._recent)
        self._recent.append(record.loss)
        if len(recent) < _LEAST:
            return None
        median = statistics.median(recent)
        deviation = statistics.median(abs(loss - median) for loss in recent)
        sigma = max(_MAD_TO_SIGMA * deviation, _LEAST_SIGMA * abs(median))
        if record.loss <= median + _DEVIATIONS * sigma:
            return None
        self.steps.append(record.step)
        return (
            f"step {record.step}: the loss spiked to {record.loss:.3f}; the median of the "
            f"{len(recent)} steps before is {median:.3f}"
        )


class Watch:
    """Everything that is noticed from the records of the steps.

    Resuming, it is shown the records of the earlier steps again, so that it says what it would
    have said without the interruption.
    """

    def __init__(self, optimizer: OptimizerConfig) -> None:
        self._spikes = LossSpikes()
        self._decay = StepDecay() if optimizer.name == "adagrad" else None

    @property
    def loss_spikes(self) -> list[int]:
        """The steps whose loss was a spike."""
        return self._spikes.steps

    def notices(self, record: StepRecord) -> list[str]:
        """Take the next step's record; return what is to be said of it."""
        found = [self._spikes.notice(record)]
        if self._decay is not None:
            found.append(
                self._decay.notice(step=record.step, step_size=record.step_size, lr=record.lr)
            )
        return [text for text in found if text]


def refuse_broken(model: torch.nn.Module, optimizer: Any) -> None:
    """Look at every weight and every tensor of the optimizer's state before they are written.

    Raises:
        DivergedError: one holds a value that is not finite.
    """
    names = {}
    for name, parameter in model.named_parameters():
        names[parameter] = name
        if not all_finite(parameter):
            raise DivergedError(
                f"the weights of {name} are not finite; they are not saved",
                taken=True,
                details={"parameters": [name]},
            )
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            broken = (
                isinstance(value, torch.Tensor)
                and value.is_floating_point()
                and not all_finite(value)
            )
            if broken:
                name = names.get(parameter, "?")
                raise DivergedError(
                    f"the optimizer's {key} of {name} is not finite; it is not saved",
                    taken=True,
                    details={"parameters": [name], "optimizer_state": key},
                )
