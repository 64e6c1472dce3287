"""How many tokens a pass through the model has: on an accelerator, as many as fit in memory.

A step's loss is divided by the number of tokens in the step, so the size of a pass affects only
time, memory and the last bits. On a CPU small passes are as fast as any. On an accelerator, kernel
launches would dominate, so the memory per token is measured before the first step. If a pass does
not fit after all, its size is halved, and the step is recomputed.
"""

from dataclasses import asdict, dataclass, field

import torch
from accelerate import Accelerator
from torch import nn

from ftreg.config.sections import RunConfig
from ftreg.training.batching.examples import TokenisedExamples
from ftreg.training.loss import Loss

LEAST = 2048
"""Tokens of a pass on a CPU, or if nothing can be measured."""
_MOST = 1 << 16
# The share of free memory for activations; the rest allows for what the allocator wastes.
_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Halving:
    """A step that did not fit, and the tokens of a pass from that step on."""

    step: int
    tokens: int


@dataclass(slots=True)
class PassSize:
    """The maximum tokens of a pass during a run, and when they were halved."""

    tokens: int
    halvings: list[Halving] = field(default_factory=list)

    def halve(self, step: int) -> None:
        """From this step on, put half as many tokens into a pass."""
        self.tokens //= 2
        self.halvings.append(Halving(step, self.tokens))

    def facts(self) -> list[dict[str, int]]:
        """Return the halvings, JSON-ready."""
        return [asdict(halving) for halving in self.halvings]

    def take_over(self, facts: list[dict[str, int]]) -> None:
        """Restore the halvings of an interrupted run."""
        self.halvings = [Halving(**fact) for fact in facts]
        if self.halvings:
            self.tokens = self.halvings[-1].tokens


def with_pass_size(config: RunConfig, tokens: int | None) -> RunConfig:
    """Return a configuration with this `train.micro_batch_tokens`, unless it already sets it."""
    if tokens is None or config.train.micro_batch_tokens is not None:
        return config
    train = config.train.model_copy(update={"micro_batch_tokens": tokens})
    return config.model_copy(update={"train": train})


def choose_pass_size(
    model: nn.Module,
    examples: TokenisedExamples,
    loss: Loss,
    *,
    config: RunConfig,
    accelerator: Accelerator,
) -> PassSize:
    """Return the maximum tokens of a pass: as configured, or as many as fit this machine.

    A measured size is a power of two, so that a little more or less free memory changes no bits. It
    is measured only if attention gets the lengths: a mask grows with the square of a row.

    Args:
        model: the prepared model, on its device.
        examples: the training examples.
        loss: the loss that will train.
        config: the complete configuration.
        accelerator: the run's accelerator.
    """
    settings, device = config.train, accelerator.device
    if device.type == "cuda" and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats(device)  # of an earlier run in this process
    if settings.micro_batch_tokens is not None:
        return PassSize(settings.micro_batch_tokens)
    if device.type != "cuda" or not loss.packed_attention or accelerator.is_fsdp2:
        return PassSize(LEAST)
    most = min(_MOST, settings.batch_size * examples.longest())
    per_token = _bytes_of_a_token(model, examples, loss, accelerator=accelerator)
    tokens = tokens_that_fit(_free(device) - _state_bytes(model), per_token=per_token, most=most)
    if accelerator.num_processes > 1:  # another process's device may hold less
        found: torch.Tensor = accelerator.gather(torch.tensor([tokens], device=device))
        tokens = int(found.min())
    return PassSize(tokens)


def tokens_that_fit(free: int, *, per_token: float, most: int) -> int:
    """Return the largest power of two of tokens that fit, from 2,048 up to a step's tokens.

    Args:
        free: bytes available for activations.
        per_token: bytes of activations per token; above 0.
        most: tokens in the largest step.
    """
    tokens = LEAST
    while tokens < most and 2 * tokens * per_token <= _SHARE * free:
        tokens *= 2
    return tokens


def _bytes_of_a_token(
    model: nn.Module, examples: TokenisedExamples, loss: Loss, *, accelerator: Accelerator
) -> float:
    """Measure two passes over the longest examples; the first also allocates the gradients."""
    device = accelerator.device
    batch = loss.lay_out(_longest(examples), examples)[0]
    peak = before = 0
    model.train()
    for _ in range(2):
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        with accelerator.no_sync(model):
            with accelerator.autocast():
                summed = loss(model, batch, device=device)
            accelerator.backward(summed)
        peak = torch.cuda.max_memory_allocated(device)
    for parameter in model.parameters():
        parameter.grad = None
    return max(1.0, (peak - before) / batch.input_ids.shape[1])


def _longest(examples: TokenisedExamples) -> list[int]:
    """Return as many of the longest examples as a small pass holds, at least one."""
    rows = sorted(range(len(examples)), key=examples.length, reverse=True)
    found: list[int] = []
    tokens = 0
    for row in rows:
        tokens += examples.length(row)
        if found and tokens > LEAST:
            break
        found.append(row)
    return found


def _free(device: torch.device) -> int:
    """Return the bytes that the device and this process's allocator have left."""
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0]


def _state_bytes(model: nn.Module) -> int:
    """Return the bytes of gradients and optimizer state, two numbers a weight, still to come."""
    trained = (p for p in model.parameters() if p.requires_grad)
    return sum(3 * p.numel() * p.element_size() for p in trained)


def device_peak_gib(device: torch.device) -> float | None:
    """Return the peak GiB of this process's tensors on a device; None on a CPU."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
