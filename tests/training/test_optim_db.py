"""Each optimizer against torch's own list of what its optimizers take and refuse."""

import inspect
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

# Importing it forbids plain assignments to torch.backends for the whole process; the other tests
# go on as they were.
_flag = "__allow_nonbracketed_mutation_flag"
_before = getattr(torch.backends, _flag)
from torch.testing._internal.common_optimizers import (  # noqa: E402
    OptimizerErrorEnum,
    OptimizerInfo,
    OptimizerInput,
    optim_db,
)

setattr(torch.backends, _flag, _before)

from ftreg.errors import UsageError  # noqa: E402
from ftreg.optim import OptimizerConfig, build_optimizer  # noqa: E402
from tests.conftest import Cli  # noqa: E402

NAMES = {
    "Adafactor": "adafactor", "Adagrad": "adagrad", "Adam": "adam", "AdamW": "adamw",
    "RMSprop": "rmsprop", "SGD": "sgd",
}  # fmt: skip
(MUON,) = (info for info in optim_db if info.optim_cls.__name__ == "Muon")
INFOS = [info for info in optim_db if info.optim_cls.__name__ in NAMES]
# What torch calls an implementation, and the settings that ask for it.
IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "default": {},
    "plain": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "differentiable": {"differentiable": True},
}
STEPS = 10


def _name(info: OptimizerInfo) -> str:
    return NAMES[info.optim_cls.__name__]


def _in_yaml(settings: dict[str, Any]) -> bool:
    """Whether a configuration can say it: YAML has no tensors."""
    flat = [
        part
        for value in settings.values()
        for part in (value if isinstance(value, tuple) else (value,))
    ]
    return not any(isinstance(part, torch.Tensor) for part in flat)


def _inputs(device: str = "cpu") -> Iterator[tuple[OptimizerInfo, OptimizerInput]]:
    for info in INFOS:
        for given in info.optim_inputs_func(device=device):
            yield info, given


def _cases() -> Iterator[Any]:
    for info, given in _inputs():
        if not _in_yaml(given.kwargs):
            continue
        for kind, settings in IMPLEMENTATIONS.items():
            if kind in ("default", "plain", *info.supported_impls):
                known = {
                    key: value
                    for key, value in settings.items()
                    if key in inspect.signature(info.optim_cls).parameters
                }
                label = f"{_name(info)}-{given.desc}-{kind}"
                yield pytest.param(info, given.kwargs, known, id=label)


def _weights(*, leaves: bool) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(shape, generator=generator) for shape in ((5, 3), (7,), (2, 2, 2))]
    made = [weight.requires_grad_() for weight in made]
    return made if leaves else [weight.clone() for weight in made]


