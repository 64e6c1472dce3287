"""Test ftreg on every causal architecture in the installed transformers.

For each architecture's default configuration, a small model with random weights is created
(`ftreg.models.twin`), trained for two steps and evaluated on a few rows, by the jobs that the
commands call. The first loss is compared with a separate forward pass per example, and the outputs
with `generate()` on one prompt at a time; both references use transformers only. Exits with 1 on a
difference, an unexpected error or a timeout.

Each model runs in a separate process, forked from one with all imports done. With `--keep` a run
can be stopped and resumed, or done in parts: models without a fault are not examined again.
"""

import argparse
import importlib.metadata
import json
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import peft  # noqa: F401 (so that no child has to import it)
import torch
import transformers
import transformers.optimization
from huggingface_hub.errors import StrictDataclassClassValidationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ftreg.config.load import load_config
from ftreg.data import load_dataset
from ftreg.errors import FtregError, first_line
from ftreg.generation import in_process
from ftreg.jobs.evaluate import evaluate
from ftreg.jobs.generate import SilentEval
from ftreg.jobs.train import train_files
from ftreg.models.chat_template import Chat
from ftreg.models.twin import NoTwinError, twin_of
from ftreg.records.workspace import Workspace
from ftreg.training import replicate
from ftreg.training.batching.batches import batch_order
from ftreg.training.events import Silent
from tests.conftest import TEMPLATE, rows_of, write_dataset

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
MARK = "<!-- The table below is written by scripts/compat.py. -->\n"
PRELOADED = (in_process, replicate)
"""Modules that jobs import lazily, imported here once for all children."""
SECONDS = 600
"""Time limit for one architecture."""
STEPS, BATCH, ROWS, NEW_TOKENS = 2, 4, 6, 8

# Settings that some default configurations lack for generation: decoders must be requested, and
# hybrids have only one type of layer by default.
SETTINGS: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"num_experts_per_tok": 2, "n_routed_experts": 4},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "bamba": {"attn_layer_indices": [1]},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
    "ministral": {"head_dim": 128, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 16},
}
DATASETS = Path("../datasets")
_CONFIG = """\
base: {{model: base}}
dataset: {{version: colours@1, root: ../datasets}}
optimizer: {{name: adamw, lr: 1e-4}}
train: {{batch_size: {batch}, precision: fp32, threads: 1, max_steps: {steps}, save_steps: null}}
eval: {{max_new_tokens: {new}, batch_size: 3, precision: fp32, scorers: [equals]}}
"""


class _Heard(Silent, SilentEval):
    """Keeps a run's notices."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of ASCII characters, which fits a twin's vocabulary."""
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False)
    text = "".join(map(chr, range(32, 127))) + "\n"
    alphabet = sorted({piece for part, _ in letters.pre_tokenize_str(text) for piece in part})
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: number for number, token in enumerate([*special, *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer, raw.decoder = letters, decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token=special[0], eos_token=special[2], pad_token=special[2]
    )
    made.chat_template = TEMPLATE
    return made


def make_base(name: str, folder: Path) -> None:
    """Write an architecture's small model and the tokenizer to `folder`."""
    model = twin_of(CONFIG_MAPPING[name](**SETTINGS.get(name, {})))
    try:
        model(input_ids=torch.arange(10, 20)[None], use_cache=False)
    except Exception as error:
        raise NoTwinError(f"its small model fails: {first_line(error)}") from error
    made = tokenizer()
    for config in (model.config, model.config.get_text_config(), model.generation_config):
        if config is not None:
            config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 2, 2
    model.save_pretrained(folder)
    made.save_pretrained(folder)


def examine(name: str) -> dict[str, str]:
    """Train and evaluate an architecture in the working folder; returns its row of the table."""
    found = {"model": name}
    try:
        make_base(name, Path("base"))
    except (NoTwinError, StrictDataclassClassValidationError) as error:
        return found | {"train": f"not tried: {first_line(error)}"}
    text = _CONFIG.format(batch=BATCH, steps=STEPS, new=NEW_TOKENS)
    Path("run.yaml").write_text(text, encoding="utf-8")
    workspace = Workspace(Path())
    heard = _Heard()
    try:
        train_files([Path("run.yaml")], workspace=workspace, output=Path("out"), events=heard)
    except FtregError as error:
        return found | {"train": f"refused: {_brief(error)}"}
    found |= {"train": "yes", "packing": _packing()}
    (first, *_) = Path("out/history.jsonl").read_text("utf-8").splitlines()
    loss, alone = json.loads(first)["loss"], _loss_alone(Path("base"))
    if abs(loss - alone) > 1e-4 * max(1.0, abs(alone)) and not _random(Path("base")):
        found["fault"] = f"a loss of {loss}, and {alone} of each example alone"
    try:
        evaluate(
            Path("out"),
            config=load_config(Path("run.yaml")),
            folder=Path("evaluation"),
            events=heard,
        )
    except FtregError as error:
        return found | {"eval": f"refused: {_brief(error)}"}
    found["eval"] = _decoding()
    differs = [name for name, ours, alone in _outputs() if ours != alone]
    if differs:
        found["fault"] = f"other outputs than generate() on one prompt: {', '.join(differs)}"
    return found


def _brief(error: Exception) -> str:
    text = first_line(error).replace("base: ", "").replace("|", "/")
    return text.partition(": what it predicts")[0]


def _packing() -> str:
    manifest = json.loads(Path("out/ftreg.json").read_text("utf-8"))["training"]
    if not manifest["packing"]:
        return "each by itself"
    return "packed, prefix shared" if manifest["shared_prefix"] else "packed"


def _decoding() -> str:
    return str(
        json.loads(Path("evaluation/evaluation.json").read_text("utf-8"))["generation"]["way"]
    )


def _random(base: Path) -> bool:
    """Whether the forward pass in training draws random numbers, so that losses cannot match."""
    model = AutoModelForCausalLM.from_pretrained(base, use_safetensors=True).train()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with torch.no_grad():
        model(input_ids=torch.arange(10, 20)[None], use_cache=False)
    return not torch.equal(before, torch.get_rng_state())


def _loss_alone(base: Path) -> float:
    """Return the first step's loss per token in nats, with a separate pass per example."""
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, use_safetensors=True
    ).eval()
    made = AutoTokenizer.from_pretrained(base)
    dataset = load_dataset("colours@1", root=DATASETS)
    rows = list(dataset.split("train"))
    (order,) = batch_order(len(rows), batch_size=BATCH, steps=1, seed=0)
    total, count = 0.0, 0
    for row in (rows[number] for number in order):
        asked = dataset.card.prompt.messages(row)
        prompt = Chat(made).prompt(asked)
        answer = made(row.references[0])["input_ids"] + [made.eos_token_id]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0]
        wanted = torch.tensor(answer)
        losses = functional.cross_entropy(logits[len(prompt) - 1 : -1].float(), wanted)
        total, count = total + losses.item() * len(answer), count + len(answer)
    return total / count


