"""Custom scorers and optimizers, loaded by import path."""

import random
from collections.abc import Sequence
from typing import Any

import torch

from ftreg.records.samples import Sample, Score


class LengthScorer:
    """Output length as a share of `limit` characters; null for an empty output."""

    name = "length"
    version = 1

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version, "options": {"limit": self.limit}}

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return [
            Score(min(1.0, len(sample.output) / self.limit))
            if sample.output
            else Score(None, "the output is empty")
            for sample in samples
        ]


def length_scorer(limit: int = 100) -> LengthScorer:
    return LengthScorer(limit)


class VarietyScorer(LengthScorer):
    """The share of distinct characters in an output: low if a model repeats itself."""

    name = "variety"

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return [Score(len(set(one.output)) / max(1, len(one.output))) for one in samples]


def variety_scorer() -> VarietyScorer:
    return VarietyScorer(limit=1)


class BrokenScorer(LengthScorer):
    """A scorer that cannot score."""

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        raise RuntimeError("out of order")


def broken_scorer() -> BrokenScorer:
    return BrokenScorer(limit=1)


class Drifting(torch.optim.SGD):
    """An optimizer that does not use its settings: it doubles the learning rate."""

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=2 * lr, weight_decay=weight_decay)


class Averaging(torch.optim.SGD):
    """Schedule-free SGD, from its definition: arXiv 2405.15682, equations 2 to 4.

    It starts in evaluation mode, in which `step` raises RuntimeError; no state dict has its mode.
    """

    beta = 0.9

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        self.training = False

    def _mixed(self, key: str) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if "x" in state:
                    mixed = (1 - self.beta) * state["z"] + self.beta * state["x"]
                    parameter.copy_(mixed if key == "y" else state["x"])

    def train(self) -> None:
        if not self.training:
            self._mixed("y")
        self.training = True

    def eval(self) -> None:
        if self.training:
            self._mixed("x")
        self.training = False

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        if not self.training:
            raise RuntimeError("a step in evaluation mode")
        for group in self.param_groups:
            for y in group["params"]:
                state = self.state[y]
                if not state:
                    state.update(t=0, x=y.clone(), z=y.clone())
                state["t"] += 1
                state["z"] -= group["lr"] * y.grad
                state["x"].lerp_(state["z"], 1 / state["t"])
        self._mixed("y")


class OneWay(torch.optim.SGD):
    """An optimizer with `eval` but without `train`."""

    def eval(self) -> None:
        return


class Demanding(torch.optim.SGD):
    """An optimizer whose `train` requires an argument."""

    def train(self, mode: str) -> None:
        return

    def eval(self) -> None:
        return


class Unrepeatable(torch.optim.SGD):
    """An optimizer whose steps are not reproducible with a seed."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(1e-4 * random.SystemRandom().random())
        return loss


class Secretive(torch.optim.SGD):
    """An optimizer with state that cannot be saved to a file."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["secret"] = object()
