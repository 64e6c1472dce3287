"""Optimizers: each against its definition, and the built one against the configuration."""

from typing import Any

import numpy as np
import pytest
import torch
from lion_pytorch import Lion as ReferenceLion
from torch import nn

from ftreg.errors import UsageError
from ftreg.optim import OptimizerConfig, build_optimizer, parameter_groups

STEPS = 200


def _gradients() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(STEPS, 7))


def _run(config: OptimizerConfig) -> np.ndarray:
    weights = nn.Parameter(torch.linspace(-1, 1, 7, dtype=torch.float64))
    optimizer = build_optimizer([weights], config)
    for gradient in _gradients():
        weights.grad = torch.tensor(gradient)
        optimizer.step()
    return weights.detach().numpy()


def _sgd(p: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    g = g + 0.1 * p
    s["b"] = g if t == 1 else 0.9 * s["b"] + g
    return p - 0.01 * s["b"]


def _adagrad(p: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    g = g + 0.1 * p
    s["v"] = s.get("v", np.full_like(p, 0.5)) + g**2
    return p - 0.01 / (1 + (t - 1) * 0.01) * g / (np.sqrt(s["v"]) + 1e-10)


def _adam(p: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g**2
    return p - 0.01 * (s["m"] / (1 - 0.9**t)) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-8)


def _adam_l2(p: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    return _adam(p, g + 0.1 * p, s, t)


def _adamw(p: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    return _adam(p, g, s, t) - 0.01 * 0.1 * p


def _lion(p: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    m = s.get("m", np.zeros_like(p))
    s["m"] = 0.99 * m + 0.01 * g
    return p * (1 - 0.01 * 0.1) - 0.01 * np.sign(0.9 * m + 0.1 * g)


def _rmsprop(p: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    g = g + 0.1 * p
    s["v"] = 0.99 * s.get("v", 0) + 0.01 * g**2
    return p - 0.01 * g / (np.sqrt(s["v"]) + 1e-8)


@pytest.mark.parametrize(
    ("rule", "config"),
    [
        (_sgd, OptimizerConfig(name="sgd", lr=0.01, momentum=0.9, weight_decay=0.1)),
        (
            _adagrad,
            OptimizerConfig(
                name="adagrad",
                lr=0.01,
                lr_decay=0.01,
                weight_decay=0.1,
                initial_accumulator_value=0.5,
            ),
        ),
        (_adam_l2, OptimizerConfig(name="adam", lr=0.01, weight_decay=0.1)),
        (_adamw, OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.1)),
        (_lion, OptimizerConfig(name="lion", lr=0.01, weight_decay=0.1)),
        (_rmsprop, OptimizerConfig(name="rmsprop", lr=0.01, weight_decay=0.1)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_rule_against_its_definition(rule: Any, config: OptimizerConfig) -> None:
    weights, state = np.linspace(-1, 1, 7), {}
    for t, gradient in enumerate(_gradients(), start=1):
        weights = rule(weights, gradient, state, t)
    np.testing.assert_allclose(_run(config), weights, rtol=1e-10)


def test_adam_and_adamw_differ_in_their_decay() -> None:
    adam = _run(OptimizerConfig(name="adam", lr=0.01, weight_decay=0.1))
    adamw = _run(OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.1))
    assert np.abs(adam - adamw).max() > 1e-3


def test_lion_is_bitwise_the_reference_in_fp32() -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 50)) for _ in range(2))
    config = OptimizerConfig(name="lion", lr=1e-3, weight_decay=0.1)
    pairs = [
        (ours, build_optimizer([ours], config)),
        (theirs, ReferenceLion([theirs], lr=1e-3, weight_decay=0.1)),
    ]
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        gradient = torch.randn(50, generator=generator)
        for weights, optimizer in pairs:
            weights.grad = gradient.clone()
            optimizer.step()
    assert torch.equal(ours, theirs)


class RMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1))  # two dimensions: only its type tells


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.linear = nn.Linear(4, 4)
        self.norm = RMSNorm()
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight


def test_groups_hold_every_trainable_parameter_once() -> None:
    config = OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.1)
    groups = {group.name: group for group in parameter_groups(Model(), config)}
    assert groups["decayed"].names == ("embed.weight", "linear.weight")
    assert groups["undecayed"].names == ("linear.bias", "norm.weight")
    optimizer = build_optimizer(Model(), config)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


@pytest.mark.parametrize(
    ("switch", "decayed"),
    [
        ({"decay_embeddings": False}, {"linear.weight"}),
        (
            {"decay_norms_and_biases": True},
            {"embed.weight", "linear.weight", "linear.bias", "norm.weight"},
        ),
    ],
)
def test_group_switches(switch: dict[str, bool], decayed: set[str]) -> None:
    config = OptimizerConfig(name="adamw", lr=1e-3, **switch)
    assert set(parameter_groups(Model(), config)[0].names) == decayed


def test_an_optimizer_that_does_not_keep_its_settings_is_refused() -> None:
    config = OptimizerConfig(name="custom", path="tests.fakes:Drifting", lr=1e-3)
    with pytest.raises(UsageError, match=r"holds 0\.002, but the configuration says 0\.001"):
        build_optimizer(Model(), config)


def test_custom_options_that_the_class_does_not_take_are_refused() -> None:
    config = OptimizerConfig(
        name="custom", path="torch.optim:SGD", lr=1e-3, options={"momentom": 0.9}
    )
    with pytest.raises(UsageError, match="does not take momentom"):
        build_optimizer(Model(), config)


@pytest.mark.parametrize("key", ["lr", "weight_decay", "params"])
def test_custom_options_cannot_hide_the_recorded_settings(key: str) -> None:
    with pytest.raises(ValueError, match=f"set optimizer.{key} instead"):
        OptimizerConfig(name="custom", path="torch.optim:SGD", lr=1e-3, options={key: 1.0})


def test_a_value_that_torch_refuses_is_the_users_error() -> None:
    config = OptimizerConfig(name="sgd", lr=1e-3, nesterov=True)
    with pytest.raises(UsageError, match="sgd refuses its settings"):
        build_optimizer(Model(), config)


@pytest.mark.parametrize("name", ["adagrad", "adam", "adamw", "lion", "rmsprop", "sgd"])
def test_unknown_arguments_are_refused_by_every_schema(name: str) -> None:
    with pytest.raises(ValueError, match="rectify"):
        OptimizerConfig(name=name, lr=1e-3, rectify=True)
