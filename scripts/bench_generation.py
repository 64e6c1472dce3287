"""Compare generation with `generate()` and lm-evaluation-harness's `hf` model.

All generate greedy answers to the same first eval prompts of code-summary@2 with the packaged
model: the same prompt tokens, the same limit and end token. Every configuration runs in a fresh
process. The first round runs the other two at several batch sizes; later rounds use the best one of
each. CPUs only, on an otherwise idle machine.

    python scripts/bench_generation.py --output runs/bench-generation
    python scripts/bench_generation.py --quick
    python scripts/bench_generation.py --one lm-eval --batch-size 32 --precision bf16

Needs lm_eval (the extra `bench`). A missed target is printed, and the exit status is still 0.
"""

import argparse
import importlib.metadata
import itertools
import json
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench_train import run
from rich.console import Console
from rich.table import Table

from ftreg.files.store import write_json, write_text

# torch and related libraries are imported where they are used: a child inherits its parent's peak
# memory, so the measuring process has to stay small.

ROOT = Path(__file__).resolve().parents[1]
MODEL = "smollm2-135m-instruct"
DATASET = "code-summary@2"
OURS = "ftreg"
PLAIN = "ftreg-plain"
"""ftreg without its kernels; only by `--one`."""
OUR_BATCH = 32
"""The default of `eval.batch_size`."""
OTHERS = ("generate", "lm-eval")
PRECISIONS = ("fp32", "bf16")
TARGET = 1.5
LIBRARIES = ("torch", "transformers", "lm_eval")

Options = argparse.Namespace
Json = dict[str, Any]
Key = tuple[str, str, int]
"""Precision, side, batch size."""

console = Console(highlight=False)


# --- One configuration, in its own process -----------------------------------------------------


def measure_here(options: Options) -> Json:
    """Generate the answers with one side, in this process.

    Timing starts with the prompts (as tokens; lm-eval takes texts) and ends with the answers'
    texts. A short warm-up run starts the threads.

    Returns:
        `seconds`, `cpu_seconds`, and `answers`: token count and text of each, in the order of the
        prompts.
    """
    import torch

    from ftreg.data.dataset import load_dataset
    from ftreg.models.chat_template import Chat
    from ftreg.models.packaged import packaged_folder
    from ftreg.models.pretrained import load_tokenizer

    folder = packaged_folder(MODEL)
    tokenizer: Any = load_tokenizer(folder)
    dataset = load_dataset(DATASET, root=ROOT / "sample_datasets")
    rows = list(dataset.split("eval"))[: options.prompts]
    chats = [dataset.card.prompt.messages(row) for row in rows]
    form = Chat(tokenizer)
    prompts = [form.prompt(chat) for chat in chats]
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    sides = {OURS: _ftreg, PLAIN: _ftreg_plain, "generate": _generate, "lm-eval": _lm_eval}
    write = sides[options.one](folder, tokenizer, dtype, options.batch_size)
    write(prompts[:2], 2)
    began, worked = time.perf_counter(), time.process_time()
    answers = write(prompts, options.max_new_tokens)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "answers": answers,
        "prompt_tokens": sum(map(len, prompts)),
        "threads": torch.get_num_threads(),
    }


Answer = tuple[int, str]
"""How many tokens, the end token included (all sides are counted alike), and the text."""
Write = Callable[[list[list[int]], int], list[Answer]]


def _ftreg_plain(folder: Path, tokenizer: Any, dtype: Any, batch_size: int) -> Write:
    return _ftreg(folder, tokenizer, dtype, batch_size, kernels=False)


def _ftreg(
    folder: Path, tokenizer: Any, dtype: Any, batch_size: int, *, kernels: bool = True
) -> Write:
    from ftreg.generation.greedy import generate
    from ftreg.generation.ways import Way, choose_way
    from ftreg.models.chat_template import Chat
    from ftreg.models.pretrained import load_model

    model, chat = load_model(folder, dtype=dtype), Chat(tokenizer)
    chosen: list[Way] = []  # by the first call, which is not measured

    def write(prompts: list[list[int]], most: int) -> list[Answer]:
        if not chosen:
            chosen.append(choose_way(model, prompts, kernels=kernels).way)
        outputs = generate(
            [(str(place), prompt) for place, prompt in enumerate(prompts)],
            model=model,
            chat=chat,
            max_new_tokens=most,
            batch_size=batch_size,
            way=chosen[0],
        )
        return [(output.tokens, output.text) for output in outputs]

    return write


