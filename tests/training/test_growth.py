"""Nothing large is left for the garbage collector, which counts objects and not their bytes."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ftreg
from tests.conftest import Cli


@contextmanager
def _circles(kind: type) -> Iterator[list[Any]]:
    """Fill a list with the objects of a type that only the garbage collector can free."""
    found: list[Any] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found += [item for item in gc.garbage if isinstance(item, kind)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _train(config: Path, *settings: str) -> None:
    ftreg.train(
        ftreg.load_config(config, overrides=["train.max_steps=2", *settings]),
        output=Path("checkpoints/made"),
    )


def test_a_circle_is_seen() -> None:
    import torch

    with _circles(torch.Tensor) as found:
        circle: list[Any] = [torch.zeros(3)]
        circle.append(circle)
        del circle
    assert [tuple(tensor.shape) for tensor in found] == [(3,)]


@pytest.mark.parametrize(
    "settings",
    [(), ("lora.r=2",), ("lora={r: 2, target_modules: [q_proj, lm_head]}",)],
    ids=["whole", "lora", "lora on the head"],
)
def test_a_trained_model_goes_when_training_ends(config: Path, settings: tuple[str, ...]) -> None:
    import torch

    with _circles(torch.Tensor) as tensors:
        _train(config, *settings)
    assert not tensors


def test_keys_and_values_go_when_an_evaluation_ends(cli: Cli, config: Path) -> None:
    import torch

    _train(config)
    with _circles(torch.Tensor) as tensors:
        assert cli("eval", "made", "--no-gate", "-q").code == 0
    assert not tensors
