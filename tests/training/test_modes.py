"""Optimizers with modes: what is kept is not what is trained, and a run stays what it was."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from ftreg.optim import OptimizerConfig, build_optimizer
from ftreg.training.optim.modes import begin_training, evaluation_weights
from tests.conftest import Cli
from tests.fakes import Averaging

AVERAGING = "{name: custom, path: 'tests.fakes:Averaging', lr: 1.0}"
SCHEDULE_FREE = "{name: schedule_free_adamw, lr: 1e-1}"


@contextmanager
def watched() -> Iterator[dict[str, Any]]:
    """What is to be kept and what is trained, after the last step of any optimizer, flat."""
    seen: dict[str, Any] = {}

    def look(optimizer: Any, args: Any, kwargs: Any) -> None:
        trained, kept = [], []
        for group in optimizer.param_groups:
            for weight in group["params"]:
                state = optimizer.state[weight]
                z, y = state["z"].double(), weight.detach().double()
                trained.append(y.flatten())
                # y = (1 - beta1) z + beta1 x
                x = (y - 0.1 * z) / 0.9
                kept.append(state.get("x", x).double().flatten())
        seen.update(trained=torch.cat(trained), kept=torch.cat(kept))

    handle = register_optimizer_step_post_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def _written(folder: Path, names: list[str]) -> torch.Tensor:
    tensors = load_file(folder / "model.safetensors")
    return torch.cat([tensors[name].double().flatten() for name in names])


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("optimizer", [SCHEDULE_FREE, AVERAGING], ids=["by name", "custom"])
def test_a_checkpoint_holds_the_weights_to_keep(optimizer: str, cli: Cli, config: Path) -> None:
    """https://github.com/facebookresearch/schedule_free/issues/48"""
    given = ["-s", f"optimizer={optimizer}", "-s", "schedule.name=constant"]
    with watched() as seen:
        done = cli("train", config, *given, "-s", "train.epochs=4", "-o", "a", "--json")
    assert done.code == 0, done
    names = [name for group in done.json["optimizer"]["groups"] for name in group["parameters"]]
    kept = _written(Path("a"), names)
    assert _distance(kept, seen["kept"]) < 1e-6
    assert _distance(seen["trained"], seen["kept"]) > 1e-3


def test_a_state_holds_the_weights_that_are_trained(cli: Cli, config: Path) -> None:
    """The gap between the two is known, so that a state in the other mode would be noticed."""
    given = ["-s", f"optimizer={SCHEDULE_FREE}", "-s", "schedule.name=constant"]

    def stop(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with watched() as seen:
        handle = register_optimizer_step_post_hook(stop)
        try:
            done = cli("train", config, *given, "-s", "train.epochs=4", "-o", "a")
        finally:
            handle.remove()
    assert done.code == 130, done
    (state,) = Path("a.state").glob("step-*")
    facts = json.loads((state / "state.json").read_text())
    groups = facts["optimizer"]["groups"]
    assert all(group["train_mode"] is True for group in groups)
    assert _distance(_written(state, list(facts["optimizer"]["state"])), seen["trained"]) == 0


def _module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6))


def _steps(module: nn.Module, optimizer: Any, numbers: range) -> None:
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        for parameter in module.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def _flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


class Around(torch.optim.SGD):
    """An optimizer around another one, as DeepSpeed has it."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__([p for group in inner.param_groups for p in group["params"]])
        self.optimizer = inner

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.optimizer.step()


@pytest.mark.parametrize("around", [False, True])
def test_a_look_at_the_weights_to_keep_changes_no_bit(around: bool) -> None:
    """Also where accelerate's own `eval` once did not reach: accelerate PR 4130 and PR 4161."""
    looked, undisturbed = _module(), _module()
    config = OptimizerConfig(name="schedule_free_adamw", lr=1e-1)
    pairs = []
    for module in (looked, undisturbed):
        inner = build_optimizer(module, config)
        pairs.append((module, Around(inner) if around else inner))
    for number in range(10):
        for module, optimizer in pairs:
            _steps(module, optimizer, range(number, number + 1))
        with evaluation_weights(pairs[0][1]):
            assert _distance(_flat(looked), _flat(undisturbed)) > 1e-4 or number == 0
        assert torch.equal(_flat(looked), _flat(undisturbed))


def test_an_error_within_brings_the_trained_weights_back() -> None:
    module = _module()
    optimizer = Averaging(module.parameters(), lr=0.1)
    begin_training(optimizer)
    _steps(module, optimizer, range(3))
    before = _flat(module).clone()
    with pytest.raises(KeyboardInterrupt), evaluation_weights(optimizer):
        assert not torch.equal(_flat(module), before)
        raise KeyboardInterrupt
    assert torch.equal(_flat(module), before)
    _steps(module, optimizer, range(3, 4))  # which it would refuse in evaluation mode


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OneWay", "OneWay has modes, but its train() cannot"),
        ("Demanding", "Demanding has modes, but its train() cannot"),
    ],
)
def test_modes_that_cannot_be_switched_are_refused(
    name: str, expected: str, cli: Cli, config: Path
) -> None:
    optimizer = f"optimizer={{name: custom, path: 'tests.fakes:{name}', lr: 1e-3}}"
    done = cli("train", config, "-s", optimizer, "-o", "a")
    assert done.code == 2, done
    assert expected in done.err
    assert "give the class train() and eval() without arguments" in done.err


def test_beta1_of_a_schedule_free_run_cannot_change(cli: Cli, config: Path) -> None:
    """By it the weights to keep are found from those that are trained."""
    given = ["-s", "schedule.name=constant", "-s", f"optimizer={SCHEDULE_FREE}"]

    def stop(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    handle = register_optimizer_step_post_hook(stop)
    try:
        assert cli("train", config, *given, "-o", "a").code == 130
    finally:
        handle.remove()
    changed = ["-s", "optimizer.betas=[0.8, 0.999]", "--allow-change", "optimizer.betas"]
    done = cli("train", config, *given, *changed, "-o", "a", "--resume")
    assert done.code == 2, done
    assert "cannot be continued" in done.err and "optimizer.betas" in done.err
    lower = ["-s", "optimizer.lr=0.01", "--allow-change", "optimizer.lr"]
    assert cli("train", config, *given, *lower, "-o", "a", "--resume").code == 0
