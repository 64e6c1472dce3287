"""Known problems with an optimizer's settings, reported before the run.

Each rule names its source. They are warnings, since a setting may be intended; `ftreg train
--strict` refuses to train with any of them.
"""

import math
from dataclasses import dataclass

from ftreg.config.optimizer import (
    AdafactorConfig,
    AdagradConfig,
    AdamConfig,
    AdamWConfig,
    LionConfig,
    MuonConfig,
    OptimizerConfig,
    RMSpropConfig,
    ScheduleFreeAdamWConfig,
    SGDConfig,
)
from ftreg.config.sections import RunConfig
from ftreg.records.printed import DESCRIBED

_CHEN = "Chen et al. 2023, arXiv 2302.06675"
_LION = f"{_CHEN}, section 5"
_DECAY = "Loshchilov and Hutter 2019, arXiv 1711.05101"
_RMSPROP = "Kingma and Ba 2015, arXiv 1412.6980, section 5"
_ADAFACTOR = "Shazeer and Stern 2018, arXiv 1804.04235, section 8"
_ADAGRAD = "Duchi et al. 2011, JMLR 12"
# Fine-tuning with AdamW uses 1e-5 to 5e-5 (all weights) or about 2e-4 (adapters); Lion's lr is 3 to
# 10 times lower, so this is about its upper end.
_LION_HIGH = {"full": 5e-5, "lora": 1e-4}
_ADAMW_HIGH = {"full": 5e-4, "lora": 2e-3}
# Adafactor's lr is relative to the weights, which are a few hundredths: T5 is fine-tuned with 1e-3.
_ADAFACTOR_LOW = 1e-4
# AdaGrad's step decreases as one over the square root of the steps: to a tenth after a hundred.
_ADAGRAD_LONG = 100
# A decay that by itself shrinks the weights of a fine-tuned model by a tenth is hardly intended.
_FIXED_DECAY_LEFT = 0.9


@dataclass(frozen=True, slots=True)
class Advice:
    """A warning about a setting."""

    __pydantic_config__ = DESCRIBED

    key: str
    """The setting, such as `optimizer.lr`."""
    text: str
    """What is known to go wrong, and what to set."""
    source: str
    """The paper or document it comes from."""

    def __str__(self) -> str:
        return f"{self.key}: {self.text} ({self.source})"


def advise(config: RunConfig, *, steps: int) -> list[Advice]:
    """Return the warnings about a configuration.

    Args:
        config: the complete configuration.
        steps: optimizer steps that the run will take.
    """
    kind = "full" if config.lora is None else "lora"
    optimizer = config.optimizer
    found: list[Advice] = []
    if isinstance(optimizer, LionConfig):
        found += _lion(optimizer, high=_LION_HIGH[kind], steps=steps)
    if isinstance(optimizer, AdamConfig) and optimizer.weight_decay > 0:
        found.append(
            Advice(
                "optimizer.weight_decay",
                "Adam's decay is L2: it is added to the gradient and then divided by the square "
                "root of the second moment, so weights with large gradients hardly decay; adamw "
                "has decoupled decay",
                _DECAY,
            )
        )
    if isinstance(optimizer, AdamConfig | AdamWConfig) and optimizer.lr > _ADAMW_HIGH[kind]:
        found.append(
            Advice(
                "optimizer.lr",
                f"{optimizer.lr:g} is above the usual fine-tuning range of {optimizer.name}, at "
                f"most {_ADAMW_HIGH[kind]:g}",
                "Mosbach et al. 2021, arXiv 2006.04884",
            )
        )
    if isinstance(optimizer, MuonConfig) and config.lora is None:
        found.append(
            Advice(
                "optimizer.name",
                "nearly every open model was pretrained with Adam, and fine-tuning all of its "
                "weights with Muon damages what it knows; train adapters (lora: {r: 16}), for "
                "which Muon is on a par with Adam, or use adamw",
                "Qu et al. 2026, arXiv 2605.10468",
            )
        )
    if isinstance(optimizer, AdafactorConfig):
        found += _adafactor(optimizer, adapters=config.lora is not None, steps=steps)
    if isinstance(optimizer, AdagradConfig):
        found += _adagrad(optimizer, warmup=config.schedule.warmup, steps=steps)
    if config.schedule.warmup == 0:
        found += _no_warmup(optimizer)
    if isinstance(optimizer, SGDConfig) and config.train.max_grad_norm is None:
        found.append(
            Advice(
                "train.max_grad_norm",
                "gradients of attention models are heavy-tailed: without clipping a single batch "
                "can undo many steps of SGD; set train.max_grad_norm",
                "Zhang et al. 2020, arXiv 1912.03194",
            )
        )
    return found


