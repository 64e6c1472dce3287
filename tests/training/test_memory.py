"""Settings for less memory, and other adapters: what they compute, and what they refuse."""

import dataclasses
import importlib.util
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from ftreg.config.load import load_config
from ftreg.config.sections import LoraConfig
from ftreg.errors import InterruptedRunError
from ftreg.models.adapters import plain_adapters, with_adapters
from ftreg.models.pretrained import load_checkpoint_model, load_model
from ftreg.training.batching.examples import TokenisedExamples
from ftreg.training.compilation import compute_layers_again
from ftreg.training.events import Silent, StepRecord
from ftreg.training.run import train
from tests.architectures import ARCHITECTURES, build, write_model
from tests.conftest import Cli


def _settings(lora: dict[str, Any]) -> list[str]:
    return ["-s", f"lora={json.dumps({'r': 4, 'alpha': 8, **lora})}"]


def _losses(folder: str) -> list[tuple[float, float]]:
    lines = Path(folder, "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [(line["loss"], line["grad_norm"]) for line in map(json.loads, lines)]


# Adapters


@pytest.mark.parametrize("name", ["rslora", "dora"])
def test_adapters_learn_as_pefts_own(
    name: str, cli: Cli, config: Path, tiny_model: Path, examples: TokenisedExamples
) -> None:
    """By ftreg's kernels, and by nothing but peft, transformers and torch: the same losses."""
    given = [
        *_settings({name: True}),
        "-s",
        "train.max_grad_norm=null",
        "-s",
        "train.batch_size=12",
    ]
    given += ["-s", "schedule={name: constant, warmup: 0}", "-s", "train.epochs=4"]
    for folder, lr in (("first", 1e-12), ("a", 0.5)):
        done = cli("train", config, *given, "-s", f"optimizer={{name: sgd, lr: {lr}}}",
                   "-o", folder)  # fmt: skip
        assert done.code == 0, done
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = peft.PeftModel.from_pretrained(base, "first", is_trainable=True)
    found = model.peft_config["default"]
    assert (found.use_rslora, found.use_dora) == (name == "rslora", name == "dora")
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    losses = []
    for _ in range(4):
        terms, tokens = [], 0
        for row in range(len(examples)):
            ids, start = torch.tensor([examples.ids(row)]), examples.prompt_length(row)
            logits = model(input_ids=ids).logits[0, start - 1 : -1]
            terms.append(functional.cross_entropy(logits, ids[0, start:], reduction="sum"))
            tokens += len(logits)
        loss = sum(terms) / tokens
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [loss for loss, _ in _losses("a")] == pytest.approx(losses, rel=1e-5)
    assert losses[-1] < 0.99 * losses[0]
    # Merged for evaluation, they are what peft has beside the base.
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        expected = model.eval()(input_ids=ids).logits
    merged = load_checkpoint_model(Path("a"))(ids).logits
    torch.testing.assert_close(merged, expected, rtol=1e-3, atol=1e-5)
    done = cli("eval", "a", "--no-gate")
    assert done.code == 0, done


def test_the_scale_of_rslora_is_alpha_over_the_root_of_the_rank(tiny_model: Path) -> None:
    """https://arxiv.org/abs/2312.03732"""
    for rslora, expected in ((False, 8 / 4), (True, 8 / math.sqrt(4))):
        model = with_adapters(load_model(tiny_model), LoraConfig(r=4, alpha=8.0, rslora=rslora))
        adapters = plain_adapters(model)
        assert adapters
        assert {adapter.scaling for adapter in adapters} == {expected}


def test_dora_trains_a_length_for_each_output(tiny_model: Path) -> None:
    """W = m (W0 + BA) / |W0 + BA|, by row (https://arxiv.org/abs/2402.09353); no kernel for it."""
    model: Any = with_adapters(load_model(tiny_model), LoraConfig(r=4, alpha=8.0, dora=True))
    assert plain_adapters(model) == []
    torch.manual_seed(1)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    length = layer.lora_magnitude_vector["default"].weight
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
        length.mul_(torch.rand_like(length) + 0.5)
        x = torch.randn(5, 32)
        sum_ = layer.base_layer.weight + 2 * (
            layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        )
        expected = x @ (length[:, None] * sum_ / sum_.norm(dim=1, keepdim=True)).T
        torch.testing.assert_close(layer(x), expected)


def test_dora_refuses_weights_without_a_direction(cli: Cli, config: Path) -> None:
    """The tiny model's output layer has a row of zeros, the padding's: its loss would be NaN."""
    done = cli("train", config, *_settings({"dora": True, "target_modules": ["lm_head"]}))
    assert done.code == 2, done
    assert "lora.dora: lm_head has outputs whose weights are all zero" in _text(done.err)


class _Interrupting(Silent):
    def step(self, record: StepRecord) -> None:
        if record.step == 2:
            raise InterruptedRunError("after step 2")


def test_a_resumed_run_has_the_same_bits(cli: Cli, config: Path) -> None:
    variant = {"dora": True, "rslora": True, "dropout": 0.2}
    given = [*_settings(variant), "-s", "train.save_steps=2"]
    assert cli("train", config, *given, "-o", "whole").code == 0
    overrides = [text for text in given if text != "-s"]
    with pytest.raises(InterruptedRunError):
        train(load_config(config, overrides=overrides), output=Path("a"), events=_Interrupting())
    done = cli("train", config, *given, "-o", "a", "--resume")
    assert done.code == 0, done
    digests = {
        json.loads(Path(folder, "ftreg.json").read_text())["weights"]["digest"]
        for folder in ("whole", "a")
    }
    assert len(digests) == 1


# Gradient checkpointing


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("llama", ()),
        ("llama", ("lora={r: 2, dropout: 0.3}",)),
        ("llama", ("train.precision=bf16", "lora.r=2")),
        ("qwen2", ("train.precision=bf16", "lora={r: 2, rslora: true}")),
        ("llama", ("train.packing=false",)),
        ("llama", ("train.kernels=off", "lora={r: 2, dora: true}")),
        ("gemma2", ()),
        ("gpt2", ("lora.r=2",)),
    ],
    ids=lambda part: str(part),
)
def test_computed_again_the_bits_are_the_same(
    name: str, changes: tuple[str, ...], cli: Cli, config: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Dropout of the model's own and of adapters too."""
    chosen = ARCHITECTURES[name]
    if name == "llama":
        chosen = dataclasses.replace(chosen, settings=chosen.settings | {"attention_dropout": 0.2})
    model = write_model(tmp_path / "model", chosen, spread=2, tokenizer=tiny_model)
    given = ["-s", f"base.model={model}", "-s", "train.micro_batch_tokens=150"]
    given += [part for change in changes for part in ("-s", change)]
    for again in ("true", "false"):
        done = cli("train", config, *given, "-s", f"train.gradient_checkpointing={again}",
                   "-o", again)  # fmt: skip
        assert done.code == 0, done
    assert _losses("true") == _losses("false")
    (weights,), (plain,) = (list(Path(f).glob("*.safetensors")) for f in ("true", "false"))
    assert weights.read_bytes() == plain.read_bytes()


def _kept(model: nn.Module, ids: torch.Tensor) -> int:
    """Bytes that autograd keeps from a forward pass for the backward pass, weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=ids, labels=ids).loss.backward()
    return sum(kept.values())


def test_it_keeps_a_fraction_of_the_activations() -> None:
    """Of eight layers; what the layers save is counted, so that no clock or machine matters."""
    llama = ARCHITECTURES["llama"]
    deep = dataclasses.replace(llama, settings=llama.settings | {"num_hidden_layers": 8})
    ids = torch.arange(256)[None]
    model = build(deep, spread=1).train()
    plain = _kept(model, ids)
    compute_layers_again(model)
    assert _kept(model, ids) < plain / 3


def test_a_state_goes_on_with_it_and_without(cli: Cli, config: Path) -> None:
    given = ["train", config, "-s", "train.save_steps=2"]
    with pytest.raises(InterruptedRunError):
        train(load_config(config, overrides=given[3:]), output=Path("a"), events=_Interrupting())
    done = cli(*given, "-s", "train.gradient_checkpointing=true", "-o", "a", "--resume")
    assert done.code == 0, done


def test_a_model_without_a_place_for_it_is_refused(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "supports_gradient_checkpointing", False)
    done = cli("train", config, "-s", "train.gradient_checkpointing=true", "-o", "a")
    assert done.code == 2, done
    assert "train.gradient_checkpointing: this model does not support it" in _text(done.err)


# 4 and 8 bits


def _text(shown: str) -> str:
    return re.sub(r"\s+", " ", shown)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("base.quantization=4bit",), "full fine-tuning trains them"),
        (("base.quantization=4bit", "lora.r=2"), "base.quantization: 4bit needs a CUDA GPU"),
        (("base.quantization=3bit", "lora.r=2"), "base.quantization"),
        (("train.compile=true", "train.gradient_checkpointing=true"), "exclude each other"),
        (("lora={r: 2, use_dora: true}",), "did you mean lora.dora?"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    changes: tuple[str, ...], message: str, cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = [part for change in changes for part in ("-s", change)]
    done = cli("train", config, *given, "-o", "a")
    assert done.code == 2, done
    assert message in _text(done.err)
    assert not Path("a").exists()


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes believe, for the settings alone, that there is a GPU, and bitsandbytes or not."""
    find = importlib.util.find_spec

    def pretend(*, installed: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *rest: (
                (find("json") if installed else None)
                if name == "bitsandbytes"
                else find(name, *rest)
            ),
        )

    yield pretend


def test_without_bitsandbytes_it_says_what_to_install(
    a_gpu: Callable[..., None], tiny_model: Path
) -> None:
    from ftreg.errors import UsageError

    a_gpu(installed=False)
    with pytest.raises(UsageError, match="8bit needs bitsandbytes: pip install bitsandbytes"):
        load_model(tiny_model, quantization="8bit")


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_the_loader_is_asked_for_so_many_bits(
    bits: str,
    a_gpu: Callable[..., None],
    cli: Cli,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In training and in evaluation; the weights stay as they are, since there is no GPU here."""
    asked: list[dict[str, Any]] = []
    load = AutoModelForCausalLM.from_pretrained

    def ask(folder: Path, **given: Any) -> Any:
        asked.append({key: given.pop(key, None) for key in ("quantization_config", "device_map")})
        return load(folder, **given)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", ask)
    a_gpu(installed=True)
    load_model(Path(load_config(config).base.model), quantization=bits)
    settings = asked[0]["quantization_config"].to_dict()
    assert asked[0]["device_map"] == {"": 0}
    assert settings["load_in_4bit"] is (bits == "4bit")
    assert settings["load_in_8bit"] is (bits == "8bit")
    if bits == "4bit":
        assert settings["bnb_4bit_quant_type"] == "nf4"
        assert settings["bnb_4bit_compute_dtype"] == "bfloat16"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        "ftreg.models.pretrained.quantized", lambda bits: {"quantization_config": bits}
    )
    asked.clear()
    given = ["-s", "lora.r=2", "-s", f"base.quantization={bits}", "-o", "a", "--json"]
    done = cli("train", config, *given)
    assert done.code == 0, done
    assert done.json["base"]["quantization"] == bits
    done = cli("eval", "a", "--no-gate")
    assert done.code == 0, done
    assert [call["quantization_config"] for call in asked] == [bits, bits]
    # Adapters stay beside such weights: merged, what they are would be rounded away.
    assert any("lora_A" in name for name, _ in load_checkpoint_model(Path("a")).named_modules())


def test_other_outputs_are_kept_for_other_bits(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftreg.models.pretrained.quantized", lambda bits: {})
    for bits in ("null", "8bit"):
        given = ["-s", "lora.r=2", "-s", f"base.quantization={bits}", "-o", f"c{bits}"]
        assert cli("train", config, *given).code == 0
        done = cli("eval", f"c{bits}", "--no-gate")
        assert done.code == 0, done
        assert "taken from an earlier run" not in done.err
