"""The training loop: one optimizer step after another, and nothing else."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional

from ftreg.errors import DivergedError
from ftreg.optim.step_size import StepSizeProbe
from ftreg.training.batches import MicroBatch, micro_batches
from ftreg.training.events import StepRecord
from ftreg.training.examples import TokenisedExamples


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A prepared run; `steps()` carries it out.

    `model` and `optimizer` are what `accelerator.prepare` gave. `order` holds the row numbers of
    each step, over all processes; `own_attention` says whether the model has been switched to
    `packed_attention`.
    """

    accelerator: Accelerator
    model: nn.Module
    optimizer: Any
    schedule: torch.optim.lr_scheduler.LambdaLR
    examples: TokenisedExamples
    order: Sequence[Sequence[int]]
    micro_batch_tokens: int
    packing: bool
    own_attention: bool
    max_grad_norm: float | None
    seed: int

    def steps(self) -> Iterator[StepRecord]:
        """Take every step of the run, yielding its record.

        Raises:
            DivergedError: a loss or gradient is not finite; it is raised before the optimizer's
                step, so the weights are still those of the last healthy step. Or the step itself
                left weights that are not.
        """
        self.model.train()
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        probe = StepSizeProbe(trainable, seed=self.seed)
        tokens = 0
        for number, rows in enumerate(self.order, start=1):
            began = time.perf_counter()
            loss = self._accumulate(rows)
            norm = self._clip(trainable)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise self._diverged(number, rows, loss=loss, norm=norm)
            lr = float(self.optimizer.param_groups[0]["lr"])
            probe.before()
            self.optimizer.step()
            moved = probe.after()
            if not math.isfinite(moved):
                raise DivergedError(
                    f"training diverged at step {number}: the step with lr {lr:g} left weights "
                    "that are not finite. Try a lower optimizer.lr."
                )
            self.schedule.step()
            self.optimizer.zero_grad()
            step_tokens = sum(self.examples.length(row) for row in rows)
            tokens += step_tokens
            yield StepRecord(
                step=number,
                loss=loss,
                lr=lr,
                grad_norm=norm,
                step_size=moved,
                tokens=tokens,
                tokens_per_second=step_tokens / (time.perf_counter() - began),
            )

    def _accumulate(self, rows: Sequence[int]) -> float:
        """Add up the gradients of one step's mean loss per token; return that loss.

        The mean is over the loss tokens of the whole step, on all processes: neither the layout
        into micro-batches nor the number of processes changes it. (A mean of micro-batch means
        would weight short answers more; transformers #34191.)
        """
        workers = self.accelerator.num_processes
        loss_tokens = sum(self.examples.answer_length(row) for row in rows)
        own = rows[self.accelerator.process_index :: workers]
        # A process without an example still has to take part in the gradients' exchange.
        weight = 1.0 if own else 0.0
        batches = micro_batches(
            own or rows[:1],
            self.examples,
            max_tokens=self.micro_batch_tokens,
            packing=self.packing,
        )
        total = torch.zeros((), device=self.accelerator.device)
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            # Processes exchange gradients once a step, with the last of its micro-batches.
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                summed = completion_loss(
                    self.model,
                    batch,
                    device=self.accelerator.device,
                    own_attention=self.own_attention,
                )
                summed = summed * (weight / loss_tokens)
                total += summed.detach()
                # Data parallelism averages gradients over processes; this makes it their sum.
                self.accelerator.backward(summed * workers)
        return float(self.accelerator.reduce(total, reduction="sum"))

    def _clip(self, trainable: list[nn.Parameter]) -> float:
        limit = math.inf if self.max_grad_norm is None else self.max_grad_norm
        return float(self.accelerator.clip_grad_norm_(trainable, limit))

    def _diverged(
        self, number: int, rows: Sequence[int], *, loss: float, norm: float
    ) -> DivergedError:
        bad = [
            name
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
        ]
        return DivergedError(
            f"training diverged at step {number}: loss {loss:g}, gradient norm {norm:g}, "
            f"{len(bad)} tensors with a gradient that is not finite"
            + (f" (the first: {bad[0]})" if bad else "")
            + "; the step was not taken. Try a lower optimizer.lr, a longer schedule.warmup, or "
            "train.precision=fp32."
        )


def completion_loss(
    model: nn.Module, batch: MicroBatch, *, device: torch.device, own_attention: bool
) -> torch.Tensor:
    """Return the summed negative log-likelihood of a micro-batch's answers, in nats.

    The language-model head runs at the positions that carry loss only: `logits_to_keep` takes
    their indices. There is no attention mask: either `packed_attention` is told the examples'
    lengths, or positions that start again at 0 tell transformers where an example begins, and its
    causal mask becomes block-diagonal.
    """
    lengths = {"example_lengths": batch.lengths} if own_attention else {}
    output = model(
        input_ids=batch.input_ids.to(device),
        position_ids=batch.position_ids.to(device),
        logits_to_keep=batch.predict.to(device),
        use_cache=False,
        **lengths,
    )
    logits = output.logits[0].float()
    return functional.cross_entropy(logits, batch.targets.to(device), reduction="sum")
