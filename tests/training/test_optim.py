"""Optimizers: each against its definition, and the built one against the configuration."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lion_pytorch import Lion as ReferenceLion
from torch import nn

from ftreg.config.optimizer import OPTIMIZERS
from ftreg.config.sections import ScheduleConfig
from ftreg.errors import UsageError
from ftreg.optim import OptimizerConfig, build_optimizer, parameter_groups
from ftreg.training.optim.modes import evaluation_weights
from ftreg.training.optim.schedule import build_schedule
from tests.conftest import Cli, make_model

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


def _adafactor(p: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    size = max(1e-3, np.sqrt(np.mean(p**2))) * min(0.3, t**-0.5)
    share = t**-0.8
    if p.ndim == 1:
        s["v"] = (1 - share) * s.get("v", 0) + share * g**2
        v = s["v"]
    else:
        s["r"] = (1 - share) * s.get("r", 0) + share * (g**2).mean(1)
        s["c"] = (1 - share) * s.get("c", 0) + share * (g**2).mean(0)
        v = np.outer(s["r"], s["c"]) / s["r"].mean()
    u = g / np.sqrt(v)
    return p * (1 - 0.3 * 0.1) - size * u / max(1, np.sqrt(np.mean(u**2)) / 1.5)


def _schedule_free(p: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    """By its three sequences; what is trained is y, what is kept x (arXiv 2405.15682, 2 to 4)."""
    lr = 0.01 * min(1, t / 5)
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g**2
    step = g / (np.sqrt(s["v"] / (1 - 0.999**t) + 1e-15) + 1e-8) + 0.1 * p
    z = s.get("z", p) - lr * step
    s["sum"] = s.get("sum", 0) + lr**2
    share = lr**2 / s["sum"]
    x = (1 - share) * s.get("x", p) + share * z
    s |= {"z": z, "x": x}
    return (1 - 0.9) * z + 0.9 * x


@pytest.mark.parametrize(
    ("rule", "config"),
    [
        (
            _adafactor,
            OptimizerConfig(name="adafactor", lr=0.3, weight_decay=0.1, d=1.5),
        ),
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


def test_adafactor_keeps_a_row_and_a_column_of_a_matrix() -> None:
    config = OptimizerConfig(name="adafactor", lr=0.3, weight_decay=0.1, d=1.5)
    ours = nn.Parameter(torch.linspace(-1, 1, 15, dtype=torch.float64).view(5, 3))
    theirs, state = ours.detach().clone().numpy(), {}
    optimizer = build_optimizer([ours], config)
    rng = np.random.default_rng(0)
    for t in range(1, STEPS + 1):
        gradient = rng.normal(size=(5, 3))
        ours.grad = torch.tensor(gradient)
        optimizer.step()
        theirs = _adafactor(theirs, gradient, state, t)
    np.testing.assert_allclose(ours.detach(), theirs, rtol=1e-10)
    shapes = {key: tuple(value.shape) for key, value in optimizer.state[ours].items()}
    assert shapes == {"step": (), "row_var": (5, 1), "col_var": (1, 3)}


def test_schedule_free_adamw_trains_one_sequence_and_keeps_its_average() -> None:
    """The warm-up is the schedule's, which comes to the same as one of the class itself."""
    weights = nn.Parameter(torch.linspace(-1, 1, 7, dtype=torch.float64))
    config = OptimizerConfig(name="schedule_free_adamw", lr=0.01, weight_decay=0.1)
    optimizer = build_optimizer([weights], config)
    constant = ScheduleConfig(name="constant", warmup=5 / STEPS)
    schedule = build_schedule(optimizer, constant, total_steps=STEPS)
    expected, state = np.linspace(-1, 1, 7), {}
    sizes = 10.0 ** np.arange(-9, -2)  # down to where the library's own 1e-15 below the root counts
    for t, gradient in enumerate(sizes * _gradients(), start=1):
        weights.grad = torch.tensor(gradient)
        optimizer.step()
        schedule.step()
        expected = _schedule_free(expected, gradient, state, t)
    np.testing.assert_allclose(weights.detach(), expected, rtol=1e-10)
    with evaluation_weights(optimizer):
        np.testing.assert_allclose(weights.detach(), state["x"], rtol=1e-10)
    assert np.abs(state["x"] - expected).max() > 1e-3
    np.testing.assert_allclose(weights.detach(), expected, rtol=1e-10)


