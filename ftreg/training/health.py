"""Monitor a run for problems, and check that values are finite before they are saved."""

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
# For losses that hardly vary the deviation is near 0, so sigma is at least 2 % of the median.
_LEAST_SIGMA = 0.02


class LossSpikes:
    """Detects losses far above those of the previous steps (Hampel identifier).

    A loss is a spike if it is more than 6 robust standard deviations (1.4826 times the median
    absolute deviation, but at least 2 % of the median) above the median of the last 64 steps, of
    which at least 16 must exist. Unlike mean and standard deviation, median and MAD are robust to
    the spikes themselves (Hampel 1974, JASA 69; Davies and Gather 1993, JASA 88).
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self.steps: list[int] = []

    def notice(self, record: StepRecord) -> str | None:
        """Process the next step's loss; return a sentence if it is a spike."""
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
    """Monitors the step records of a run.

    On resuming it processes the earlier records again, so that it reports the same as in an
    uninterrupted run.
    """

    def __init__(self, optimizer: OptimizerConfig) -> None:
        self._spikes = LossSpikes()
        self._decay = StepDecay() if optimizer.name == "adagrad" else None

    @property
    def loss_spikes(self) -> list[int]:
        """The steps whose loss was a spike."""
        return self._spikes.steps

    def notices(self, record: StepRecord) -> list[str]:
        """Process the next step's record; return notices about it."""
        found = [self._spikes.notice(record)]
        if self._decay is not None:
            found.append(
                self._decay.notice(step=record.step, step_size=record.step_size, lr=record.lr)
            )
        return [text for text in found if text]


def refuse_broken(model: torch.nn.Module, optimizer: Any) -> None:
    """Check that all weights and the optimizer's state are finite, before saving them.

    Raises:
        DivergedError: a value is not finite.
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
