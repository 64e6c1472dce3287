"""Learning-rate schedules, by name."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import get_scheduler

from ftreg.config.sections import ScheduleConfig

# Our names, and transformers' names for the same shape with a warm-up.
_NAMES = {
    "constant": "constant_with_warmup",
    "linear": "linear",
    "cosine": "cosine",
    "cosine_with_min_lr": "cosine_with_min_lr",
    "warmup_stable_decay": "warmup_stable_decay",
    "inverse_sqrt": "inverse_sqrt",
}


def build_schedule(
    optimizer: torch.optim.Optimizer, config: ScheduleConfig, *, total_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Build the schedule; call its `step()` after each optimizer step.

    The warm-up takes `round(warmup * total_steps)` steps, at least one if `warmup` is above 0. The
    first step has lr divided by the warm-up steps, and the last is above the schedule's end:
    transformers counts from 0, so the first (or only) step of a run would have lr 0 and do nothing.

    Args:
        optimizer: the optimizer whose lr it sets.
        config: the schedule section.
        total_steps: number of optimizer steps, at least 1.
    """
    specific: dict[str, Any] = {}
    if config.name == "cosine_with_min_lr":
        specific = {"min_lr_rate": config.min_lr_ratio}
    elif config.name == "warmup_stable_decay":
        specific = {
            "num_decay_steps": max(1, round(config.decay * total_steps)),
            "min_lr_ratio": config.min_lr_ratio,
        }
    schedule: torch.optim.lr_scheduler.LambdaLR = get_scheduler(
        _NAMES[config.name],
        optimizer,
        num_warmup_steps=warmup_steps(config, total_steps=total_steps),
        num_training_steps=total_steps + 1,
        scheduler_specific_kwargs=specific,
    )
    schedule.lr_lambdas = [partial(_one_later, factor) for factor in schedule.lr_lambdas]
    for group, lr, factor in zip(
        optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
    ):
        group["lr"] = lr * factor(0)
    return schedule


def continue_schedule(schedule: torch.optim.lr_scheduler.LambdaLR, *, done: int) -> None:
    """Advance a new schedule to its position after `done` optimizer steps.

    The rate depends only on the configuration and the step, so a changed lr or schedule takes
    effect.
    """
    schedule.last_epoch = done
    schedule._step_count = done + 1
    rates = [
        lr * factor(done) for lr, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates


def _one_later(factor: Callable[[int], float], step: int) -> float:
    return factor(step + 1)


def warmup_steps(config: ScheduleConfig, *, total_steps: int) -> int:
    """Return the number of warm-up steps."""
    return max(1, round(config.warmup * total_steps)) if config.warmup > 0 else 0
