"""A checkpoint is read the same by transformers of the version before."""

import itertools
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ftreg.models.packaged import pull
from ftreg.models.save import save_pretrained
from tests import older_reader
from tests.architectures import HIDDEN, SHARED_HEADS, WINDOWED
from tests.conftest import Cli, make_model, write_dataset

OLD = ("transformers==4.57.*", "huggingface-hub<1", "tokenizers>=0.22,<=0.23.0")
PACKAGED = "smollm2-135m-instruct"
HEAD = {**SHARED_HEADS, "head_dim": 8}


def rope(**changes: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 123456.0, **changes}}


_BY_LAYER = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 77777.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 3333.0},
}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
_LONG: dict[str, Any] = {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 3.0, 4.0, 5.0]}
_LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_LLAMA3 |= {"rope_type": "llama3", "original_max_position_embeddings": 64}
# Model type and settings; every way to say where a token is that the two versions say otherwise.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**SHARED_HEADS, **rope()}),
    "llama 3": ("llama", {**SHARED_HEADS, **rope(**_LLAMA3)}),
    "mistral": ("mistral", {**WINDOWED, **rope()}),
    "mixtral": ("mixtral", {**SHARED_HEADS, **rope(), "num_local_experts": 4}),
    "qwen2, yarn": ("qwen2", {**SHARED_HEADS, **rope(**_YARN)}),
    "qwen3": ("qwen3", {**HEAD, **rope()}),
    "qwen3, experts": (
        "qwen3_moe",
        {**HEAD, **rope(), "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
    "gemma": ("gemma", {**HEAD, **rope()}),
    "gemma2": ("gemma2", {**WINDOWED, **rope()}),
    "gemma3": (
        "gemma3_text",
        {
            **WINDOWED,
            "rope_parameters": _BY_LAYER,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "phi": ("phi", {**SHARED_HEADS, **rope(partial_rotary_factor=0.25)}),
    "phi3": ("phi3", {**SHARED_HEADS, **rope(partial_rotary_factor=0.5)}),
    "phi3, long": (
        "phi3",
        {
            **SHARED_HEADS,
            "original_max_position_embeddings": 64,
            **rope(rope_type="longrope", **_LONG),
        },
    ),
    "neox": ("gpt_neox", {**HIDDEN, **rope(partial_rotary_factor=0.5)}),
    "gpt2": ("gpt2", {"vocab_size": 259, "n_layer": 2, "n_head": 4, "n_embd": 32}),
}


def random_model(name: str) -> Any:
    kind, settings = FAMILIES[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)  # far from uniform, so that positions matter
    return model.eval()


def same(found: Any, expected: Any) -> bool:
    """Whether all of `expected` is in `found`."""
    if isinstance(expected, dict):
        return all(same(found.get(key), value) for key, value in expected.items())
    return bool(found == expected)


@pytest.mark.parametrize("name", ["llama 3", "gemma3", "phi3, long", "neox", "qwen3, experts"])
def test_todays_transformers_reads_the_same_from_both_names(name: str, tmp_path: Path) -> None:
    model = random_model(name)
    save_pretrained(model, tmp_path / "both")
    model.save_pretrained(tmp_path / "plain")
    texts = [(tmp_path / part / "config.json").read_text() for part in ("plain", "both")]
    plain, both = map(json.loads, texts)
    assert both | plain == both
    older = set(both) - set(plain)
    assert older >= {"torch_dtype", "rotary_emb_base" if name == "neox" else "rope_theta"}
    read = [AutoConfig.from_pretrained(tmp_path / part) for part in ("both", "plain")]
    found, expected = [config.to_dict() | {"_name_or_path": ""} for config in read]
    assert same(found, expected)
    # Saved once more, by anybody, nothing of it is left to contradict a later change.
    ids = torch.arange(3, 90)[None]
    with torch.no_grad():
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "both")
        assert torch.equal(again(ids).logits, model(ids).logits)


def test_a_tokenizer_has_the_class_and_the_tokens_that_both_versions_know(
    tiny_model: Path, tmp_path: Path
) -> None:
    """`TokenizersBackend` is unknown to version 4, and a list of extra tokens breaks it."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<a>", "<b>"]})
    save_pretrained(tokenizer, tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["additional_special_tokens"] == ["<a>", "<b>"]
    assert "extra_special_tokens" not in settings
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is type(tokenizer)
    assert again.extra_special_tokens == tokenizer.extra_special_tokens
    assert again("a <a> b")["input_ids"] == tokenizer("a <a> b")["input_ids"]


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with transformers 4.57, and with what is installed here besides it."""
    folder = tmp_path_factory.mktemp("older") / "env"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--no-deps", *OLD]
    subprocess.run(pip, check=True, env=_plain_environment())
    own = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})["purelib"]
    here = sysconfig.get_paths()["purelib"]  # torch and the like, behind what was just installed
    (Path(own) / "here.pth").write_text(f"{here}\n", encoding="utf-8")
    return python