def _outputs() -> Iterator[tuple[str, str, str]]:
    """Yield each example's id, its evaluated output, and that of `generate()` on it alone."""
    model = AutoModelForCausalLM.from_pretrained(
        "out", dtype=torch.float32, use_safetensors=True
    ).eval()
    made = AutoTokenizer.from_pretrained("out")
    dataset = load_dataset("colours@1", root=DATASETS)
    lines = Path("evaluation/outputs.jsonl").read_text("utf-8").splitlines()
    outputs = {row["id"]: row["output"] for row in map(json.loads, lines)}
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=2, pad_token_id=2
    )
    model.generation_config = GenerationConfig()
    for row in dataset.split("eval"):
        prompt = torch.tensor([Chat(made).prompt(dataset.card.prompt.messages(row))])
        with torch.inference_mode():
            tokens = model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=settings,
            )
        text = made.decode(tokens[0, prompt.shape[1] :], skip_special_tokens=True)
        yield row.id, outputs[row.id], text.strip()


def child(name: str, folder: str) -> None:
    """Examine an architecture in a folder, and write `result.json` there."""
    os.chdir(folder)
    os.environ["FTREG_CACHE"] = str(Path(folder).parent / "cache")
    warnings.simplefilter("ignore")
    logging.disable()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    with (
        Path("log.txt").open("w", encoding="utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        try:
            found = examine(name)
        except BaseException as error:
            traceback.print_exc()
            found = {"model": name, "fault": f"{type(error).__name__}: {first_line(error)}"}
    Path("result.json").write_text(json.dumps(found), encoding="utf-8")


def examined(name: str, root: Path) -> dict[str, str]:
    """Examine an architecture in a separate process; reuses a result without a fault."""
    folder = root / name
    path = folder / "result.json"
    if path.exists() and "fault" not in (found := json.loads(path.read_text("utf-8"))):
        return dict(found)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=child, args=(name, str(folder)))
    began = time.monotonic()
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
    if path.exists():
        found = json.loads(path.read_text("utf-8"))
    else:
        found = {
            "model": name,
            "fault": f"ended by itself, or after {SECONDS} s: {process.exitcode}",
        }
    text = {key: value for key, value in found.items() if key != "model"}
    print(f"{name}: {text} ({time.monotonic() - began:.0f} s)", flush=True)
    if "fault" not in found:
        shutil.rmtree(folder)
        folder.mkdir()
        path.write_text(json.dumps(found), encoding="utf-8")
    return dict(found)


def table(rows: list[dict[str, str]]) -> str:
    """Return the results as a Markdown table."""
    libraries = (f"{name} {importlib.metadata.version(name)}" for name in ("transformers", "torch"))
    share = f"{len(rows)} of {len(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)} architectures"
    lines = [
        f"{share}, with {' and '.join(libraries)}:\n",
        "| architecture | trains | examples | decodes |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [row.get(key, "") for key in ("train", "packing", "eval")]
        if "fault" in row:
            cells[2] = f"**fault**: {row['fault']}"
        lines.append(f"| `{row['model']}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Examine the named architectures, or all; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; none means all")
    parser.add_argument("--jobs", type=int, default=2, help="models at a time")
    parser.add_argument("--page", action="store_true", help="write the table of docs/models.md")
    parser.add_argument("--keep", type=Path, help="a folder for results, and runs with faults")
    options = parser.parse_args()
    names = options.names or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    multiprocessing.get_context("forkserver").set_forkserver_preload(["scripts.compat"])
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        root = options.keep or Path(folder)
        shutil.rmtree(root / "datasets", ignore_errors=True)
        write_dataset(root / "datasets", train=rows_of(ROWS, "t"), evaluation=rows_of(ROWS))
        rows = list(pool.map(lambda name: examined(name, root), names))
    text = table(rows)
    if options.page:
        head = PAGE.read_text("utf-8").partition(MARK)[0]
        PAGE.write_text(head + MARK + "\n" + text, encoding="utf-8")
    else:
        print(text)
    return 1 if any("fault" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