def _muon(
    p: np.ndarray, gradients: list[np.ndarray], *, scale: float, nesterov: float = 1, decay: float
) -> np.ndarray:
    m = np.zeros_like(p)
    for g in gradients:
        m = 0.9 * m + 0.1 * g
        x = nesterov * (0.1 * g + 0.9 * m) + (1 - nesterov) * m
        x = x / np.linalg.norm(x)
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x - 4.775 * gram @ x + 2.0315 * gram @ gram @ x
        p = p * (1 - 0.02 * decay) - 0.02 * scale * x
    return p


@pytest.mark.parametrize(
    ("shape", "adjust", "scale"),
    [
        ((24, 6), "original", 2.0),
        ((6, 24), "original", 1.0),
        ((6, 24), "match_rms_adamw", 0.2 * 24**0.5),
    ],
)
def test_muon_against_its_definition(shape: tuple[int, int], adjust: str, scale: float) -> None:
    """Torch iterates in bfloat16, whose rounding is all that may lie between the two."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=shape)
    gradients = [rng.normal(size=shape) for _ in range(10)]
    weights = nn.Parameter(torch.tensor(start))
    settings = {"momentum": 0.9, "weight_decay": 0.1, "adjust_lr_fn": adjust}
    config = OptimizerConfig(name="muon", lr=0.02, adamw_lr=1.0, **settings)
    optimizer = build_optimizer([weights], config)
    for gradient in gradients:
        weights.grad = torch.tensor(gradient)
        optimizer.step()

    def distance(**changes: Any) -> float:
        other = _muon(start, gradients, **{"scale": scale, "decay": 0.1, **changes})
        return float(np.linalg.norm(weights.detach() - other) / np.linalg.norm(other - start))

    assert distance() < 0.02
    wrong = [{"scale": 1.1 * scale}, {"nesterov": 0}, {"decay": 0.0}]
    assert min(distance(**change) for change in wrong) > 0.05


def test_muon_takes_hidden_matrices_and_adamw_the_rest_as_each_would_alone() -> None:
    config = OptimizerConfig(
        name="muon", lr=0.02, adamw_lr=3e-3, adamw_weight_decay=0.2, adamw_betas=[0.8, 0.9]
    )
    ours, theirs = Model(), Model()
    theirs.load_state_dict(ours.state_dict())
    groups = parameter_groups(ours, config)
    assert [(group.name, group.weight_decay, group.names) for group in groups] == [
        ("muon", 0.1, ("linear.weight",)),
        ("adamw decayed", 0.2, ("embed.weight",)),
        ("adamw undecayed", 0.0, ("linear.bias", "norm.weight")),
    ]
    built = build_optimizer(ours, config)
    apart = [
        torch.optim.Muon([theirs.linear.weight], lr=0.02),
        torch.optim.AdamW([theirs.embed.weight], lr=3e-3, weight_decay=0.2, betas=(0.8, 0.9)),
        torch.optim.AdamW(
            [theirs.linear.bias, theirs.norm.weight], lr=3e-3, weight_decay=0, betas=(0.8, 0.9)
        ),
    ]
    assert [group["lr"] for group in built.param_groups] == [0.02, 3e-3, 3e-3]
    schedule = build_schedule(built, ScheduleConfig(warmup=0.5), total_steps=8)
    for _ in range(8):
        rates = [group["lr"] for group in built.param_groups]
        for optimizer, rate in zip(apart, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.grad = other.grad = torch.randn_like(one) if one.requires_grad else None
        for optimizer in (built, *apart):
            optimizer.step()
        schedule.step()
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert rates[0] / rates[1] == pytest.approx(0.02 / 3e-3)


def _shown(cli: Cli, config: Path, *changes: str) -> Any:
    given = [part for change in changes for part in ("-s", change)]
    done = cli("optim", "show", config, *given, "--json")
    assert done.code == 0, done
    return done.json


def test_muons_groups_of_a_model_are_shown(cli: Cli, config: Path, tmp_path: Path) -> None:
    """The output layer is AdamW's where it has weights of its own, and adapters are Muon's."""
    muon = "optimizer={name: muon, lr: 1e-3, adamw_lr: 1e-4}"
    model = make_model(tmp_path / "untied", tie_word_embeddings=False)
    whole = _shown(cli, config, muon, f"base.model={model}")
    hidden, decayed, undecayed = (group["parameters"] for group in whole["groups"])
    assert decayed == ["model.embed_tokens.weight", "lm_head.weight"]
    assert all(name.endswith("_proj.weight") for name in hidden) and len(hidden) == 14
    assert all("norm" in name for name in undecayed)
    assert whole["arguments"]["lr"] == 1e-3 and whole["arguments"]["adamw_lr"] == 1e-4
    assert [item["source"] for item in whole["advice"]] == ["Qu et al. 2026, arXiv 2605.10468"]
    adapters = _shown(cli, config, muon, "lora.r=2")
    assert [group["name"] for group in adapters["groups"]] == ["muon"]
    assert adapters["advice"] == []
    text = cli("optim", "show", config, "-s", muon).out
    assert "adamw undecayed" in text and "adamw_lr" in text


def test_muon_without_a_matrix_is_refused(cli: Cli, config: Path) -> None:
    changes = ["optimizer={name: muon, lr: 1e-3, adamw_lr: 1e-4}", "lora={r: 2}"]
    given = [part for change in changes for part in ("-s", change)]
    target = ["-s", "lora.target_modules=[embed_tokens]"]
    done = cli("train", config, *given, *target, "-o", "a")
    assert done.code == 2, done
    assert "optimizer.name: muon trains the matrices of hidden linear layers" in done.err


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
    with pytest.raises(UsageError, match="sgd rejects its settings"):
        build_optimizer(Model(), config)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "custom"])
def test_unknown_arguments_are_refused_by_every_schema(name: str) -> None:
    with pytest.raises(ValueError, match="rectify"):
        OptimizerConfig(name=name, lr=1e-3, rectify=True)


def test_schedule_free_adamw_wants_a_constant_schedule(cli: Cli, config: Path) -> None:
    optimizer = "optimizer={name: schedule_free_adamw, lr: 1e-3}"
    done = cli("train", config, "-s", optimizer, "-o", "a")
    assert done.code == 2, done
    assert "run.yaml: schedule.name: cosine lowers the learning rate" in done.err
    assert "set schedule.name: constant, which keeps schedule.warmup" in done.err
    shown = _shown(cli, config, optimizer, "schedule.name=constant")
    assert shown["arguments"]["betas"] == [0.9, 0.999] and shown["advice"] == []


@pytest.mark.parametrize(
    "optimizer",
    [
        "{name: adamw, lr: 1e-3, differentiable: true}",
        "{name: rmsprop, lr: 1e-3, differentiable: true}",
        pytest.param(
            "{name: rmsprop, lr: 1e-3, capturable: true}",
            marks=pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_what_would_fail_at_the_first_step_is_refused_before(
    optimizer: str, cli: Cli, config: Path
) -> None:
    done = cli("train", config, "-s", f"optimizer={optimizer}", "-o", "a")
    assert done.code == 2, done
    key = optimizer.rpartition(", ")[2].partition(":")[0]
    assert f"optimizer.{key}: " in done.err
    assert "Leave it out" in done.err or "leave it out" in done.err


def _convert(cli: Cli, config: Path, optimizer: str, to: str, *arguments: str) -> Any:
    done = cli(
        "optim", "convert", config, "-s", f"optimizer={optimizer}", "--to", to, *arguments, "--json"
    )
    assert done.code == 0, done
    return done.json


def test_adamw_to_lion_keeps_the_force_of_the_decay(cli: Cli, config: Path) -> None:
    made = _convert(cli, config, "{name: adamw, lr: 3e-4, weight_decay: 0.02}", "lion")
    proposed, ranges = made["proposed"], made["ranges"]
    assert (made["from"], made["to"], proposed["name"]) == ("adamw", "lion", "lion")
    assert 3 <= 3e-4 / proposed["lr"] <= 10
    assert proposed["lr"] * proposed["weight_decay"] == pytest.approx(3e-4 * 0.02)
    assert ranges["lr"] == pytest.approx([3e-5, 1e-4])
    assert ranges["weight_decay"] == pytest.approx([0.06, 0.2])
    assert proposed["betas"] == [0.9, 0.99]
    assert "2302.06675" in made["sources"]["lr"]


def test_there_and_back_is_the_same(cli: Cli, config: Path) -> None:
    adamw = {"name": "adamw", "lr": 1e-4, "weight_decay": 0.01, "betas": [0.9, 0.99]}
    lion = _convert(cli, config, yaml.safe_dump(adamw, default_flow_style=True).strip(), "lion")
    assert lion["proposed"]["betas"] == [0.95, 0.98]
    text = yaml.safe_dump(lion["proposed"], default_flow_style=True).strip()
    assert _convert(cli, config, text, "adamw")["proposed"] == adamw


def test_adamw_to_muon_keeps_what_the_scale_allows(cli: Cli, config: Path) -> None:
    made = _convert(cli, config, "{name: adamw, lr: 3e-4, weight_decay: 0.02, eps: 1e-6}", "muon")
    assert made["proposed"] == {
        "name": "muon", "lr": 3e-4, "weight_decay": 0.02, "adjust_lr_fn": "match_rms_adamw",
        "adamw_lr": 3e-4, "adamw_weight_decay": 0.02, "adamw_eps": 1e-6,
        "adamw_betas": [0.9, 0.999],
    }  # fmt: skip
    assert "2502.16982" in made["sources"]["lr"] and made["dropped"] == {}
    assert made["current"]["adjust_lr_fn"] is None


def test_adamw_to_schedule_free_raises_lr_and_drops_the_schedule(cli: Cli, config: Path) -> None:
    optimizer = "{name: adamw, lr: 1e-4, weight_decay: 0.02, betas: [0.8, 0.9]}"
    made = _convert(cli, config, optimizer, "schedule_free_adamw")
    assert made["ranges"] == {"lr": [1e-4, 1e-3]}
    assert 1e-4 < made["proposed"]["lr"] < 1e-3
    assert made["proposed"]["weight_decay"] == 0.02 and made["proposed"]["betas"] == [0.8, 0.9]
    assert "schedule.name: constant" in made["notes"][0]


@pytest.mark.parametrize(
    ("source", "to", "decay", "expected"),
    [("adam", "adamw", 0.3, 0.01), ("adamw", "adam", 0.3, 0.0), ("adam", "adamw", 0.0, 0.0)],
)
def test_between_the_adams_the_decay_does_not_carry_over(
    source: str, to: str, decay: float, expected: float, cli: Cli, config: Path
) -> None:
    optimizer = f"{{name: {source}, lr: 1e-4, weight_decay: {decay}, betas: [0.8, 0.9], eps: 1e-6}}"
    made = _convert(cli, config, optimizer, to)
    assert made["proposed"] == {
        "name": to, "lr": 1e-4, "weight_decay": expected, "betas": [0.8, 0.9], "eps": 1e-6,
    }  # fmt: skip
    assert ("does not carry over" in made["notes"][0]) == (decay > 0)
    assert ("1711.05101" in str(made["sources"])) and made["ranges"] == {}


def test_what_the_other_optimizer_does_not_have_is_named(cli: Cli, config: Path) -> None:
    optimizer = (
        "{name: adamw, lr: 1e-4, eps: 1e-6, amsgrad: true, betas: [0.9, 0.95], "
        "decay_embeddings: false}"
    )
    made = _convert(cli, config, optimizer, "lion")
    assert made["dropped"] == {"eps": 1e-6, "amsgrad": True}
    assert made["proposed"]["decay_embeddings"] is False
    assert any("[0.9, 0.95] have no published counterpart" in note for note in made["notes"])
    done = cli("optim", "convert", config, "-s", f"optimizer={optimizer}", "--to", "lion")
    assert "dropped: amsgrad true, which lion does not have" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("to", ["lion", "adam"])
def test_the_printed_section_can_be_pasted(to: str, cli: Cli, config: Path) -> None:
    done = cli("optim", "convert", config, "--from", "adamw", "--to", to)
    assert done.code == 0, done
    section = done.out[done.out.index("\noptimizer:") :]
    Path("other.yaml").write_text(f"extends: {config.name}\n{section}")
    shown = cli("optim", "show", "other.yaml", "--json")
    assert shown.code == 0, shown
    assert shown.json["name"] == to
    assert shown.json["arguments"]["lr"] == pytest.approx(1e-3 if to == "adam" else 2e-4)


@pytest.mark.parametrize(
    ("optimizer", "arguments", "expected"),
    [
        ("{name: adamw, lr: 1e-4}", ("--to", "sgd"), "no ratio from adamw to sgd is published"),
        ("{name: muon, lr: 1e-4, adamw_lr: 1}", ("--to", "adamw"), "no ratio from muon to adamw"),
        (
            "{name: adamw, lr: 1e-4, betas: [0, 0.9]}",
            ("--to", "schedule_free_adamw"),
            "optimizer.betas: schedule_free_adamw has no average",
        ),
        ("{name: adagrad, lr: 1e-2}", ("--to", "adamw"), "Known pairs: adamw to lion"),
        ("{name: adam, lr: 1e-4}", ("--to", "lion"), "no ratio from adam to lion"),
        ("{name: adamw, lr: 1e-4}", ("--to", "lyon"), "did you mean lion?"),
        ("{name: adamw, lr: 1e-4}", ("--to", "adamw"), "nothing to convert"),
        ("{name: adamw, lr: 1e-4}", ("--from", "lion", "--to", "adam"), "has optimizer.name adamw"),
        ("{name: adamw, lr: 1e-4, maximize: true}", ("--to", "lion"), "optimizer.maximize"),
        (
            "{name: lion, lr: 1e-4, weight_decay: 0.1, fixed_decay: true}",
            ("--to", "adamw"),
            "optimizer.fixed_decay: the published ratio",
        ),
        (
            "{name: lion, lr: 1e-4, weight_decay: 0.1, weight_decouple: false}",
            ("--to", "adamw"),
            "optimizer.weight_decouple: the published ratio",
        ),
    ],
)
def test_what_nobody_published_is_not_made_up(
    optimizer: str, arguments: tuple[str, ...], expected: str, cli: Cli, config: Path
) -> None:
    done = cli("optim", "convert", config, "-s", f"optimizer={optimizer}", *arguments)
    assert done.code == 2, done
    assert expected in done.err
    assert not done.out


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            ["optimizer={name: adamw, lr: 1e-4}", "schedule.warmup=0"],
            "schedule.warmup: without a warm-up adamw",
        ),
        (
            ["optimizer={name: rmsprop, lr: 1e-4, alpha: 0.96}", "schedule.warmup=0"],
            "the first step is 5 times lr",
        ),
        (
            ["optimizer={name: sgd, lr: 1e-2}", "train.max_grad_norm=null"],
            "train.max_grad_norm: gradients of attention models are heavy-tailed",
        ),
        (
            ["optimizer={name: muon, lr: 1e-4, adamw_lr: 1e-4}"],
            "optimizer.name: nearly every open model was pretrained with Adam",
        ),
        (
            ["optimizer={name: adafactor, lr: 0.8}"],
            "has any effect from step 2 on",
        ),
        (
            ["optimizer={name: adafactor, lr: 5e-5}"],
            "optimizer.lr: 5e-05 is a learning rate for AdamW; Adafactor multiplies it",
        ),
        (
            ["optimizer={name: adafactor, lr: 1e-3, eps: [null, 1e-2]}", "lora.r=2"],
            "its first steps are lr times 0.01",
        ),
        (
            [
                "optimizer={name: schedule_free_adamw, lr: 1e-4}",
                "schedule={name: constant, warmup: 0}",
            ],
            "schedule.warmup: without a warm-up schedule_free_adamw",
        ),
        (
            ["optimizer={name: lion, lr: 1e-5, weight_decay: 0.1, weight_decouple: false}"],
            "is lost in Lion's sign",
        ),
        (
            ["optimizer={name: lion, lr: 1e-5, weight_decay: 0.1, fixed_decay: true}"],
            "after 3 steps 73 % of a weight is left",
        ),
    ],
)
def test_advice_names_the_key_and_a_source(
    changes: list[str], expected: str, cli: Cli, config: Path
) -> None:
    arguments = [part for change in changes for part in ("-s", change)]
    done = cli("train", config, *arguments, "--strict", "-o", "a")
    assert done.code == 2, done
    assert expected in done.err
    assert "arXiv" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        "{name: sgd, lr: 1e-2}",
        "{name: rmsprop, lr: 1e-4}",
        "{name: adam, lr: 1e-4}",
        "{name: adafactor, lr: 1e-3}",
        "{name: lion, lr: 1e-5, weight_decay: 1e-3, fixed_decay: true}",
        "{name: lion, lr: 1e-5, weight_decouple: false}",
    ],
)
def test_there_is_no_advice_against_sound_settings(optimizer: str, cli: Cli, config: Path) -> None:
    done = cli("train", config, "-s", f"optimizer={optimizer}", "--strict", "-o", "a")
    assert done.code == 0, done


def test_rmsprops_first_step_is_as_far_as_the_advice_says() -> None:
    weights = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = build_optimizer([weights], OptimizerConfig(name="rmsprop", lr=1e-3, alpha=0.96))
    weights.grad = torch.tensor([1e-2, -1.0, 7.0], dtype=torch.float64)
    optimizer.step()
    assert weights.abs().tolist() == pytest.approx([5e-3] * 3, rel=1e-4)