def _plain_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def _read(python: Path, cases: list[dict[str, Any]]) -> list[list[Any]]:
    done = subprocess.run(
        [python, str(Path(older_reader.__file__).resolve())],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
        env=_plain_environment(),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["version"].startswith("4.57.")
    return list(found["answers"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the environment's layout is that of POSIX")
def test_transformers_4_writes_the_same_tokens(old_python: Path, tmp_path: Path) -> None:
    """https://github.com/vllm-project/vllm/issues/42624 and 44158: another theta, unsaid."""
    ids = [(torch.arange(40) * 7 % 250 + 3).tolist(), list(range(3, 30))]
    cases, expected = [], []
    for number, name in enumerate(FAMILIES):
        model, folder = random_model(name), tmp_path / str(number)
        save_pretrained(model, folder)
        expected.append(
            [
                model.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)[
                    0, len(prompt) :
                ].tolist()
                for prompt in ids
            ]
        )
        case = {"folder": str(folder), "adapters": None, "tokenizer": None}
        cases.append(case | {"prompts": ids, "new_tokens": 16})
    found = _read(old_python, cases)
    assert dict(zip(FAMILIES, found, strict=True)) == dict(zip(FAMILIES, expected, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the environment's layout is that of POSIX")
def test_transformers_4_writes_what_ftreg_writes(
    old_python: Path, cli: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full and adapters, of a tiny model with a theta of its own and of the packaged one."""
    monkeypatch.delenv("FTREG_CACHE")
    packaged = pull(PACKAGED)
    base = make_model(workspace / "tiny", rope_theta=100000.0)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)
    model.save_pretrained(base)  # by plain transformers: what `ftreg` writes is in question
    write_dataset(workspace / "data")
    cases, expected = [], []
    for number, (name, lora) in enumerate(
        itertools.product([str(base), PACKAGED], [None, {"r": 4}])
    ):
        output = Path("checkpoints", str(number)).absolute()
        expected.append(_outputs(cli, name, lora, output))
        # The tiny base was written by transformers 5 alone; for version 4 ftreg writes it too.
        folder = output
        if lora:
            folder = workspace / "whole" if name != PACKAGED else packaged
            save_pretrained(model, workspace / "whole")
        cases.append(
            {
                "folder": str(folder),
                "adapters": str(output) if lora else None,
                "tokenizer": str(output),
                "prompts": _prompts(),
                "new_tokens": 8,
            }
        )
    assert len({text for texts in expected for text in texts}) > 4
    assert _read(old_python, cases) == expected


def _outputs(cli: Cli, base: str, lora: dict[str, int] | None, output: Path) -> list[str]:
    """Train a step, evaluate, and return the outputs."""
    settings = {
        "base": {"model": base},
        "dataset": {"version": "colours@1", "root": "data", "max_eval_examples": 3},
        "optimizer": {"name": "adamw", "lr": 1e-5},
        "train": {"max_steps": 1, "batch_size": 2, "precision": "fp32", "save_steps": None},
        "lora": lora,
        "eval": {"scorers": ["equals"], "max_new_tokens": 8},
    }
    Path("run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for command in (["train", "run.yaml", "-o", output], ["eval", output, "--no-gate"]):
        done = cli(*command)
        assert done.code == 0, done
    (rows,) = Path("evaluations").glob(f"{output.name}-*/outputs.jsonl")
    return [json.loads(line)["output"] for line in rows.read_text("utf-8").splitlines()]


def _prompts() -> list[list[dict[str, str]]]:
    lines = Path("data/colours/v1/eval.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:3]]
    return [[{"role": "user", "content": f"{row['context']}\n{row['input']}"}] for row in rows]
