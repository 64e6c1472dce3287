"""What is no causal language model, or not whole, is one message and exit code 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.architectures import HIDDEN, Architecture, write_model
from tests.conftest import Cli, Result

ENCODERS = {
    "BertLMHeadModel": ("BertConfig", {}),
    "RobertaForCausalLM": ("RobertaConfig", {}),
    "XLMRobertaForCausalLM": ("XLMRobertaConfig", {}),
    "ElectraForCausalLM": ("ElectraConfig", {"embedding_size": 32}),
}


def refused(done: Result, *expected: str) -> None:
    assert done.code == 2, done
    assert "Traceback" not in done.err
    message = " ".join(done.err.split())
    for text in expected:
        assert text in message, done


@pytest.fixture
def base(tiny_model: Path, workspace: Path) -> Path:
    return Path(shutil.copytree(tiny_model, workspace / "base"))


def train(cli: Cli, config: Path, base: Path) -> Result:
    done = cli("train", config, "-s", f"base.model={base}", "-s", "train.max_steps=1", "-o", "out")
    assert Path("out").exists() == (done.code == 0)
    return done


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_refused_by_name(
    name: str, cli: Cli, config: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """It sees the token that it is asked for, and is trained to copy it."""
    kind, more = ENCODERS[name]
    settings = Architecture(kind, {**HIDDEN, **more})
    base = write_model(tmp_path / name, settings, spread=1, tokenizer=tiny_model)
    refused(train(cli, config, base), f"{name} is not a causal language model")


def test_an_encoder_made_a_decoder_trains(
    cli: Cli, config: Path, tiny_model: Path, tmp_path: Path
) -> None:
    settings = Architecture("BertConfig", {**HIDDEN, "is_decoder": True})
    base = write_model(tmp_path / "bert", settings, spread=1, tokenizer=tiny_model)
    assert train(cli, config, base).code == 0


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
NONSENSE: dict[str, tuple[dict[str, Any], str]] = {
    "awq": ({"quantization_config": AWQ}, "cannot load the model: "),
    "gptq": (
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        "cannot load the model: ",
    ),
    "head_dim 0": ({"head_dim": 0}, "base: "),
    "no heads": ({"num_attention_heads": 0}, "base/config.json: "),
    "vocab -1": ({"vocab_size": -1}, "cannot load the model: "),
    "vocab 1e12": ({"vocab_size": 10**12}, "base: "),
    "eps NaN": ({"rms_norm_eps": float("nan")}, "numbers that are not finite (nan)"),
    "layers 1e9": ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, and the"),
    "layers NaN": ({"num_hidden_layers": float("nan")}, "base/config.json: "),
    "layers a word": ({"num_hidden_layers": "two"}, "base/config.json: "),
    "no such activation": ({"hidden_act": "wish"}, "cannot load the model: "),
    "no such rope": ({"rope_parameters": {"rope_type": "wish"}}, "base: "),
    "no such model": ({"model_type": "wish"}, "base/config.json: "),
    "a list": ({"hidden_size": [1]}, "base/config.json: "),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_a_nonsense_configuration_is_one_message(
    name: str, cli: Cli, config: Path, base: Path
) -> None:
    changes, expected = NONSENSE[name]
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes))
    refused(train(cli, config, base), expected)


@pytest.mark.parametrize("text", ["[]", "null", "3", '{"model_type": "llama"'])
def test_a_configuration_that_is_no_mapping_is_one_message(
    text: str, cli: Cli, config: Path, base: Path
) -> None:
    (base / "config.json").write_text(text)
    refused(train(cli, config, base), "base/config.json: ")


def _larger(base: Path, *, special: bool) -> None:
    """Add tokens to a tokenizer, and leave the embedding as it is."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<a>", "colour"], special_tokens=special)
    tokenizer.save_pretrained(base)


def test_a_tokenizer_larger_than_the_embedding_is_refused(
    cli: Cli, config: Path, base: Path
) -> None:
    _larger(base, special=False)
    refused(
        train(cli, config, base),
        "the tokenizer has 261 tokens and the model embeds 259, not 'colour'",
    )


def test_special_tokens_without_an_embedding_are_refused_where_a_text_has_them(
    cli: Cli, config: Path, base: Path
) -> None:
    """Gemma 3 1B has one for pictures, which it does not take."""
    _larger(base, special=True)
    refused(train(cli, config, base), "has 261 tokens and the model embeds 259, not 'colour'")


def test_special_tokens_that_no_text_has_need_no_embedding(
    cli: Cli, config: Path, base: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<picture>"], special_tokens=True)
    tokenizer.save_pretrained(base)
    assert train(cli, config, base).code == 0
    assert cli("eval", "out", "--no-gate").code == 0


TEMPLATES = {
    "recurses": "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "includes itself": "{% include 'chat_template.jinja' %}",
    "renders nothing": "{# nothing #}",
    "fails": "{{ messages[99]['content'] }}",
    "divides by nothing": "{{ 1 // 0 }}",
    "no syntax": "{% for m in messages %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_that_fails_is_one_message(
    name: str, cli: Cli, config: Path, base: Path
) -> None:
    (base / "chat_template.jinja").write_text(TEMPLATES[name])
    refused(train(cli, config, base), "base: the model's chat template (chat_template.jinja")


def _out_of_range(raw: dict[str, Any]) -> None:
    raw["added_tokens"] = [{**raw["added_tokens"][0], "id": 10**12}]


def _no_decoder(raw: dict[str, Any]) -> None:
    raw["model"]["merges"] = [["a", "no such token"]]


def _strange_normaliser(raw: dict[str, Any]) -> None:
    # https://github.com/huggingface/tokenizers/issues/1534: a panic while a text is read
    raw["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA////"}


@pytest.mark.parametrize("change", [_out_of_range, _no_decoder, _strange_normaliser])
def test_a_tokenizer_that_panics_is_one_message(
    change: Callable[[dict[str, Any]], None], cli: Cli, config: Path, base: Path
) -> None:
    path = base / "tokenizer.json"
    raw = json.loads(path.read_text("utf-8"))
    change(raw)
    path.write_text(json.dumps(raw))
    refused(train(cli, config, base), "base")


def test_settings_by_which_a_tokenizer_fails_on_a_text_are_one_message(
    cli: Cli, config: Path, base: Path
) -> None:
    path = base / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"model_max_length": "long"}))
    refused(train(cli, config, base), "base: the tokenizer cannot take ")


def test_a_panic_anywhere_else_is_no_verdict(
    cli: Cli, config: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python takes one for no `Exception`, and would end with 1."""

    class PanicException(BaseException):
        pass

    def panic(*_: Any, **__: Any) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr("ftreg.training.prepare.build_optimizer", panic)
    done = cli("train", config, "-o", "out")
    assert done.code == 70, done
