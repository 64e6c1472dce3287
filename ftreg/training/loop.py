"""The training loop: one optimizer step after another.

An accelerator runs asynchronously; the loop waits for it only when it reads a number. If the
optimizer can skip a broken step by itself, all numbers of a step are read at once, at its end;
otherwise in two reads, so that a broken step is detected before it is taken.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
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
from ftreg.training.pass_size import PassSize, device_peak_gib
from ftreg.training.state.tensors import all_finite, whole
from ftreg.training.validation import Validation

# The most tensors with a broken gradient to name; there can be hundreds.
_NAMED = 20


@dataclass(slots=True)
class Progress:
    """What the steps so far have processed."""

    steps: int = 0
    examples: int = 0
    tokens: int = 0
    loss_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A prepared run; `steps()` carries it out.

    `model` and `optimizer` come from `accelerator.prepare`. `order` yields the row numbers of each
    remaining step, over all processes; `done` is what earlier sessions have done. `pass_size` is
    halved if a step does not fit into the device's memory, which `notice` reports. `validation`
    measures another loss after some of the steps.
    """

    accelerator: Accelerator
    model: nn.Module
    optimizer: Any
    schedule: torch.optim.lr_scheduler.LambdaLR
    examples: TokenisedExamples
    order: Iterable[Sequence[int]]
    loss: Loss
    pass_size: PassSize
    notice: Callable[[str], None]
    max_grad_norm: float | None
    seed: int
    validation: Validation | None = None
    done: Progress = field(default_factory=Progress)

    def steps(self) -> Iterator[StepRecord]:
        """Take every remaining step, yielding its record.

        Each step seeds its own random numbers (dropout), so that it does not depend on whether the
        run has been interrupted before.

        Raises:
            DivergedError: a loss or gradient is not finite; this is raised before the optimizer's
                step, so the weights are still those of the last healthy step. Or the step itself
                left weights that are not finite.
        """
        self.model.train()
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        probe = StepSizeProbe(trainable, seed=self.seed)
        done = self.done
        device = self.accelerator.device
        for number, rows in enumerate(self.order, start=done.steps + 1):
            began = time.perf_counter()
            total = self._attempt(number, rows)
            total_norm = self._gradient_norm(trainable)
            lr = float(self.optimizer.param_groups[0]["lr"])
            if not leave_out_broken(self.optimizer, total, total_norm):
                self._refuse_broken(number, rows, *read_numbers(total, total_norm), lr=lr)
            if self.max_grad_norm is not None:
                _clip(trainable, self.max_grad_norm, total_norm)
            probe.before()
            self.optimizer.step()
            loss, norm, moved = read_numbers(total, total_norm, probe.after())
            self._refuse_broken(number, rows, loss, norm, lr=lr)
            details = self._details(number, rows, loss=loss, norm=norm, lr=lr)
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
                grad_norm=norm,
                step_size=moved,
                examples=done.examples,
                tokens=done.tokens,
                loss_tokens=done.loss_tokens,
                tokens_per_second=step_tokens / seconds,
                device_gib=device_peak_gib(device),
                validation_loss=self._validate(number, details),
            )

    @property
    def _loss(self) -> Loss:
        """The loss, with the current number of tokens per pass."""
        rows = self.loss.row_tokens
        return replace(self.loss, row_tokens=self.pass_size.tokens) if rows else self.loss

    def _attempt(self, number: int, rows: Sequence[int]) -> torch.Tensor:
        """Accumulate the gradients of a step, in smaller passes if they do not fit.

        Raises:
            torch.OutOfMemoryError: passes cannot get smaller, or other processes share the step.
        """
        while True:
            # Each attempt draws the same random numbers.
            torch.manual_seed(_seed_of(self.seed, number, self.accelerator.process_index))
            try:
                return self._accumulate(rows)
            except torch.OutOfMemoryError:
                passes = len(self._loss.lay_out(rows, self.examples))
                if self.accelerator.num_processes > 1 or passes >= len(rows):
                    raise
            # Outside the handler, whose error keeps all computed tensors alive.
            self.optimizer.zero_grad()
            self.pass_size.halve(number)
            if self.accelerator.device.type == "cuda":
                torch.cuda.empty_cache()
            self.notice(
                f"step {number} does not fit into the device's memory: from here on a pass has at "
                f"most {self.pass_size.tokens} tokens; the loss stays the same"
            )

    def _accumulate(self, rows: Sequence[int]) -> torch.Tensor:
        """Accumulate the gradients of one step's mean loss per token; return that loss.

        The mean is over the loss tokens of the complete step, on all processes: neither the layout
        into micro-batches nor the number of processes changes it. (A mean of micro-batch means
        would give short answers more weight; transformers #34191.)
        """
        loss_tokens = sum(self.examples.answer_length(row) for row in rows)
        total = torch.zeros((), device=self.accelerator.device)
        passes = self._loss.passes(rows, self.examples, accelerator=self.accelerator)
        for index, (batch, weight) in enumerate(passes):
            last = index == len(passes) - 1
            # Processes exchange gradients once per step, with its last micro-batch.
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                # accelerate sets the precision within the model; the head may run outside it.
                with self.accelerator.autocast():
                    summed = self.loss(self.model, batch, device=self.accelerator.device)
                summed = summed * (weight / loss_tokens)
                total += summed.detach()
                # Data parallelism averages gradients over processes; this makes it their sum.
                self.accelerator.backward(summed * self.accelerator.num_processes)
        reduced: torch.Tensor = self.accelerator.reduce(total, reduction="sum")
        return reduced

    def _validate(self, number: int, details: dict[str, Any]) -> float | None:
        """Return the validation loss after a step, if it is due."""
        if self.validation is None or not self.validation.is_due(number):
            return None
        with evaluation_weights(self.optimizer):
            found = self.validation.measure(self.model, self._loss, self.accelerator)
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
        # For sharded gradients it is a sum that is still pending.
        return whole(nn.utils.get_total_norm(gradients))

    def _refuse_broken(
        self, number: int, rows: Sequence[int], loss: float, norm: float, *, lr: float
    ) -> None:
        """Reject a loss or a gradient that is not finite; the step was not taken."""
        if math.isfinite(loss) and math.isfinite(norm):
            return
        bad = [
            name
            for name, parameter in self.accelerator.unwrap_model(self.model).named_parameters()
            if parameter.grad is not None and not all_finite(parameter.grad)
        ]
        raise DivergedError(
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
        """Return the loss per token of each example of a step, to find the bad one."""
        found: list[float | str] = []
        for row in rows:
            (batch,) = self.loss.lay_out([row], self.examples)
            with torch.no_grad(), self.accelerator.autocast():
                loss = self.loss(self.model, batch, device=self.accelerator.device).item()
            found.append(as_number(loss / max(1, self.examples.answer_length(row))))
        return found


def _clip(trainable: list[nn.Parameter], limit: float, norm: torch.Tensor) -> None:
    """Clip by a known norm like torch, on each process's own part of the gradients.

    With a NaN norm every gradient would become NaN, and the ones broken before could no longer be
    identified.
    """
    scale = torch.clamp(limit / (norm + 1e-6), max=1.0).nan_to_num(nan=1.0)
    for parameter in trainable:
        if parameter.grad is not None:
            gradient = parameter.grad
            own = gradient.to_local() if isinstance(gradient, DTensor) else gradient
            own.mul_(scale.to(own.device))


def leave_out_broken(optimizer: Any, *measured: torch.Tensor) -> bool:
    """Make the next step of a fused optimizer change nothing if a number is not finite.

    It decides on the device, as for a gradient scaler, whose private attribute this sets
    (`torch.amp.GradScaler.step`).

    Args:
        optimizer: torch's, or accelerate's wrapper around it.
        measured: scalars () on the device.

    Returns:
        Whether it will; on a CPU the numbers can be read at once, so this is not used.
    """
    inner = getattr(optimizer, "optimizer", optimizer)
    takes = getattr(inner, "_step_supports_amp_scaling", False)
    if not takes or not works_behind(measured[0].device):
        return False
    finite = torch.stack([torch.isfinite(number) for number in measured]).all()
    inner.found_inf = (~finite).float()
    return True


def works_behind(device: torch.device) -> bool:
    """Whether a device computes asynchronously to the loop."""
    return device.type != "cpu"


def read_numbers(*measured: torch.Tensor) -> list[float]:
    """Read scalars () from a device, waiting for it once."""
    found: list[float] = torch.stack([number.float() for number in measured]).tolist()
    return found


def _seed_of(seed: int, step: int, process: int) -> int:
    """Return a separate seed for each step of each process, unrelated to its neighbours."""
    state = hashlib.sha256(f"{seed}/{step}/{process}".encode()).digest()
    return int.from_bytes(state[:8], "big") >> 1
