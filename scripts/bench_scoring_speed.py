"""Compare the time to generate outputs with the time to score them, and to score them again.

    python scripts/bench_scoring_speed.py [--examples 200] [--max-new-tokens 40]

The packaged base model answers rows of code-summary@2. Then `ftreg score` scores the outputs with
the four embedded scorers: with an empty cache; again; and with other outputs on the same rows, as
the next checkpoint's would be. Everything is measured in one run, in wall-clock and CPU seconds;
the ratios carry over to other machines. All parts are linear in the examples, except process
start-up.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from ftreg.data import DatasetVersion, load_dataset
from ftreg.files.store import write_jsonl
from ftreg.generation.greedy import generate
from ftreg.generation.ways import choose_way
from ftreg.models.chat_template import Chat
from ftreg.models.packaged import packaged_folder
from ftreg.models.pretrained import load_tokenizer
from ftreg.records.samples import Example

SCORERS = ("faithfulness", "answer_relevancy", "completeness", "equals")
BATCH = 16

Seconds = tuple[float, float]
"""Wall-clock and CPU seconds."""


def generated(
    dataset: DatasetVersion, rows: Sequence[Example], limit: int
) -> tuple[list[str], Seconds]:
    """Return an output of the base model for each row, and the time without loading."""
    folder = packaged_folder("smollm2-135m-instruct")
    tokenizer = load_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    chat = Chat(tokenizer)
    prompts = [(row.id, chat.prompt(dataset.card.prompt.messages(row))) for row in rows]
    way = choose_way(model, [ids for _, ids in prompts]).way
    clock, processor = time.perf_counter(), time.process_time()
    outputs = generate(
        prompts,
        model=model,
        chat=chat,
        max_new_tokens=limit,
        batch_size=BATCH,
        way=way,
    )
    spent = (time.perf_counter() - clock, time.process_time() - processor)
    return [output.text for output in outputs], spent


def samples(
    dataset: DatasetVersion, rows: Sequence[Example], outputs: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows as `ftreg score` takes them."""
    return [
        {
            "id": row.id,
            "input": row.input,
            "output": output,
            "reference": list(row.references),
            "context": dataset.card.scoring_context(row),
        }
        for row, output in zip(rows, outputs, strict=True)
    ]


def scored(file: Path, result: Path, cache: Path) -> Seconds:
    """Score a file in a separate process, including start and loading."""
    command = [sys.executable, "-m", "ftreg", "score", str(file), "-o", str(result)]
    command += [f"--scorer={name}" for name in SCORERS]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    clock = time.perf_counter()
    environment = {**os.environ, "FTREG_CACHE": str(cache)}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    spent = time.perf_counter() - clock
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--max-new-tokens", type=int, default=40)
    arguments = parser.parse_args()
    dataset = load_dataset("code-summary@2", root=Path("sample_datasets"))
    rows = list(dataset.split("train")[: arguments.examples])
    outputs, generating = generated(dataset, rows, arguments.max_new_tokens)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cache").mkdir()
        (folder / "cache" / "models").symlink_to(packaged_folder("all-minilm-l6-v2").parent)
        write_jsonl(folder / "one.jsonl", samples(dataset, rows, outputs))
        others = [row.references[0] for row in rows]
        write_jsonl(folder / "other.jsonl", samples(dataset, rows, others))
        runs = [
            (f"generating, at most {arguments.max_new_tokens} tokens, fp32", generating),
            ("scoring, nothing cached", _run(folder, "one", 1)),
            ("scoring again", _run(folder, "one", 2)),
            ("scoring other outputs on these rows", _run(folder, "other", 3)),
        ]
        same = (folder / "1.jsonl").read_bytes() == (folder / "2.jsonl").read_bytes()
        size = (folder / "cache" / "tables" / "vectors.sqlite").stat().st_size
    _show(runs, len(rows))
    print(f"scores bit for bit the same: {same}; cache {size / 1e6:.1f} MB")


def _run(folder: Path, file: str, number: int) -> Seconds:
    return scored(folder / f"{file}.jsonl", folder / f"{number}.jsonl", folder / "cache")


def _show(runs: Sequence[tuple[str, Seconds]], count: int) -> None:
    table = Table(title=f"{count} examples, {torch.get_num_threads()} threads")
    for heading in ("", "s", "processor s", "of generating", "s for 1,000"):
        table.add_column(heading, justify="right" if heading else "left")
    _, whole = runs[0][1]
    for label, (clock, processor) in runs:
        table.add_row(
            label,
            f"{clock:.1f}",
            f"{processor:.1f}",
            f"{100 * processor / whole:.1f} %",
            f"{clock * 1000 / count:.0f}",
        )
    Console().print(table)
    if count != 1000:
        print(f"s for 1,000: extrapolated from {count} examples")


if __name__ == "__main__":
    main()
