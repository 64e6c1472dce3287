"""Fixtures: a tiny random model, a tiny dataset, and the command line run in process."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml

from ftreg import process
from ftreg.files.store import file_digest, write_record

# Set before torch is loaded: spinning threads would starve the tests of the other process.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The same examples each time; `HYPOTHESIS_PROFILE=random` looks for others.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.register_profile("random", derandomize=False)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_model(folder: Path, **changes: Any) -> Path:
    """Write a two-layer random Llama, and a byte-level tokenizer with a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="<|endoftext|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        **changes,
    }
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def waits_for_no_disk() -> Iterator[None]:
    """Disable fsync, whose effect no test can see and which would slow down every command.

    Tests of syncing observe the calls; programs that tests start sync as usual.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # also fails unless the file is open
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def talking_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with larger weights, so that its outputs differ from prompt to prompt.

    The tiny model itself writes only line breaks, so that its outputs are empty.
    """
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("model") / "talking"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def mlflow_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server for this test run."""
    from tests.mlflow_server import mlflow_server

    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


def rows_of(count: int, prefix: str = "e") -> list[dict[str, Any]]:
    words = ["red", "green", "blue", "black", "white"]
    return [
        {
            "id": f"{prefix}{i}",
            "input": f"Which colour has item {i}?",
            "context": f"Item {i} is {words[i % 5]}.",
            "reference": [words[i % 5], f"It is {words[i % 5]}."],
            "tags": {"parity": "even" if i % 2 == 0 else "odd", "group": f"g{i // 2}"},
        }
        for i in range(count)
    ]


def write_dataset(
    root: Path,
    *,
    name: str = "colours",
    version: int = 1,
    train: list[dict[str, Any]] | None = None,
    evaluation: list[dict[str, Any]] | None = None,
    **card: Any,
) -> Path:
    """Write a dataset version below `root`, with matching digests."""
    folder = root / name / f"v{version}"
    folder.mkdir(parents=True)
    splits = {}
    chosen = {
        "train": rows_of(12, "t") if train is None else train,
        "eval": rows_of(8) if evaluation is None else evaluation,
    }
    for split, rows in chosen.items():
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        splits[split] = {"file": path.name, "rows": len(rows), "sha256": file_digest(path)}
    write_card(folder, name=name, version=version, splits=splits, **card)
    return folder


def write_card(folder: Path, **changes: Any) -> None:
    card = {
        "license": "Apache-2.0",
        "description": "Colours.",
        "source": "Made by a test.",
        "prompt": {"user": "{context}\n{input}"},
        "cohorts": ["parity"],
        **changes,
    }
    (folder / "dataset.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")


def add_split(name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Add a split to the dataset of `config`."""
    folder = Path("datasets/colours/v1")
    path = folder / f"{name}.jsonl"
    lines = [json.dumps(row) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    card = yaml.safe_load((folder / "dataset.yaml").read_text(encoding="utf-8"))
    card["splits"][name] = {"file": path.name, "rows": len(lines), "sha256": file_digest(path)}
    write_card(folder, **card)


def rewrite_rows(
    path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> None:
    """Change the rows of an evaluation's file, and update its digests to match."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    text = "".join(json.dumps(row) + "\n" for row in change(rows))
    path.write_text(text, encoding="utf-8")
    reseal(path.parent)


def reseal(evaluation: Path) -> None:
    """Update an evaluation's digests to its current files."""
    path = evaluation / "evaluation.json"
    header = json.loads(path.read_text(encoding="utf-8"))
    header.pop("digest")
    files = {name: file_digest(evaluation / name) for name in header["files"]}
    write_record(path, {**header, "files": files})


class Result:
    """A command's result: exit code, stdout and stderr."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with its own cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTREG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FTREG_WORKSPACE", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    process.forget_signal()  # in case another test sent one to this process
    return tmp_path


@pytest.fixture
def cli(workspace: Path) -> Cli:
    """Run `ftreg` in process, as `ftreg ARG ...` in the workspace would."""
    from typer.testing import CliRunner

    from ftreg.cli.app import app

    def run(*arguments: object) -> Result:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Result(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def config(workspace: Path, tiny_model: Path) -> Path:
    """A complete configuration for the tiny model and the tiny dataset."""
    write_dataset(workspace / "datasets")
    path = workspace / "run.yaml"
    path.write_text(
        f"""\
base:
  model: {tiny_model}
dataset:
  version: colours@1
  root: datasets
optimizer:
  name: adamw
  lr: 1e-3
train:
  batch_size: 4
  precision: fp32
  threads: 1
eval:
  max_new_tokens: 4
  scorers:
    - equals
    - {{name: "tests.fakes:length_scorer", options: {{limit: 40}}}}
gate:
  margin: 0.35
  min_examples: 4
  constant: [equals, "tests.fakes:length_scorer"]
  resamples: 999
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def examples(tiny_model: Path, workspace: Path) -> Any:
    """The tiny dataset's training rows, tokenized."""
    from transformers import AutoTokenizer

    from ftreg.data import load_dataset
    from ftreg.models.assistant_turn import AssistantTurn
    from ftreg.models.chat_template import Chat
    from ftreg.training.batching.examples import TokenisedExamples, record_batches, token_pairs

    write_dataset(workspace)
    dataset = load_dataset("colours@1", root=workspace)
    pairs = token_pairs(
        dataset.split("train"),
        turn=AssistantTurn(Chat(AutoTokenizer.from_pretrained(tiny_model))),
        prompt=dataset.card.prompt,
        max_length=512,
    )
    return TokenisedExamples(record_batches(pairs))


@pytest.fixture
def talking_config(config: Path, talking_model: Path) -> Path:
    """`config` with `talking_model`, whose outputs differ."""
    config.write_text(re.sub("model: .*", f"model: {talking_model}", config.read_text("utf-8")))
    return config