def _generate(folder: Path, tokenizer: Any, dtype: Any, batch_size: int) -> Write:
    """Return `generate()` of transformers, on batches of similar length, padded on the left."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def write(prompts: list[list[int]], most: int) -> list[Answer]:
        answers: dict[int, Answer] = {}
        order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            padded = tokenizer.pad(
                {"input_ids": [prompts[place] for place in batch]},
                padding_side="left",
                return_tensors="pt",
            )
            with torch.inference_mode():
                written = model.generate(**padded, do_sample=False, max_new_tokens=most)
            for place, row in zip(batch, written.tolist(), strict=True):
                new = row[padded["input_ids"].shape[1] :]
                answers[place] = _answer(new, tokenizer)
        return [answers[place] for place in range(len(prompts))]

    return write


def _lm_eval(folder: Path, tokenizer: Any, dtype: Any, batch_size: int) -> Write:
    """Return lm-evaluation-harness's `hf` model, if it reads the same tokens."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    stop = tokenizer.eos_token

    class Recorded(HFLM):  # type: ignore[misc]
        """Keeps the tokens, since it returns texts."""

        def _model_generate(self, context: Any, *args: Any, **settings: Any) -> Any:
            written = super()._model_generate(context, *args, **settings)
            mask = settings["attention_mask"].bool()
            for row, seen, ids in zip(context, mask, written, strict=True):
                prompt = tuple(row[seen].tolist())
                self.recorded[prompt] = ids[context.shape[1] :].tolist()
            return written

    model = Recorded(
        pretrained=str(folder), dtype=dtype, device="cpu", batch_size=batch_size, backend="causal"
    )

    def write(prompts: list[list[int]], most: int) -> list[Answer]:
        model.recorded = {}
        texts = [tokenizer.decode(prompt) for prompt in prompts]
        settings = {"until": [stop], "max_gen_toks": most}
        model.generate_until(
            [
                Instance("generate_until", {}, (text, settings), place)
                for place, text in enumerate(texts)
            ],
            disable_tqdm=True,
        )
        if set(model.recorded) != set(map(tuple, prompts)):
            raise RuntimeError("lm-eval made other tokens of the prompts")
        return [_answer(model.recorded[tuple(prompt)], tokenizer) for prompt in prompts]

    return write


def _answer(tokens: list[int], tokenizer: Any) -> Answer:
    stop = tokenizer.eos_token_id
    kept = tokens[: tokens.index(stop) + 1] if stop in tokens else tokens
    return len(kept), tokenizer.decode(kept, skip_special_tokens=True).strip()


# --- All of them in turn -----------------------------------------------------------------------


def measure(key: Key, options: Options) -> Json:
    """Measure one configuration in a fresh process.

    Raises:
        RuntimeError: it failed.
    """
    precision, side, batch_size = key
    command = [sys.executable, str(Path(__file__).resolve()), "--one", side]
    command += ["--precision", precision, "--batch-size", str(batch_size)]
    command += ["--prompts", str(options.prompts), "--max-new-tokens", str(options.max_new_tokens)]
    finished = run(command)
    result: Json = json.loads(finished.out.splitlines()[-1])
    tokens = sum(count for count, _ in result["answers"])
    speed = tokens / result["seconds"]
    worked = tokens / result["cpu_seconds"]
    figures = f"{speed:.0f} new tokens/s, {worked:.1f} per CPU second"
    console.print(f"{precision} {side} batch {batch_size}: {figures}")
    return result | {"tokens": tokens, "speed": speed, "worked": worked, "peak_gib": finished.peak}


def compare(options: Options) -> None:
    """Measure everything in rounds, print the table and the ratios, and write them."""
    runs: dict[Key, list[Json]] = {}
    precisions = [options.precision] if options.precision else list(PRECISIONS)
    for number in range(options.rounds):
        for precision in precisions:
            sides = [(OURS, options.batch_size)]
            for side in OTHERS:
                sizes = [best(runs, precision, side)[2]] if number else options.batch_sizes
                sides += [(side, size) for size in sizes]
            for side, size in sides:
                key = (precision, side, size)
                runs.setdefault(key, []).append(measure(key, options))
    report(runs, precisions, options)


