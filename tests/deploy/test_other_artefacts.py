"""Merged folders and servers are held against their checkpoint: sound ones, and planted faults."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.chat_servers import Kind, serving_as
from tests.conftest import Cli, write_dataset
from tests.deployable import CHATML, INST, TOOLS, write_base
from tests.real_server import serve

SETTINGS = """\
base: {model: base}
dataset: {version: colours@1, root: datasets}
optimizer: {name: adamw, lr: 1e-2}
train: {batch_size: 4, precision: fp32, threads: 1}
eval: {max_new_tokens: 4, scorers: [equals]}
"""
TEMPLATE = "chat_template.jinja"
LORA = "lora: {r: 4, alpha: 64, target_modules: [down_proj]}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints `full` and `lora`, and the folder that each is exported to."""
    from typer.testing import CliRunner

    from ftreg.cli.app import app

    root = tmp_path_factory.mktemp("folders")
    write_dataset(root / "datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_base(root / "base", "llama", ends=True)
        (root / "base" / TEMPLATE).write_text(TOOLS, "utf-8")
        for name, settings in (("full", SETTINGS), ("lora", SETTINGS + LORA)):
            (root / f"{name}.yaml").write_text(settings, "utf-8")
            for arguments in (
                ("train", f"{name}.yaml", "-o", name, "-q"),
                ("export", name, "--to", "merged", "-o", f"{name}-merged", "-q"),
            ):
                done = CliRunner().invoke(app, arguments)
                assert done.exit_code == 0, done.output
    return root


@pytest.fixture(autouse=True)
def _there(cli: Cli, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)


@pytest.mark.parametrize("name", ["full", "lora"])
def test_a_merged_folder_is_its_checkpoint(name: str, cli: Cli) -> None:
    found = cli("parity", name, f"{name}-merged", "-q", "--json")
    assert (found.code, found.json["findings"]) == (0, []), found
    assert found.json["precision"] == "f32"
    assert found.json["nats"] < 1e-4
    assert found.json["not_compared"] == []


def settings(file: str, **changes: Any) -> Callable[[Path], None]:
    """Change keys of a file of settings."""

    def change(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """Change tensors."""

    def write(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return write


def merge_again(times: int) -> Callable[[dict[str, torch.Tensor]], None]:
    adapters = load_file(Path("lora/adapter_model.safetensors"))

    def change(tensors: dict[str, torch.Tensor]) -> None:
        for layer in range(2):
            name = f"model.layers.{layer}.mlp.down_proj"
            up, down = (adapters[f"base_model.model.{name}.lora_{part}.weight"] for part in "BA")
            tensors[f"{name}.weight"] += times * 16 * up @ down

    return change


def swap_rows(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.embed_tokens.weight"][[300, 301]] = tensors["model.embed_tokens.weight"][
        [301, 300]
    ]


def swap_tokens(folder: Path) -> None:
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text("utf-8"))
    vocab = data["model"]["vocab"]
    one, other = (token for token, row in vocab.items() if row in (300, 301))
    vocab[one], vocab[other] = vocab[other], vocab[one]
    path.write_text(json.dumps(data), "utf-8")


def begin_with_bos(folder: Path) -> None:
    path = folder / TEMPLATE
    path.write_text("{{ bos_token }}" + path.read_text("utf-8"), "utf-8")


FAULTS: dict[str, tuple[str, Callable[[], Callable[[Path], Any]], str]] = {
    "an added BOS": ("full", lambda: begin_with_bos, "a first token too many"),
    "another template": (
        "full", lambda: lambda to: (to / TEMPLATE).write_text(INST), "another chat template"
    ),
    "tools left out": (
        "full", lambda: lambda to: (to / TEMPLATE).write_text(CHATML), "another chat template"
    ),
    "no end token": (
        "full",
        lambda: settings("generation_config.json", eos_token_id=2),
        "a missing end token",
    ),
    "rope lost": (
        "full",
        lambda: settings("config.json", rope_parameters={"rope_type": "default", "rope_theta": 5}),
        "lost rope settings",
    ),
    "another activation": (
        "full", lambda: settings("config.json", hidden_act="gelu"), "another configuration"
    ),
    "untied": (
        "full",
        lambda: lambda to: (
            settings("config.json", tie_word_embeddings=False)(to),
            weights(lambda all_: all_.update({"lm_head.weight": torch.randn(401, 64)}))(to),
        ),
        "an untied output layer",
    ),
    "rows changed places": ("full", lambda: weights(swap_rows), "a wrong vocabulary row"),
    "tokens changed places": ("full", lambda: swap_tokens, "a wrong vocabulary row"),
    "not merged": ("lora", lambda: weights(merge_again(-1)), "adapters not merged"),
    "merged twice": ("lora", lambda: weights(merge_again(1)), "adapters merged twice"),
    "of another checkpoint": (
        "full",
        lambda: lambda to: (shutil.rmtree(to), shutil.copytree("lora-merged", to)),
        "a stale artefact",
    ),
    "a short context": (
        "full", lambda: settings("config.json", max_position_embeddings=16), "a context too short"
    ),
    "in bf16, named f32": (
        "full",
        lambda: weights(
            lambda all_: all_.update({name: value.bfloat16() for name, value in all_.items()})
        ),
        "another quantization than named",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_folder_is_found_and_named(fault: str, tmp_path: Path, cli: Cli) -> None:
    name, plant, cause = FAULTS[fault]
    shutil.copytree(f"{name}-merged", tmp_path / "planted")
    plant()(tmp_path / "planted")
    found = cli("parity", name, tmp_path / "planted", "-q", "--json")
    assert found.code == 3, found
    assert cause in [item["cause"] for item in found.json["findings"]]
    if fault == "tools left out":
        assert [item["where"].split(",")[0] for item in found.json["findings"][1:]] == [
            "prompt a tool"
        ]


def test_a_folder_of_nothing_is_one_message(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "empty").mkdir()
    found = cli("parity", "full", tmp_path / "empty", "-q")
    assert found.code == 2
    assert "no *.safetensors file" in found.err
    assert cli("parity", "full", "full-merged", "--model", "m", "-q").code == 2


# What each kind of server does not tell; none tells its weights.
UNTOLD: dict[Kind, list[str]] = {
    "vllm": ["weights"],
    "tgi": ["weights", "end tokens", "log-probabilities"],
    "ollama": ["weights", "token ids", "end tokens", "context", "log-probabilities"],
}
ENDS = {2, 400}


@pytest.mark.parametrize("kind", UNTOLD)
def test_a_server_is_compared_as_far_as_it_tells(kind: Kind, cli: Cli) -> None:
    with serving_as(kind, Path("full-merged"), ends=ENDS) as address:
        found = cli("parity", "full", f"{address}/v1", "-q", "--json")
        shown = cli("parity", "full", address, "--model", "served", "-q")
    assert (found.code, found.json["findings"]) == (0, []), found
    assert found.json["not_compared"] == UNTOLD[kind]
    assert (found.json["nats"] is None) == (kind != "vllm")
    assert f"does not tell: {', '.join(UNTOLD[kind])}" in shown.out


@pytest.mark.parametrize(
    ("kind", "how", "cause"),
    [
        ("vllm", {"prefix": "<|endoftext|>"}, "a first token too many"),
        ("tgi", {"prefix": "<|endoftext|>"}, "a first token too many"),
        ("ollama", {"prefix": "<|endoftext|>"}, "a first token too many"),
        ("ollama", {"prefix": "Be kind."}, "another chat template"),
        ("ollama", {"context": 30}, "a context too short"),
        ("vllm", {"context": 30}, "a context too short"),
        ("tgi", {"context": 30}, "a context too short"),
        ("vllm", {"ends": {2}}, "a missing end token"),
        ("vllm", {"folder": "lora-merged"}, "other log-probabilities"),
    ],
)
def test_a_fault_of_a_server_is_found_and_named(
    kind: Kind, how: dict[str, Any], cause: str, cli: Cli
) -> None:
    how = {"folder": "full-merged", "ends": ENDS} | how
    with serving_as(kind, Path(how.pop("folder")), **how) as address:
        found = cli("parity", "full", address, "-q", "--json")
    assert found.code == 3, found
    assert cause in [item["cause"] for item in found.json["findings"]], found.json


@pytest.mark.slow
def test_what_transformers_serves_is_compared(made: Path, cli: Cli) -> None:
    """A real server: it tells the number of tokens, and where an output ends."""
    pytest.importorskip("uvicorn")
    folder = made / "full-merged"
    with serve(folder) as address:
        found = cli("parity", "full", address, "--model", str(folder), "-q", "--json")
        other = cli("parity", "lora", address, "--model", str(made / "nothing"), "-q")
    assert found.code == 0, found
    assert found.json["not_compared"] == ["weights", "token ids", "context", "log-probabilities"]
    assert other.code == 2
