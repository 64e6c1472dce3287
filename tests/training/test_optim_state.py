"""What an optimizer remembers: saved and loaded again, and summed up over micro-batches."""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftreg.config.optimizer import OPTIMIZERS, AnyOptimizer, schema_of
from ftreg.optim import OptimizerConfig, build_optimizer, parameter_groups
from tests.conftest import Cli, write_dataset

SETTINGS: list[dict[str, Any]] = [
    {"name": "adafactor", "lr": 1e-2, "weight_decay": 0.1},
    {"name": "adagrad", "lr": 1e-2, "lr_decay": 0.1, "initial_accumulator_value": 0.1},
    {"name": "adam", "lr": 1e-3, "weight_decay": 0.1, "amsgrad": True},
    {"name": "adamw", "lr": 1e-3, "weight_decay": 0.1},
    {"name": "lion", "lr": 1e-4, "weight_decay": 0.1},
    {"name": "muon", "lr": 1e-2, "adamw_lr": 1e-3},
    {"name": "rmsprop", "lr": 1e-3, "momentum": 0.9, "centered": True},
    {"name": "schedule_free_adamw", "lr": 1e-2, "weight_decay": 0.1, "ams_bound": True},
    {"name": "sgd", "lr": 1e-2, "momentum": 0.9, "nesterov": True},
    {"name": "custom", "path": "torch.optim:NAdam", "lr": 1e-3, "options": {"momentum_decay": 0.1}},
]
HALF = 20


def test_every_optimizer_is_tested_here() -> None:
    assert sorted(item["name"] for item in SETTINGS) == sorted(OPTIMIZERS)
    # Those of a YAML are the same.
    assert set(get_args(get_args(AnyOptimizer)[0])) == set(map(schema_of, OPTIMIZERS))


@pytest.mark.parametrize("settings", SETTINGS[:-1], ids=lambda item: item["name"])
def test_only_decay_that_is_coupled_enters_the_state(settings: dict[str, Any]) -> None:
    states = []
    for decay in (0.0, 0.1):
        module = _module()
        config = OptimizerConfig(**settings | {"weight_decay": decay})
        optimizer = build_optimizer(module, config)
        _steps(module, optimizer, range(1))
        states.append(
            [
                value
                for state in optimizer.state.values()
                for key, value in state.items()
                if key != "z" and isinstance(value, torch.Tensor)  # z is a copy of the weights
            ]
        )
    same = all(torch.equal(one, other) for one, other in zip(*states, strict=True))
    assert states[0]
    assert config.decay_coupling == ("decoupled" if same else "coupled")


def _module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 6), nn.LayerNorm(6))


