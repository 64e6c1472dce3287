"""When and how to measure the loss of a split that is used neither for training nor gating."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from ftreg.data import Split
from ftreg.training.batching.examples import TokenisedExamples
from ftreg.training.events import StepRecord
from ftreg.training.loss import Loss

_IN_A_ROW = 3
_LEAST_RISE = 0.01  # nats: 1 % more perplexity


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The validation of a run.

    `split` has its rows and `examples` their tokens; `batch_size` rows are laid out at a time. It
    is due every `every` steps and after the last, `total_steps`.
    """

    split: Split
    examples: TokenisedExamples
    batch_size: int
    every: int
    total_steps: int

    def is_due(self, step: int) -> bool:
        """Whether to measure the loss after a step (counted from 1)."""
        return step % self.every == 0 or step == self.total_steps

    def measure(self, model: nn.Module, loss: Loss, accelerator: Accelerator) -> float:
        """Return the mean negative log-likelihood per loss token of all rows, in nats.

        It uses the loss and the precision of training, without dropout or gradients. Layout and
        number of processes affect only the last bits.
        """
        rows = range(len(self.examples))
        tokens = sum(map(self.examples.answer_length, rows))
        total = 0.0
        model.eval()
        with torch.no_grad():
            for start in rows[:: self.batch_size]:
                own = rows[start : start + self.batch_size]
                for batch, weight in loss.passes(own, self.examples, accelerator=accelerator):
                    with accelerator.autocast():
                        summed = loss(model, batch, device=accelerator.device)
                    total += weight * summed.item()
        model.train()
        if accelerator.num_processes > 1:
            shared = torch.tensor(total, dtype=torch.float64, device=accelerator.device)
            total = float(accelerator.reduce(shared, reduction="sum"))
        return total / tokens


def validate_every(validate_steps: int | None, *, total_steps: int) -> int:
    """Return the number of steps between validations; by default a tenth of the run."""
    return validate_steps or math.ceil(total_steps / 10)


def best_step(history: Sequence[StepRecord]) -> StepRecord | None:
    """Return the step with the lowest validation loss, the first in a tie; None without any."""
    measured = [record for record in history if record.validation_loss is not None]
    return min(measured, key=_loss_of, default=None)


def without_improvement(history: Sequence[StepRecord]) -> int:
    """Return the number of validations since the lowest loss."""
    best = best_step(history)
    if best is None:
        return 0
    return sum(r.validation_loss is not None and r.step > best.step for r in history)


def parted_after(history: Sequence[StepRecord]) -> int | None:
    """Return the step after which validation and training loss diverge; None if they do not.

    It is the step with the lowest validation loss, if at least three validations follow it, the
    last three are each at least 0.01 nats above the lowest (1 % more perplexity), and the mean
    training loss since then is lower than over as many steps before. This excludes a single noisy
    validation, a plateau, and a run whose training loss also rises.
    """
    best = best_step(history)
    if best is None:
        return None
    last = [_loss_of(r) for r in history if r.validation_loss is not None and r.step > best.step]
    last = last[-_IN_A_ROW:]
    if len(last) < _IN_A_ROW or min(last) < _loss_of(best) + _LEAST_RISE:
        return None
    since = [record.loss for record in history if record.step > best.step]
    before = [record.loss for record in history if record.step <= best.step][-len(since) :]
    return best.step if statistics.fmean(since) < statistics.fmean(before) else None


def _loss_of(record: StepRecord) -> float:
    assert record.validation_loss is not None
    return record.validation_loss