def _run(optimizer: torch.optim.Optimizer, weights: list[torch.Tensor]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    for _ in range(STEPS):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return [weight.detach().clone() for weight in weights]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(("info", "kwargs", "implementation"), list(_cases()))
def test_every_input_gives_bitwise_the_weights_of_the_direct_call(
    info: OptimizerInfo, kwargs: dict[str, Any], implementation: dict[str, bool]
) -> None:
    cls = info.optim_cls
    lr = kwargs.get("lr", inspect.signature(cls).parameters["lr"].default)
    settings = {**kwargs, "lr": lr, **implementation}
    leaves = not implementation.get("differentiable")
    ours, theirs = _weights(leaves=leaves), _weights(leaves=leaves)
    built = build_optimizer(ours, OptimizerConfig(name=_name(info), **settings))
    assert type(built) is cls
    if not implementation and "fused" in info.supported_impls:
        settings["fused"] = True  # ftreg's own choice where nothing is said
    start = [weight.detach().clone() for weight in theirs]
    moved, expected = _run(built, ours), _run(cls(theirs, **settings), theirs)
    assert all(torch.equal(a, b) for a, b in zip(moved, expected, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(start, expected, strict=True))


def test_every_input_of_muon_gives_bitwise_the_weights_of_the_direct_call() -> None:
    tried = [given.kwargs for given in MUON.optim_inputs_func(device="cpu")]
    known = [kwargs for kwargs in tried if _in_yaml(kwargs)]
    assert len(known) == len(tried) - 1 >= 6  # lr as a tensor
    for kwargs in known:
        settings = {"lr": 1e-3, **kwargs}
        ours, theirs = _weights(leaves=True)[:1], _weights(leaves=True)[:1]
        built = build_optimizer(ours, OptimizerConfig(name="muon", adamw_lr=1.0, **settings))
        moved, expected = _run(built, ours), _run(torch.optim.Muon(theirs, **settings), theirs)
        assert torch.equal(moved[0], expected[0])


def test_nothing_of_the_list_is_left_out_unsaid() -> None:
    """The inputs that no YAML can say are lr as a tensor; all others are covered above."""
    inputs = list(_inputs())
    unsaid = [(_name(info), given.desc) for info, given in inputs if not _in_yaml(given.kwargs)]
    assert sorted(desc.lower() for _, desc in unsaid) == ["tensor lr", "tensor lr"]
    assert {_name(info) for info in INFOS} == set(NAMES.values())
    assert len(inputs) - len(unsaid) >= 30
    assert len(list(_cases())) >= 120


def _cuda_only() -> list[tuple[OptimizerInfo, dict[str, Any]]]:
    plain = [(_name(info), given.desc, str(given.kwargs)) for info, given in _inputs()]
    return [
        (info, given.kwargs)
        for info, given in _inputs("cuda")
        if (_name(info), given.desc, str(given.kwargs)) not in plain
    ]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="here there is a GPU to capture on")
def test_what_only_a_gpu_can_do_is_refused_without_one() -> None:
    """Torch's constructors take `capturable` on a CPU, and fail at the first step."""
    known = [(info, kwargs) for info, kwargs in _cuda_only() if _in_yaml(kwargs)]
    assert len(known) >= 5
    for info, kwargs in known:
        assert kwargs["capturable"]
        lr = {"lr": 1e-3, "foreach": False}
        config = OptimizerConfig(name=_name(info), **{**lr, **kwargs})
        if "fused" in type(config).model_fields:
            config = config.model_copy(update={"fused": False})
        with pytest.raises(UsageError, match=r"optimizer\.capturable"):
            build_optimizer(_weights(leaves=True), config)


def _error_inputs() -> Iterator[tuple[OptimizerInfo, Any]]:
    for info in INFOS:
        for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
            if error.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR:
                yield info, error
            else:  # no model has them
                assert "complex" in error.optimizer_error_input.desc


def _refused_settings() -> list[Any]:
    cases = []
    for info, error in _error_inputs():
        given = error.optimizer_error_input
        kwargs = dict(given.kwargs)
        if isinstance(kwargs.get("lr"), torch.Tensor) and kwargs["lr"].numel() > 1:
            kwargs["lr"] = kwargs["lr"].tolist()  # YAML's nearest: a list
        if kwargs and _in_yaml(kwargs):
            label = f"{_name(info)}-{given.desc}"
            cases.append(pytest.param(_name(info), kwargs, id=label))
    return cases


@pytest.mark.parametrize(("name", "kwargs"), _refused_settings())
def test_every_setting_that_torch_refuses_ends_with_2_and_names_the_key(
    name: str, kwargs: dict[str, Any], cli: Cli, config: Path
) -> None:
    done = cli("optim", "show", config, "-s", f"optimizer={json.dumps({'name': name, **kwargs})}")
    assert done.code == 2, done
    wrong = [key for key in kwargs if key != "lr"] or ["lr"]
    assert len(wrong) == 1
    assert f"optimizer.{wrong[0]}" in done.err
    assert "Traceback" not in done.err


def test_most_of_the_refused_settings_are_covered() -> None:
    """Left out are settings that mix tensors and numbers, or want a tensor with foreach."""
    about_settings = [
        error.optimizer_error_input.desc
        for _, error in _error_inputs()
        if error.optimizer_error_input.kwargs
    ]
    left_out = len(about_settings) - len(_refused_settings())
    tensors = [desc for desc in about_settings if "as Tensor" in desc or "both Tensors" in desc]
    mixed = [desc for desc in about_settings if "as a Tensor" in desc]
    assert left_out == len(tensors) + len(mixed) == 8
    assert len(_refused_settings()) >= 12


@pytest.mark.parametrize(
    ("info", "error"),
    [
        pytest.param(info, error, id=f"{_name(info)}-{error.optimizer_error_input.desc}")
        for info, error in _error_inputs()
        if not error.optimizer_error_input.kwargs
    ],
)
def test_parameters_that_torch_refuses_are_refused(info: OptimizerInfo, error: Any) -> None:
    params = error.optimizer_error_input.params
    config = OptimizerConfig(name=_name(info), lr=1e-3)
    if issubclass(error.error_type, Warning):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            build_optimizer(params, config)
        assert any("duplicate parameters" in str(item.message) for item in seen)
    else:
        with pytest.raises(UsageError, match=f"{_name(info)} rejects"):
            build_optimizer(params, config)
