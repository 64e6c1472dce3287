"""The training loop: one optimizer step after another, and nothing else."""

import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.tensor import DTensor

from ftreg.errors import DivergedError
from ftreg.training.batching.examples import TokenisedExamples
from ftreg.training.events import StepRecord, as_number
from ftreg.training.loss import Loss
from ftreg.training.optim.modes import evaluation_weights
from ftreg.training.optim.step_size import StepSizeProbe
from ftreg.training.state.tensors import all_finite, whole
from ftreg.training.validation import Validation

# So many of the tensors with a broken gradient are named; there can be hundreds.
_NAMED = 20


@dataclass(slots=True)
class Progress:
    """What the steps so far have seen."""

    steps: int = 0
    examples: int = 0
    tokens: int = 0
    loss_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A prepared run; `steps()` carries it out.

    `model` and `optimizer` are what `accelerator.prepare` gave. `order` yields the row numbers of
    each step that is left, over all processes; `done` is what an earlier session has done.
    `validation` measures another loss after some of the steps.
    """

    accelerator: Accelerator
    model: nn.Module
    optimizer: Any
    schedule: torch.optim.lr_scheduler.LambdaLR
    examples: TokenisedExamples
    order: Iterable[Sequence[int]]
    loss: Loss
    max_grad_norm: float | None
    seed: int
    validation: Validation | None = None
    done: Progress = field(default_factory=Progress)

    def steps(self) -> Iterator[StepRecord]:
        """Take every step that is left, yielding its record.

        Each step seeds its own randomness (dropout), so that it does not depend on whether the
        run has been interrupted before it.

        Raises:
            DivergedError: a loss or gradient is not finite; it is raised before the optimizer's
                step, so the weights are still those of the last healthy step. Or the step itself
                left weights that are not.
        """
        self.model.train()
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        probe = StepSizeProbe(trainable, seed=self.seed)
        done = self.done
        for number, rows in enumerate(self.order, start=done.steps + 1):
            began = time.perf_counter()
            torch.manual_seed(_seed_of(self.seed, number, self.accelerator.process_index))
            loss = self._accumulate(rows)
            norm = self._gradient_norm(trainable)
            lr = float(self.optimizer.param_groups[0]["lr"])
            # Before clipping: scaled by a norm that is not finite, every gradient would break.
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise self._diverged(number, rows, loss=loss, norm=norm.item(), lr=lr)
            if self.max_grad_norm is not None:
                _clip(trainable, self.max_grad_norm, norm)
            probe.before()
            self.optimizer.step()
            moved = probe.after()
            details = self._details(number, rows, loss=loss, norm=norm.item(), lr=lr)
            if not math.isfinite(moved):
                raise DivergedError(
                    f"training diverged at step {number}: the step with lr {lr:g} left weights "
                    "that are not finite",
                    taken=True,
                    details=details,
                )
            self.schedule.step()
            self.optimizer.zero_grad()
            step_tokens = sum(self.examples.length(row) for row in rows)
            seconds = time.perf_counter() - began
            done.steps = number
            done.examples += len(rows)
            done.tokens += step_tokens
            done.loss_tokens += sum(self.examples.answer_length(row) for row in rows)
            yield StepRecord(
                step=number,
                loss=loss,
                lr=lr,
                grad_norm=norm.item(),
                step_size=moved,
                examples=done.examples,
                tokens=done.tokens,
                loss_tokens=done.loss_tokens,
                tokens_per_second=step_tokens / seconds,
                validation_loss=self._validate(number, details),
            )

    def _accumulate(self, rows: Sequence[int]) -> float:
        """Add up the gradients of one step's mean loss per token; return that loss.

        The mean is over the loss tokens of the whole step, on all processes: neither the layout
        into micro-batches nor the number of processes changes it. (A mean of micro-batch means
        would weight short answers more; transformers #34191.)
        """
        loss_tokens = sum(self.examples.answer_length(row) for row in rows)
        total = torch.zeros((), device=self.accelerator.device)
        passes = self.loss.passes(rows, self.examples, accelerator=self.accelerator)
        for index, (batch, weight) in enumerate(passes):
            last = index == len(passes) - 1
            # Processes exchange gradients once a step, with the last of its micro-batches.
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                # accelerate's precision is the model's own; the head may run behind it.
                with self.accelerator.autocast():
                    summed = self.loss(self.model, batch, device=self.accelerator.device)
                summed = summed * (weight / loss_tokens)
                total += summed.detach()
                # Data parallelism averages gradients over processes; this makes it their sum.
                self.accelerator.backward(summed * self.accelerator.num_processes)
        return float(self.accelerator.reduce(total, reduction="sum"))

    def _validate(self, number: int, details: dict[str, Any]) -> float | None:
        """The validation loss after a step, where it is due."""
        if self.validation is None or not self.validation.is_due(number):
            return None
        with evaluation_weights(self.optimizer):
            found = self.validation.measure(self.model, self.loss, self.accelerator)
        if not math.isfinite(found):
            raise DivergedError(
                f"training diverged at step {number}: the validation loss after it is {found:g}",
                taken=True,
                details=details | {"validation_loss": as_number(found)},
            )
        return found

    @staticmethod
    def _gradient_norm(trainable: list[nn.Parameter]) -> torch.Tensor:
        gradients = [p.grad for p in trainable if p.grad is not None]
        # Of sharded gradients it is a sum that has not been taken yet.
        return whole(nn.utils.get_total_norm(gradients))

    def _diverged(
        self, number: int, rows: Sequence[int], *, loss: float, norm: float, lr: float
    ) -> DivergedError:
        bad = [
            name
            for name, parameter in self.accelerator.unwrap_model(self.model).named_parameters()
            if parameter.grad is not None and not all_finite(parameter.grad)
        ]
        return DivergedError(
            f"training diverged at step {number}: loss {loss:g}, gradient norm {norm:g}, "
            f"{len(bad)} tensors with a gradient that is not finite"
            + (f" (the first: {bad[0]})" if bad else "")
            + "; the step was not taken",
            taken=False,
            details=self._details(number, rows, loss=loss, norm=norm, lr=lr)
            | {
                "parameters": bad[:_NAMED],
                "parameters_count": len(bad),
                "example_losses": self._losses(rows),
            },
        )

    def _details(
        self, number: int, rows: Sequence[int], *, loss: float, norm: float, lr: float
    ) -> dict[str, Any]:
        return {
            "step": number,
            "rows": list(rows),
            "loss": as_number(loss),
            "grad_norm": as_number(norm),
            "lr": lr,
        }

    def _losses(self, rows: Sequence[int]) -> list[float | str]:
        """Loss per token of each example of a step on its own: which of them is the bad one."""
        found: list[float | str] = []
        for row in rows:
            (batch,) = self.loss.lay_out([row], self.examples)
            with torch.no_grad(), self.accelerator.autocast():
                loss = self.loss(self.model, batch, device=self.accelerator.device).item()
            found.append(as_number(loss / max(1, self.examples.answer_length(row))))
        return found


def _clip(trainable: list[nn.Parameter], limit: float, norm: torch.Tensor) -> None:
    """Torch's clipping by a known norm, on each process's own part of the gradients."""
    scale = torch.clamp(limit / (norm + 1e-6), max=1.0)
    for parameter in trainable:
        if parameter.grad is not None:
            gradient = parameter.grad
            own = gradient.to_local() if isinstance(gradient, DTensor) else gradient
            own.mul_(scale.to(own.device))


def _seed_of(seed: int, step: int, process: int) -> int:
    """A seed of its own for each step of each process; neighbours are not related."""
    state = hashlib.sha256(f"{seed}/{step}/{process}".encode()).digest()
    return int.from_bytes(state[:8], "big") >> 1
