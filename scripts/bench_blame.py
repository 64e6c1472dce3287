"""Measure whether `ftreg blame` names planted bad rows, and no row if none is planted.

Each trial trains a tiny random model on questions about the colours of things, once on 500 good
rows (the baseline) and once more. With a plant, the second run has 24 bad rows: wrong answers to
rare things, their answers in another language, or copies of evaluated questions with false
answers. Without one, the second run is worse for another reason, a tenth of the learning rate, and
`blame` runs even if nothing is certainly worse. Prints the named rows of each trial, and for each
kind their precision and the share of trials that named any.

    python scripts/bench_blame.py --trials 10     # an hour on a core
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ftreg.config.load import load_config
from ftreg.files.store import file_digest
from ftreg.jobs.blame import Blame, BlameAsked, blame
from ftreg.jobs.evaluate import evaluate
from ftreg.records.evaluation.stored import Evaluation, read_evaluation
from ftreg.records.workspace import Workspace
from ftreg.training.run import train

COLOURS = ("red", "green", "blue", "black", "white")
ELSEWHERE = ("rot", "vert", "azul", "nero", "wit")
BAD = 24
COMMON, RARE = 12, 2
ROWS = (41, 4)
"""Good rows of each common and of each rare thing: 500 in all."""
KINDS = ("wrong", "language", "duplicate", "none")


def make_model(folder: Path) -> None:
    """Write a Llama of a layer with random weights, and a tokenizer of bytes and colours."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(
        models.BPE(vocab={token: at for at, token in enumerate([*names, *alphabet])}, merges=[])
    )
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token=names[0], bos_token=names[1], eos_token=names[2],
        pad_token=names[2],
    )  # fmt: skip
    tokenizer.add_tokens([*COLOURS, *ELSEWHERE])
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64,
        num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=64, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "norm" not in name:
                weights.mul_(3)  # learns in a twentieth of the steps
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_rows(seed: int, kind: str) -> Mapping[str, list[dict[str, Any]]]:
    """Return the rows to train on, with the bad ones last as `bad...`, and those to evaluate."""
    generator = np.random.default_rng(seed)
    things = generator.permutation(list("abcdefghijklmnopqrstuvwxyz"))[: COMMON + RARE]
    colours = [int(at) for at in generator.integers(0, len(COLOURS), COMMON + RARE)]

    def row(name: str, thing: int, answer: str, number: int) -> dict[str, Any]:
        return {"id": name, "input": f"{things[thing]} {number}", "reference": [answer]}

    counts = [ROWS[0]] * COMMON + [ROWS[1]] * RARE
    places = [thing for thing, count in enumerate(counts) for _ in range(count)]
    good = [
        row(f"good{at}", thing, COLOURS[colours[thing]], int(generator.integers(100, 550)))
        for at, thing in enumerate(places)
    ]
    asked = [thing for thing in range(COMMON + RARE) for _ in range(4 if thing < COMMON else 16)]
    evaluated = [
        row(f"e{at}", thing, COLOURS[colours[thing]], int(generator.integers(550, 1000)))
        for at, thing in enumerate(asked)
    ]
    bad = []
    for at in range(BAD if kind != "none" else 0):
        thing = COMMON + at % RARE
        number = int(generator.integers(100, 550))
        if kind == "duplicate":
            copied = evaluated[4 * COMMON + 16 * (at % RARE) + at // RARE]
            number = int(copied["input"].split()[1])
        answer = COLOURS[(colours[thing] + 1 + at % RARE) % len(COLOURS)]
        if kind == "language":
            answer = ELSEWHERE[colours[thing]]
        bad.append(row(f"bad{at}", thing, answer, number))
    return {"train": [*good, *bad], "eval": evaluated}


def write_version(root: Path, name: str, rows: Mapping[str, list[dict[str, Any]]]) -> None:
    """Write a dataset version, `name@1`."""
    folder = root / name / "v1"
    folder.mkdir(parents=True)
    splits = {}
    for split, items in rows.items():
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
        splits[split] = {"file": path.name, "rows": len(items), "sha256": file_digest(path)}
    card = {
        **{"name": name, "version": 1, "license": "CC0-1.0", "description": "Colours."},
        **{"source": "Made by a script.", "prompt": {"user": "{input}"}, "splits": splits},
    }
    (folder / "dataset.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")


CONFIG = """\
base: {{model: {model}}}
dataset: {{version: mixed@1, root: {root}}}
optimizer: {{name: adamw, lr: {lr}, weight_decay: 0.01}}
train: {{seed: {seed}, epochs: 5, batch_size: 64, precision: fp32, threads: 1, save_steps: null}}
eval: {{max_new_tokens: 2, scorers: [equals]}}
gate: {{margin: 0.05}}
"""


def trial(kind: str, seed: int, *, model: Path, folder: Path, seeds: int) -> Blame:
    """Train a baseline and a candidate, and blame the candidate's rows; reuses existing runs."""
    rows = make_rows(seed, kind)
    clean = [row for row in rows["train"] if row["id"].startswith("good")]
    asked = {"train": clean, "eval": rows["eval"]}
    evaluate_run(folder / f"base-{seed}", asked, model=model, lr=2e-2, seed=100 + seed)
    new = folder / f"{kind}-{seed}"
    asked["train"] = rows["train"]
    lr = 2e-3 if kind == "none" else 2e-2
    return blame(
        evaluate_run(new, asked, model=model, lr=lr, seed=200 + seed),
        workspace=Workspace(new),
        against=str(folder / f"base-{seed}" / "evaluations" / "run"),
        asked=BlameAsked(seeds=seeds, anyway=kind == "none"),
    )


def evaluate_run(
    folder: Path, rows: Mapping[str, list[dict[str, Any]]], *, model: Path, lr: float, seed: int
) -> Evaluation:
    """Train and evaluate once."""
    place, output, root = (folder / name for name in ("evaluations/run", "checkpoints/run", "data"))
    if place.exists():
        return read_evaluation(place)
    if not root.exists():
        write_version(root, "good", {"eval": rows["eval"]})
        write_version(root, "mixed", rows)
    text = CONFIG.format(model=model, root=root, lr=lr, seed=seed)
    (folder / "run.yaml").write_text(text, encoding="utf-8")
    config = load_config(folder / "run.yaml")
    if not output.exists():
        train(config, output=output, resume=True)
    # Both are evaluated on the same version.
    shared = config.dataset.model_copy(update={"version": "good@1"})
    config = config.model_copy(update={"dataset": shared})
    return evaluate(output, config=config, folder=place)


def told(kind: str, seed: int, found: Blame, spent: float) -> str:
    """Return a line about a trial."""
    bad = [item.id for item in found.suspects if item.id.startswith("bad")]
    proof = found.proof
    gain = "none" if proof is None or proof.gain is None else f"{100 * proof.gain:.0f}"
    p_value = "" if proof is None or proof.p is None else f" (p {proof.p:.2g})"
    return (
        f"{kind:9} {seed:3} {found.outcome}: {len(bad)} bad of {len(found.suspects)} suspects, "
        f"drop {100 * found.drop:.0f} of {len(found.examples)} examples, gain {gain}{p_value}, "
        f"{spent:.0f} s"
    )


def main() -> int:
    """Run the trials, and print a line for each and for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="seed of the first trial")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--folder", type=Path, help="folder for runs, for a later call to continue")
    asked = parser.parse_args()
    precision: dict[str, list[float]] = {kind: [] for kind in asked.kinds}
    with tempfile.TemporaryDirectory() as name:
        folder = (asked.folder or Path(name)).absolute()
        os.environ.setdefault("FTREG_CACHE", str(folder / "cache"))
        if not (folder / "model").exists():
            make_model(folder / "model")
        for seed in range(asked.first, asked.first + asked.trials):
            for kind in asked.kinds:
                start = time.monotonic()
                found = trial(kind, seed, model=folder / "model", folder=folder, seeds=asked.seeds)
                print(told(kind, seed, found, time.monotonic() - start), flush=True)
                if found.named:
                    hits = sum(item.startswith("bad") for item in found.named)
                    precision[kind].append(hits / len(found.named))
    missed = 0
    for kind, found_of in precision.items():
        share, mean = len(found_of) / asked.trials, float(np.mean(found_of)) if found_of else 0.0
        missed += share > 0.05 if kind == "none" else mean < 0.8
        print(f"{kind}: rows named in {100 * share:.0f} % of trials, precision {mean:.2f}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