def _steps(module: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        for parameter in module.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _as_dict(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    return copy.deepcopy(state)


def _through_files(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Tensors as safetensors, everything else as JSON: what lies on a disk without pickle."""
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                plain.setdefault(str(index), {})[key] = value
    save_file(tensors, folder / "state.safetensors")
    (folder / "state.json").write_text(json.dumps([plain, state["param_groups"]]))

    plain, groups = json.loads((folder / "state.json").read_text())
    read: dict[int, dict[str, Any]] = {int(index): values for index, values in plain.items()}
    for name, tensor in load_file(folder / "state.safetensors").items():
        index, _, key = name.partition(".")
        read.setdefault(int(index), {})[key] = tensor
    return {"state": read, "param_groups": groups}


@pytest.mark.parametrize("carry", [_as_dict, _through_files])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings["name"])
def test_a_loaded_state_goes_on_bitwise(
    settings: dict[str, Any],
    carry: Callable[[dict[str, Any], Path], dict[str, Any]],
    tmp_path: Path,
) -> None:
    config = OptimizerConfig(**settings)
    whole, halves = _module(), _module()
    optimizer = build_optimizer(whole, config)
    _steps(whole, optimizer, range(2 * HALF))

    first = build_optimizer(halves, config)
    _steps(halves, first, range(HALF))
    state = carry(first.state_dict(), tmp_path)
    second = build_optimizer(halves, config)
    second.load_state_dict(state)
    _steps(halves, second, range(HALF, 2 * HALF))
    assert _same_weights(whole, halves)

    # Without its state it goes elsewhere, so the comparison can tell. SGD's momentum counts too.
    fresh = _module()
    _steps(fresh, build_optimizer(fresh, config), range(HALF))
    _steps(fresh, build_optimizer(fresh, config), range(HALF, 2 * HALF))
    assert not _same_weights(whole, fresh)


def _half_trained(name: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    module = _module()
    optimizer = build_optimizer(module, OptimizerConfig(name=name, lr=1e-2, weight_decay=0.5))
    _steps(module, optimizer, range(HALF))
    return module, optimizer


def test_an_adamw_state_turns_torchs_adam_into_adamw() -> None:
    """torch.optim.Adam.load_state_dict takes `decoupled_weight_decay` from the state's groups.

    The class is still Adam, its decay is AdamW's. What ftreg restores is the state of each
    parameter, with the groups of the optimizer that the configuration names.
    """
    module, adamw = _half_trained("adamw")
    config = OptimizerConfig(name="adam", lr=1e-2, weight_decay=0.5)

    def gone_on(groups_of: str) -> tuple[nn.Module, torch.optim.Optimizer]:
        own = copy.deepcopy(module)
        adam = build_optimizer(own, config)
        state = adamw.state_dict()
        if groups_of == "configuration":
            state = {**state, "param_groups": adam.state_dict()["param_groups"]}
        adam.load_state_dict(copy.deepcopy(state))
        _steps(own, adam, range(HALF, 2 * HALF))
        return own, adam

    turned, by_torch = gone_on("state")
    stayed, by_ftreg = gone_on("configuration")
    _steps(module, adamw, range(HALF, 2 * HALF))
    assert type(by_torch) is type(by_ftreg) is torch.optim.Adam
    assert by_torch.param_groups[0]["decoupled_weight_decay"] is True
    assert _same_weights(turned, module)
    assert by_ftreg.param_groups[0]["decoupled_weight_decay"] is False
    assert not _same_weights(stayed, module)


@contextmanager
def _gradients() -> Iterator[list[list[torch.Tensor]]]:
    """What every optimizer step of any optimizer is given, in the order of its groups."""
    steps: list[list[torch.Tensor]] = []

    def see(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        steps.append([p.grad.detach().clone() for g in optimizer.param_groups for p in g["params"]])

    handle = register_optimizer_step_pre_hook(see)
    try:
        yield steps
    finally:
        handle.remove()


@pytest.fixture
def uneven(workspace: Path, config: Path) -> Path:
    """A configuration whose 8 rows, one batch, have answers of 4 to 49 tokens."""
    rows = [
        {"id": f"r{i}", "input": f"Say {i}.", "context": "c", "reference": "one" + " more" * more}
        for i, more in enumerate((0, 0, 0, 1, 1, 4, 9, 9))
    ]
    write_dataset(workspace / "datasets", name="uneven", train=rows, cohorts=[])
    text = config.read_text().replace("colours@1", "uneven@1")
    config.write_text(text.replace("batch_size: 4", "batch_size: 8"))
    return config


SGD = "{name: sgd, lr: 0.05}"


def _train(
    cli: Cli, config: Path, output: str, *changes: str
) -> tuple[list[float], list[torch.Tensor]]:
    """Losses and gradients (flat, a tensor a step) of three steps of plain SGD."""
    options = [
        f"optimizer={SGD}", "schedule={name: constant, warmup: 0}", "train.max_grad_norm=null",
        "train.epochs=3", *changes,
    ]  # fmt: skip
    with _gradients() as steps:
        done = cli("train", config, "-o", output, *(part for o in options for part in ("-s", o)))
    assert done.code == 0, done
    lines = Path(output, "history.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines], [_flat(step) for step in steps]


def _flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).double()


def _references(model_folder: Path, root: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The first step's gradient by transformers alone, one row after another without padding.

    Returns:
        The mean over all tokens, and the mean of the rows' means.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    groups = parameter_groups(model, OptimizerConfig(name="sgd", lr=1.0))
    parameters = [parameter for group in groups for parameter in group.parameters]
    sums, lengths = [], []
    for line in (root / "uneven" / "v1" / "train.jsonl").read_text().splitlines():
        row = json.loads(line)
        question = {"role": "user", "content": f"{row['context']}\n{row['input']}"}
        answer = {"role": "assistant", "content": row["reference"]}
        prompt = tokenizer.apply_chat_template(
            [question], add_generation_prompt=True, return_dict=False
        )
        whole = tokenizer.apply_chat_template([question, answer], return_dict=False)
        whole = whole[: len(whole) - whole[::-1].index(tokenizer.eos_token_id)]
        ids = torch.tensor([whole])
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        loss = functional.cross_entropy(logits, ids[0, len(prompt) :], reduction="sum")
        sums.append(_flat(list(torch.autograd.grad(loss, parameters))))
        lengths.append(len(whole) - len(prompt))
    assert max(lengths) > 10 * min(lengths)
    rows = list(zip(sums, lengths, strict=True))
    by_token = torch.stack(sums).sum(0) / sum(lengths)
    return by_token, torch.stack([total / length for total, length in rows]).mean(0)


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def _along(residual: torch.Tensor, gradient: torch.Tensor) -> float:
    """By how much a residual lengthens the gradient, as a share: a wrong weight shows here."""
    return float(abs(residual @ gradient) / gradient.norm() ** 2)


MICRO = {
    "one by one": ("train.packing=false",),
    "packed small": ("train.micro_batch_tokens=110",),
}


@pytest.mark.parametrize("changes", MICRO.values(), ids=MICRO)
def test_micro_batches_take_the_steps_of_one_batch(
    changes: tuple[str, ...], cli: Cli, uneven: Path
) -> None:
    loss, gradient = _train(cli, uneven, "one", "train.micro_batch_tokens=100000")
    losses, gradients = _train(cli, uneven, "many", *changes)
    assert len(loss) == len(gradient) == len(gradients) == 3
    assert losses == pytest.approx(loss, rel=1e-6)
    for ours, whole in zip(gradients, gradient, strict=True):
        assert 0 < _distance(ours, whole) < 1e-5  # another order of additions, nothing else
    weights = [load_file(f"{name}/model.safetensors") for name in ("one", "many")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-5, atol=1e-7)


def test_micro_batches_are_weighted_by_token_and_without_bias(
    cli: Cli, uneven: Path, tiny_model: Path, workspace: Path
) -> None:
    """The mean of micro-batch means is another gradient, and the test can tell."""
    _, gradients = _train(cli, uneven, "many", "train.packing=false")
    by_token, by_row = _references(tiny_model, workspace / "datasets")
    assert _distance(gradients[0], by_token) < 1e-5
    assert _distance(by_row, by_token) > 0.1
    residual = gradients[0] - by_token
    assert residual.abs().max() > 0
    assert abs(residual.mean()) < 4 * residual.std() / len(residual) ** 0.5
    assert _along(residual, by_token) < 1e-6
    assert _along(by_row - by_token, by_token) > 1e-2