def _no_warmup(optimizer: OptimizerConfig) -> list[Advice]:
    found = []
    if isinstance(optimizer, AdamConfig | AdamWConfig | ScheduleFreeAdamWConfig):
        found.append(
            Advice(
                "schedule.warmup",
                f"without a warm-up {optimizer.name} takes its first steps at full lr, with a "
                "second moment estimated from a few batches, and fine-tuning can fail; set "
                "schedule.warmup",
                "Liu et al. 2020, arXiv 1908.03265; Mosbach et al. 2021, arXiv 2006.04884",
            )
        )
    if isinstance(optimizer, RMSpropConfig):
        # The running mean starts at 0, so after one step it is (1 - alpha) times the squared
        # gradient.
        factor = 1 / math.sqrt(1 - optimizer.alpha)
        found.append(
            Advice(
                "schedule.warmup",
                "rmsprop does not correct the bias of its mean, which starts at 0, so the first "
                f"step is {factor:.3g} times lr for every weight; set schedule.warmup",
                _RMSPROP,
            )
        )
    return found


def _lion(optimizer: LionConfig, *, high: float, steps: int) -> list[Advice]:
    found = []
    decay = optimizer.weight_decay
    if decay > 0 and not optimizer.weight_decouple:
        found.append(
            Advice(
                "optimizer.weight_decouple",
                "decay that is added to the gradient is lost in Lion's sign, unless it outweighs "
                "the gradient; in the paper it is decoupled",
                f"{_CHEN}, algorithm 2",
            )
        )
    elif optimizer.fixed_decay and (1 - decay) ** steps < _FIXED_DECAY_LEFT:
        found.append(
            Advice(
                "optimizer.fixed_decay",
                f"each step shrinks the decayed weights by {100 * decay:.3g} %, whatever lr and "
                f"its schedule are: after {steps} steps {100 * (1 - decay) ** steps:.2g} % of a "
                "weight is left; the paper multiplies weight_decay by lr",
                f"{_CHEN}, algorithm 2",
            )
        )
    if optimizer.lr > high:
        found.append(
            Advice(
                "optimizer.lr",
                f"{optimizer.lr:g} is a learning rate for AdamW; every step of Lion moves each "
                f"weight by lr, so it needs 3 to 10 times less: {optimizer.lr / 10:g} to "
                f"{optimizer.lr / 3:.2g}, with weight_decay higher by the same factor",
                _LION,
            )
        )
    if optimizer.betas[1] >= 0.999:
        found.append(
            Advice(
                "optimizer.betas",
                f"beta2 {optimizer.betas[1]:g} is Adam's; Lion's momentum of 0.99 forgets ten "
                "times faster",
                _LION,
            )
        )
    return found


def _adafactor(optimizer: AdafactorConfig, *, adapters: bool, steps: int) -> list[Advice]:
    found = []
    if steps * optimizer.lr**2 > 1:
        found.append(
            Advice(
                "optimizer.lr",
                "Adafactor caps lr at one over the square root of the step number, so with "
                f"{optimizer.lr:g} neither lr nor its schedule has any effect from step "
                f"{math.floor(optimizer.lr**-2) + 1} on",
                _ADAFACTOR,
            )
        )
    if adapters:
        found.append(
            Advice(
                "optimizer.name",
                "a step of Adafactor is lr times the root mean square of the weights, and one of "
                "the two matrices of an adapter starts at 0: its first steps are lr times "
                f"{optimizer.eps[1]:g}, the second value of optimizer.eps; use adamw",
                _ADAFACTOR,
            )
        )
    elif optimizer.lr < _ADAFACTOR_LOW:
        found.append(
            Advice(
                "optimizer.lr",
                f"{optimizer.lr:g} is a learning rate for AdamW; Adafactor multiplies it by the "
                "root mean square of the weights, a few hundredths, so they hardly move; T5 is "
                "fine-tuned with 1e-3",
                f"{_ADAFACTOR}; Raffel et al. 2020, arXiv 1910.10683, section 3.1",
            )
        )
    return found


def _adagrad(optimizer: AdagradConfig, *, warmup: float, steps: int) -> list[Advice]:
    found = []
    if optimizer.initial_accumulator_value == 0 and warmup == 0:
        found.append(
            Advice(
                "optimizer.initial_accumulator_value",
                "if the accumulator starts at 0, the first step is +-lr for every weight, however "
                "small its gradient; start it above 0, or set schedule.warmup",
                _ADAGRAD,
            )
        )
    if steps > _ADAGRAD_LONG:
        found.append(
            Advice(
                "optimizer.name",
                "AdaGrad accumulates squared gradients and never forgets: with dense gradients "
                f"its step falls to about {100 / math.sqrt(steps):.0f} % over these {steps} "
                "steps; rmsprop and adamw forget",
                _ADAGRAD,
            )
        )
    return found


class StepDecay:
    """Watches AdaGrad's effective step: how far a step moves the weights per unit of lr.

    The schedule's share is divided out, which leaves the accumulator's.
    """

    def __init__(self, *, below: float = 0.1) -> None:
        self._below = below
        self._largest = 0.0
        self._told = False

    def notice(self, *, step: int, step_size: float, lr: float) -> str | None:
        """Return a sentence, once, when the effective step has fallen below its limit."""
        if lr <= 0:
            return None
        effective = step_size / lr
        self._largest = max(self._largest, effective)
        if self._told or effective >= self._below * self._largest:
            return None
        self._told = True
        return (
            f"step {step}: AdaGrad's effective step has fallen to "
            f"{100 * effective / self._largest:.0f} % of its largest; the weights hardly move "
            "any more"
        )
