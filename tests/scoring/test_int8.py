"""Products in int8, against float64."""

import pytest
import torch
from torch import nn

from ftreg.scoring.backends import int8
from ftreg.scoring.backends.int8 import Int8Linear, to_int8

WIDTH, OUTPUTS = 768, 96


@pytest.fixture(params=["as this processor does", "without units for it"])
def layer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> nn.Linear:
    if request.param == "without units for it":
        monkeypatch.setattr(int8, "has_int8_units", lambda: False)
    torch.manual_seed(1)
    return nn.Linear(WIDTH, OUTPUTS)


def rows() -> torch.Tensor:
    """Rows of very different sizes, one of them 0."""
    sizes = torch.tensor([1e-3, 1.0, 50.0, 0.0])
    return torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(2)) * sizes[:, None]


@torch.inference_mode()
def test_it_is_the_product_of_what_was_rounded(layer: nn.Linear) -> None:
    given = rows()
    found = Int8Linear(layer)(given)

    def rounded(values: torch.Tensor) -> torch.Tensor:
        step = values.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        return (values / step).round().double() * step.double()

    exact = rounded(given) @ rounded(layer.weight).t() + layer.bias.double()
    assert torch.allclose(found.double(), exact, rtol=1e-5, atol=1e-5)
    near = layer.double()(given.double())
    assert ((found - near).norm(dim=1) <= 0.02 * near.norm(dim=1)).all()


@torch.inference_mode()
def test_a_row_has_the_same_bits_alone_and_on_any_processor(
    layer: nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = rows()
    together = Int8Linear(layer)(given)
    assert torch.equal(torch.cat([Int8Linear(layer)(row[None]) for row in given]), together)
    monkeypatch.setattr(int8, "has_int8_units", lambda: False)
    assert torch.equal(Int8Linear(layer)(given), together)


@torch.inference_mode()
def test_the_largest_sums_do_not_overflow() -> None:
    layer = nn.Linear(WIDTH, 1)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    assert Int8Linear(layer)(torch.ones(1, WIDTH)).item() == pytest.approx(WIDTH)


def test_every_linear_layer_is_replaced_and_no_other() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Sequential(nn.Linear(4, 2)))
    to_int8(network)
    kinds = [type(module).__name__ for module in network.modules()]
    assert kinds == ["Sequential", "Int8Linear", "GELU", "Sequential", "Int8Linear"]
