"""K-quants, which llama.cpp makes of our f16, are compared and gated like any GGUF file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Cli, rows_of, write_dataset
from tests.deployable import write_base
from tests.gguf_surgery import k_quantized, operate

pytest.importorskip("xllamacpp")

SETTINGS = """\
base: {model: base}
dataset: {version: colours@1, root: datasets}
optimizer: {name: adamw, lr: 1e-2}
train: {batch_size: 4, precision: fp32, threads: 1}
lora: {r: 4, alpha: 16, target_modules: [down_proj]}
eval:
  max_new_tokens: 4
  repeats: 1
  scorers: ["tests.fakes:variety_scorer"]
gate: {margin: 0.5, min_examples: 4, constant: ["tests.fakes:variety_scorer"]}
"""


@pytest.fixture
def file(workspace: Path, cli: Cli) -> Path:
    """The f16 file of an evaluated checkpoint, whose rows fill the blocks of K-quants."""
    write_dataset(workspace / "datasets", evaluation=rows_of(16))
    wide = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64}
    write_base(workspace / "base", "llama", rounded=True, **wide)
    Path("run.yaml").write_text(SETTINGS, "utf-8")
    for arguments in (
        ("train", "run.yaml", "-o", "checkpoints/made", "-q"),
        ("eval", "made", "--no-gate", "--no-report", "-q"),
        ("export", "made", "-o", "made-f16.gguf", "-q"),
    ):
        done = cli(*arguments)
        assert done.code == 0, done
    return Path("made-f16.gguf")


def test_a_k_quant_of_adapters_that_f16_loses_is_alike(file: Path, cli: Cli) -> None:
    """Adapters that were hardly trained, beside weights that f16 holds exactly."""
    assert cli("train", "run.yaml", "-s", "optimizer.lr=1e-6", "-o", "gentle", "-q").code == 0
    for form in ("f16", "q8_0"):
        assert cli("export", "gentle", "--to", f"gguf:{form}", "-o", f"{form}.gguf", "-q").code == 0
    made = k_quantized(Path("f16.gguf"), Path("gentle-Q4_K_M.gguf"))
    for target in (made, Path("f16.gguf"), Path("q8_0.gguf")):
        found = cli("parity", "gentle", target, "-q", "--json")
        assert (found.code, found.json["findings"]) == (0, []), found


def test_a_k_quant_of_our_f16_is_alike_and_gated(file: Path, cli: Cli) -> None:
    (first,) = Path("evaluations").iterdir()
    for importance in (False, True):
        target = k_quantized(file, Path(f"made-{importance}-Q4_K_M.gguf"), importance=importance)
        found = cli("parity", "made", target, "-q", "--json")
        assert (found.code, found.json["findings"]) == (0, []), found
        assert found.json["precision"] == "q4_k"
    gated = cli("eval", target, "--against", first.name, "--no-report", "-q", "--json")
    assert gated.code == 0, gated
    (served,) = set(Path("evaluations").iterdir()) - {first}
    artefact = json.loads((served / "evaluation.json").read_text("utf-8"))["generation"]["artefact"]
    assert (artefact["precision"], artefact["paired_by"]) == ("q4_k", "metadata")


def test_faults_of_a_k_quant_are_found_and_named(file: Path, cli: Cli) -> None:
    sound = k_quantized(file, Path("made-Q4_K_M.gguf"))

    def causes(name: Path) -> list[str]:
        found = cli("parity", "made", name, "-q", "--json")
        assert found.code == 3, found
        return [item["cause"] for item in found.json["findings"]]

    named = Path(shutil.copy(sound, "made-Q6_K.gguf"))
    assert causes(named) == ["another quantization than named"]
    # Without the adapters: of a K-quant only the projection on what they add tells.
    from ftreg.deploy.gguf_writing import plan_gguf
    from ftreg.records.checkpoint import read_checkpoint

    plan = plan_gguf(read_checkpoint(Path("checkpoints/made")))

    def base_of(name: str, value: np.ndarray) -> np.ndarray:
        return plan.value(name, times=0) if "ffn_down" in name else value

    bare = operate(file, Path("bare.gguf"), tensors=base_of)
    assert "adapters not merged" in causes(k_quantized(bare, Path("bare-Q4_K_M.gguf")))

    def swapped(name: str, value: np.ndarray) -> np.ndarray:
        if name == "token_embd.weight":
            value = value.copy()
            value[[300, 301]] = value[[301, 300]]
        return value

    rows = operate(file, Path("rows.gguf"), tensors=swapped)
    assert "a wrong vocabulary row" in causes(k_quantized(rows, Path("rows-Q4_K_M.gguf")))