def best(runs: dict[Key, list[Json]], precision: str, side: str) -> Key:
    """Return the fastest configuration of a side, by its first round."""
    keys = [key for key in runs if key[:2] == (precision, side)]
    return max(keys, key=lambda key: float(runs[key][0]["speed"]))


def report(runs: dict[Key, list[Json]], precisions: Sequence[str], options: Options) -> None:
    """Print figures and ratios, and write them to `--output`."""
    header = [
        "precision",
        "side",
        "batch",
        "new tokens/s",
        "per CPU s",
        "tokens",
        "as ftreg",
        "GiB",
    ]
    rows = []
    for key in sorted(runs, key=lambda key: (PRECISIONS.index(key[0]), key[1], key[2])):
        ours = next(kept[0] for other, kept in runs.items() if other[:2] == (key[0], OURS))
        kept = runs[key]
        pairs = zip(kept[0]["answers"], ours["answers"], strict=True)
        equal = sum(mine == theirs for mine, theirs in pairs)
        speeds = spread([one["speed"] for one in kept], ".0f")
        worked = spread([one["worked"] for one in kept], ".0f")
        share = f"{equal}/{options.prompts}"
        peak = f"{max(one['peak_gib'] for one in kept):.2f}"
        tokens = str(kept[0]["tokens"])
        rows.append([key[0], key[1], str(key[2]), speeds, worked, tokens, share, peak])
    lines = []
    for precision, side in itertools.product(precisions, OTHERS):
        theirs = best(runs, precision, side)
        ours = (precision, OURS, options.batch_size)
        ratios = [
            mine["speed"] / other["speed"]
            for mine, other in zip(runs[ours], runs[theirs], strict=True)
        ]
        verdict = "reached" if min(ratios) >= TARGET else f"MISSED (target {TARGET} in every round)"
        lines.append(
            f"{precision}: {spread(ratios, '.2f')} times {side} at batch {theirs[2]}, its best: "
            f"{verdict}"
        )
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    threads = next(iter(runs.values()))[0]["threads"]
    about = (
        f"The first {options.prompts} eval prompts of {DATASET}, at most {options.max_new_tokens} "
        f"new tokens, {options.rounds} rounds; {platform.machine()}, {threads} threads, {versions}."
    )
    for line in [*lines, about]:
        console.print(line, soft_wrap=True)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        marks = [["---", "---", *["---:"] * 6]]
        drawn = "\n".join(f"| {' | '.join(row)} |" for row in [header, *marks, *rows])
        listed = "\n".join(f"- {line}" for line in lines)
        write_text(options.output / "generation.md", f"{about}\n\n{drawn}\n\n{listed}\n")
        record = [
            {"precision": key[0], "side": key[1], "batch_size": key[2], "rounds": kept}
            for key, kept in runs.items()
        ]
        write_json(options.output / "generation.json", {"schema_version": 1, "runs": record})


def spread(values: Sequence[float], shape: str) -> str:
    """Return one figure, or the smallest and the largest if they print differently."""
    low, high = format(min(values), shape), format(max(values), shape)
    return low if low == high else f"{low}–{high}"


def main() -> None:
    """Run according to the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[16, 32, 64], help="of others"
    )
    parser.add_argument("--batch-size", type=int, default=OUR_BATCH, help="of ftreg, or of --one")
    parser.add_argument("--precision", choices=PRECISIONS, help="only this one")
    parser.add_argument("--quick", action="store_true", help="32 prompts, one round")
    parser.add_argument("--output", type=Path, help="folder for JSON and Markdown")
    parser.add_argument("--one", choices=[OURS, PLAIN, *OTHERS], help="one configuration, as JSON")
    options = parser.parse_args()
    if options.quick:
        options.prompts, options.rounds, options.batch_sizes = 32, 1, [16, 32]
    if options.one:
        options.precision = options.precision or PRECISIONS[0]
        print(json.dumps(measure_here(options)))
        return
    try:
        compare(options)
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    # On SIGTERM, also end the child process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
