"""An artefact is held against its checkpoint: each fault is named, and sound ones have none."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from ftreg.services.llama_cpp import serving
from tests.conftest import Cli, write_dataset
from tests.deployable import CHATML, INST, as_checkpoint, write_base
from tests.gguf_surgery import operate

pytest.importorskip("xllamacpp")

LORA = "lora: {r: 4, alpha: 64, target_modules: [down_proj]}"
SETTINGS = """\
base: {{model: {base}}}
dataset: {{version: colours@1, root: datasets}}
optimizer: {{name: adamw, lr: 1e-2}}
train: {{batch_size: 4, precision: fp32, threads: 1}}
eval: {{max_new_tokens: 4, scorers: [equals]}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints by the name of their architecture, and `lora`; with a GGUF file of each."""
    from typer.testing import CliRunner

    from ftreg.cli.app import app

    root = tmp_path_factory.mktemp("deploy")
    write_dataset(root / "datasets")
    write_base(root / "base", "llama", rope_parameters={"rope_type": "default", "rope_theta": 1e5})
    plain = SETTINGS.format(base=root / "base")
    (root / "llama.yaml").write_text(plain, "utf-8")
    (root / "lora.yaml").write_text(plain + LORA, "utf-8")

    def run(*arguments: object) -> None:
        done = CliRunner().invoke(app, [str(each) for each in arguments])
        assert done.exit_code == 0, done.output

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name in ("llama", "lora"):
            run("train", f"{name}.yaml", "-o", name, "-q")
        for name in ("llama3", "mistral"):
            as_checkpoint(write_base(root / name, name, ends=name == "llama3"), root / "llama")
        for name in ("llama", "lora", "llama3", "mistral"):
            run("export", name, "--to", "gguf:f32", "-o", f"{name}.gguf", "-q")
        run("export", "llama", "--to", "gguf:q8_0", "-o", "llama-q8_0.gguf", "-q")
    return root


@pytest.fixture(autouse=True)
def _there(cli: Cli, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)  # where the dataset is


def swapped_rows(name: str, value: np.ndarray) -> np.ndarray:
    if name == "token_embd.weight":
        value = value.copy()
        value[[300, 301]] = value[[301, 300]]
    return value


def swapped_tokens(file: Path) -> list[str]:
    import gguf

    tokens = gguf.GGUFReader(file).fields["tokenizer.ggml.tokens"].contents()
    tokens[300], tokens[301] = tokens[301], tokens[300]
    return list(tokens)


def with_adapters(folder: Path, times: float) -> Callable[[str, np.ndarray], np.ndarray]:
    """Add what the adapters add to the matrices once more, or take it away."""
    adapters = load_file(folder / "adapter_model.safetensors")

    def changed(name: str, value: np.ndarray) -> np.ndarray:
        found = re.fullmatch(r"blk\.(\d+)\.ffn_down\.weight", name)
        if found is None:
            return value
        place = f"base_model.model.model.layers.{found[1]}.mlp.down_proj.lora"
        return (
            value + times * 64 / 4 * adapters[f"{place}_B.weight"] @ adapters[f"{place}_A.weight"]
        )

    return changed


def plant(fault: str, made: Path, target: Path) -> str:
    """Write an artefact with a fault; returns the name of its checkpoint."""
    llama, mistral = made / "llama.gguf", made / "mistral.gguf"
    template = "tokenizer.chat_template"
    no_system = CHATML.replace("<|im_start|>{{ m", "{% if m['role'] != 'system' %}<|im_start|>{{ m")
    no_system = no_system.replace("<|im_end|>\n{% endfor", "<|im_end|>\n{% endif %}{% endfor")
    noise = np.random.default_rng(0).normal(size=(*np.shape(swapped_tokens(llama)), 64))
    unnamed = {"ftreg.checkpoint": None, "ftreg.weights": None}
    faults: dict[str, tuple[str, Callable[[], Any]]] = {
        "doubled BOS": (
            "mistral", lambda: operate(mistral, target, keys={template: "{{ bos_token }}" + INST})
        ),
        "added BOS": (
            "llama", lambda: operate(llama, target, keys={"tokenizer.ggml.add_bos_token": True})
        ),
        "no end token": (
            "llama3",
            lambda: operate(
                made / "llama3.gguf", target, keys={"tokenizer.ggml.eot_token_id": None}
            ),
        ),
        "another template": (
            "llama", lambda: operate(llama, target, keys={template: INST})
        ),
        "dropped system turn": (
            "llama", lambda: operate(llama, target, keys={template: no_system})
        ),
        "lost rope base": (
            "llama", lambda: operate(llama, target, keys={"llama.rope.freq_base": 1e4})
        ),
        "lost rope factors": (
            "llama3",
            lambda: operate(
                made / "llama3.gguf", target,
                tensors=lambda name, value: None if name == "rope_freqs.weight" else value,
            ),
        ),
        "untied head": ("llama", lambda: operate(llama, target, added={"output.weight": noise})),
        "lost head": (
            "llama3",
            lambda: operate(
                made / "llama3.gguf", target,
                tensors=lambda name, value: None if name == "output.weight" else value,
            ),
        ),
        "wrong embedding row": ("llama", lambda: operate(llama, target, tensors=swapped_rows)),
        "wrong token": (
            "llama",
            lambda: operate(llama, target, keys={"tokenizer.ggml.tokens": swapped_tokens(llama)}),
        ),
        "not merged": (
            "lora",
            lambda: operate(
                made / "lora.gguf", target, tensors=with_adapters(made / "lora", -1)
            ),
        ),
        "merged twice": (
            "lora",
            lambda: operate(made / "lora.gguf", target, tensors=with_adapters(made / "lora", 1)),
        ),
        "stale by its manifest": ("lora", lambda: shutil.copy(llama, target)),
        "stale by its weights": (
            "llama",
            lambda: operate(
                llama, target, keys=unnamed,
                tensors=lambda name, value: value + 0.1 * np.std(value) * (value.ndim > 1),
            ),
        ),
        "short context": (
            "llama", lambda: operate(llama, target, keys={"llama.context_length": 32})
        ),
        "another quantization": (
            "llama",
            lambda: operate(made / "llama-q8_0.gguf", target, keys={"general.file_type": 2}),
        ),
    }  # fmt: skip
    checkpoint, write = faults[fault]
    write()
    return checkpoint


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("doubled BOS", "a doubled first token"),
        ("added BOS", "a first token too many"),
        ("no end token", "a missing end token"),
        ("another template", "another chat template"),
        ("dropped system turn", "a dropped system turn"),
        ("lost rope base", "lost rope settings"),
        ("lost rope factors", "lost rope settings"),
        ("untied head", "an untied output layer"),
        ("lost head", "a missing tensor"),
        ("wrong embedding row", "a wrong vocabulary row"),
        ("wrong token", "a wrong vocabulary row"),
        ("not merged", "adapters not merged"),
        ("merged twice", "adapters merged twice"),
        ("stale by its manifest", "a stale artefact"),
        ("stale by its weights", "a stale artefact"),
        ("short context", "a context too short"),
        ("another quantization", "another quantization than named"),
    ],
)
def test_a_planted_fault_is_found_and_named(
    fault: str, cause: str, made: Path, tmp_path: Path, cli: Cli
) -> None:
    checkpoint = plant(fault, made, tmp_path / "planted.gguf")
    found = cli("parity", made / checkpoint, tmp_path / "planted.gguf", "-q", "--json")
    assert found.code == 3, found
    assert cause in [item["cause"] for item in found.json["findings"]]
    assert not found.json["alike"]


def test_a_running_server_is_compared_by_its_address(made: Path, cli: Cli) -> None:
    with serving(made / "llama-q8_0.gguf") as server:
        sound = cli("parity", made / "llama", server.address, "-q", "--json")
        other = cli("parity", made / "mistral", f"{server.address}/v1", "-q", "--json")
    assert sound.code == 0, sound
    assert sound.json["precision"] is None
    assert other.code == 3, other
    assert "another chat template" in [item["cause"] for item in other.json["findings"]]
    nobody = cli("parity", made / "llama", server.address, "-q")
    assert nobody.code == 2
    assert "no answer from a server" in nobody.err


def test_the_first_difference_is_shown_token_by_token(made: Path, tmp_path: Path, cli: Cli) -> None:
    plant("added BOS", made, tmp_path / "planted.gguf")
    found = cli("parity", made / "llama", tmp_path / "planted.gguf", "-q")
    assert found.code == 3
    assert re.search(r"a first token too many \(12 prompts\): prompt .+, token 0", found.out)
    assert re.search(r"!\s+0\s+1 '<\|im_start\|>'\s+0 '<\|endoftext\|>'", found.out), found.out
