"""Compare training and generation on a GPU with TRL and transformers, and check bit-equality.

    python scripts/bench_gpu.py --output runs/bench-gpu.json             # at most 6 minutes
    python scripts/bench_gpu.py --part bits --part train                 # selected parts
    python scripts/bench_gpu.py --tiny                                   # a dry run on a CPU

It uses no network and no packaged model: weights are random, of the shape of SmolLM2-135M (or
1.7B), texts are random letters, one token each, as long as the rows of code-summary@2 (137 on
average, 15 of them answer), and the tokenizer is a list of bytes. Each part is a separate process,
the most expensive last: if one fails or takes too long, its reason replaces its figures, and the
others continue. The file is rewritten after each part. TRL's parts need the extra `bench`. `--tiny`
checks that every part runs; its figures are meaningless.
"""

import argparse
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

Json = dict[str, Any]

# Shapes of SmolLM2; `tiny` is for the dry run.
SHAPES: Mapping[str, Json] = {
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
    },
    "1.7b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 49152,
    },
    "tiny": {},
}
WARM_UP = 2
"""Steps at the start that do not count."""
PARTS = ("bits", "train", "trl", "generation", "lora", "tests", "trl-compiled")
# Time limit of each part in seconds; together six minutes.
LIMITS = dict(zip(PARTS, (50, 60, 60, 50, 60, 40, 40), strict=True))


def main() -> None:
    """Run the parts, each in a process, and write their results."""
    options = _options()
    if options.one:
        json.dump(FUNCTIONS[options.one](options.tiny), sys.stdout)
        return
    found: Json = {"tiny": options.tiny, "machine": _machine(), "parts": {}}
    for part in [part for part in PARTS if part in (options.part or PARTS)]:
        began = time.monotonic()
        result = _in_process(part, tiny=options.tiny)
        found["parts"][part] = {"seconds": round(time.monotonic() - began, 1), **result}
        print(part, json.dumps(found["parts"][part]), flush=True)
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be repeated")
    parser.add_argument("--tiny", action="store_true", help="dry run on a CPU, with a tiny model")
    parser.add_argument("--output", type=Path, help="the JSON file to write")
    parser.add_argument("--one", choices=PARTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _machine() -> Json:
    import torch

    there = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if there else "cpu",
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
    }


def _in_process(part: str, *, tiny: bool) -> Json:
    """Return a part's figures, or its error."""
    command = [sys.executable, __file__, "--one", part, *(["--tiny"] if tiny else [])]
    paths = [path for path in (os.environ.get("PYTHONPATH"), str(ROOT)) if path]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)}
    if tiny:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    limit = 120 if tiny else LIMITS[part]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {limit:g} s"}
    try:
        figures: Json = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])}
    return figures


@contextmanager
def _workspace(shape: str, rows: int) -> Iterator[Path]:
    """Change to a folder with a model and a dataset version, `bench@1`."""
    from tests.conftest import make_model, write_dataset

    with tempfile.TemporaryDirectory(prefix="ftreg-bench-") as name:
        folder, before = Path(name), Path.cwd()
        os.environ["FTREG_CACHE"] = str(folder / "cache")
        make_model(folder / "model", max_position_embeddings=2048, **SHAPES[shape])
        made = _rows(rows)
        write_dataset(folder / "datasets", name="bench", train=made, evaluation=made[:128])
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


def _rows(count: int) -> list[Json]:
    """Return rows with as many tokens, one per letter, as those of code-summary@2."""
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"

    def text(size: int) -> str:
        return "".join(draw.choices(letters, k=size))

    return [
        {
            "id": f"r{number}",
            "input": text(min(max(round(math.exp(draw.gauss(4.25, 0.5))), 20), 250)),
            "context": text(8),
            "reference": text(draw.randint(5, 23)),
            "tags": {},
        }
        for number in range(count)
    ]


def _config(folder: Path, *changes: str) -> Any:
    from ftreg.config.load import load_config

    path = folder / "run.yaml"
    lines = ["base: {model: model}", "dataset: {version: bench@1, root: datasets}"]
    path.write_text("\n".join([*lines, "optimizer: {name: adamw, lr: 0.0001}"]), encoding="utf-8")
    return load_config(path, overrides=["train.save_steps=null", *changes])


def _trained(folder: Path, name: str, *changes: str) -> Json:
    """Train, and return tokens per second without the first steps, and peak memory."""
    from ftreg.training.run import train

    checkpoint = train(_config(folder, *changes), output=folder / name)
    lines = (checkpoint.folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    training = checkpoint.manifest.training
    counted = steps[WARM_UP:]
    ends = [0, *(step["tokens"] for step in steps)]
    tokens = [after - before for before, after in itertools.pairwise(ends)][WARM_UP:]
    seconds = sum(n / step["tokens_per_second"] for n, step in zip(tokens, counted, strict=True))
    return {
        "tokens_per_second": round(sum(tokens) / seconds, 1),
        "steps": len(counted),
        "last_loss": training.last_loss,
        "micro_batch_tokens": training.micro_batch_tokens,
        "peak_device_gib": training.peak_device_gib,
        "weights": checkpoint.manifest.weights.digest,
    }


def bits(tiny: bool) -> Json:
    """Check that a repeated, a resumed and a reproduced run give the same weights."""
    from ftreg.jobs.reproduce import reproduce

    shape, steps = ("tiny", 4) if tiny else ("135m", 12)
    found: Json = {}
    with _workspace(shape, 16 * steps) as folder:
        given = ["train.batch_size=16", f"train.max_steps={steps}"]
        for name, more in (("full", []), ("lora", ["lora.r=8"])):
            first = _trained(folder, f"{name}-1", *given, *more)
            second = _trained(folder, f"{name}-2", *given, *more)
            found[f"{name}_twice"] = first["weights"] == second["weights"]
        found["resumed"] = _resumed(folder, given, steps) == first_digest(folder)
        found["reproduced"] = str(reproduce(folder / "full-1").outcome)
        free = [*given, "train.deterministic=false"]
        for name, more in (("equal", given), ("free", free)):
            speed = _trained(folder, f"cost-{name}", *more)["tokens_per_second"]
            found[f"tokens_per_second_{name}"] = speed
    return found


def first_digest(folder: Path) -> str:
    """Return the digest of the first run's weights."""
    from ftreg.records.checkpoint import read_checkpoint

    return read_checkpoint(folder / "full-1").manifest.weights.digest


def _resumed(folder: Path, given: Sequence[str], steps: int) -> str:
    """Interrupt a run with a signal, resume it, and return the digest of its weights."""
    from ftreg.errors import InterruptedRunError
    from ftreg.training.events import Silent, StepRecord
    from ftreg.training.run import train

    class Stopping(Silent):
        """Interrupts the run, as Ctrl-C does."""

        def step(self, record: StepRecord) -> None:
            """Send SIGINT halfway through."""
            if record.step == steps // 2:
                import signal

                signal.raise_signal(signal.SIGINT)

    config = _config(folder, *given)
    try:
        train(config, output=folder / "stopped", events=Stopping())
    except InterruptedRunError:
        done = train(config, output=folder / "stopped", resume=True)
        return done.manifest.weights.digest
    raise RuntimeError("the run was not stopped")


def speeds(tiny: bool) -> Json:
    """Full fine-tuning at several batch sizes."""
    sizes = (4, 8) if tiny else (16, 64, 256)
    steps = {size: 4 if tiny else max(8, 512 // size) for size in sizes}
    with _workspace("tiny" if tiny else "135m", max(s * n for s, n in steps.items())) as folder:
        return {
            str(size): _trained(
                folder, f"b{size}", f"train.batch_size={size}", f"train.max_steps={steps[size]}"
            )
            for size in sizes
        }


def lora(tiny: bool) -> Json:
    """Adapters on a large shape in bf16, compared with TRL."""
    size, steps = (4, 4) if tiny else (32, 8)
    with _workspace("tiny" if tiny else "1.7b", size * steps) as folder:
        given = [f"train.batch_size={size}", f"train.max_steps={steps}", "train.precision=bf16"]
        ours = _trained(folder, "ours", *given, "lora.r=16")
        return {"ftreg": ours, "trl": _or_error(lambda: _trl(folder, size, steps, lora=True))}


def trl(tiny: bool) -> Json:
    """TRL for comparison: padded, grouped by length, and packed."""
    size, steps = (4, 4) if tiny else (64, 8)
    ways: Mapping[str, Json] = {
        "padded": {"train_sampling_strategy": "group_by_length"},
        "packed": {"packing": True, "packing_strategy": "bfd", "max_length": 1024},
    }
    with _workspace("tiny" if tiny else "135m", size * steps) as folder:
        return {
            name: _or_error(lambda: _trl(folder, size, steps, **more))  # noqa: B023 - called here
            for name, more in ways.items()
        }


def trl_compiled(tiny: bool) -> Json:
    """TRL packed, with torch.compile."""
    size, steps = (4, 4) if tiny else (64, 8)
    with _workspace("tiny" if tiny else "135m", size * steps) as folder:
        more = {"packing": True, "packing_strategy": "bfd", "max_length": 1024}
        return {"packed": _trl(folder, size, steps, torch_compile=True, **more)}


def _or_error(measure: Callable[[], Json]) -> Json:
    try:
        return measure()
    except Exception as error:  # one failed measurement must not end the part
        return {"error": f"{type(error).__name__}: {error}"}


def _trl(folder: Path, size: int, steps: int, *, lora: bool = False, **settings: Any) -> Json:
    """Train with TRL on the same rows; the first two steps are not timed."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ticks: list[float] = []
    counts: list[int] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Records the end of each step."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            """Synchronize with the device, as a log line does."""
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ticks.append(time.perf_counter())

    cpu = not torch.cuda.is_available()
    packs = 1 if settings.get("packing") else size
    batch = max(1, size * 140 // 1024) if settings.get("packing") else packs
    arguments = SFTConfig(
        output_dir=str(folder / "trl"), max_steps=steps, per_device_train_batch_size=batch,
        learning_rate=1e-4, lr_scheduler_type="constant", completion_only_loss=True, bf16=not cpu,
        use_cpu=cpu, report_to=[], save_strategy="no", disable_tqdm=True,
        gradient_checkpointing=False, **settings,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=str(folder / "model"),
        args=arguments,
        train_dataset=Dataset.from_list(_conversations(folder)),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        peft_config=LoraConfig(r=16, target_modules="all-linear") if lora else None,
        callbacks=[Clock()],
    )
    collate = trainer.data_collator

    def count(members: Any) -> Any:
        made = collate(members)
        mask = made.get("attention_mask")
        counts.append(made["input_ids"].numel() if mask is None else int(mask.sum()))
        return made

    trainer.data_collator = count
    trainer.train()
    tokens = sum(counts[WARM_UP : len(ticks)])
    peak = None if cpu else round(torch.cuda.max_memory_allocated() / 2**30, 3)
    speed = round(tokens / (ticks[-1] - ticks[WARM_UP - 1]), 1)
    return {"tokens_per_second": speed, "peak_device_gib": peak}


def _conversations(folder: Path) -> list[Json]:
    from ftreg.data import load_dataset

    dataset = load_dataset("bench@1", root=folder / "datasets")
    split, prompt = dataset.split("train"), dataset.card.prompt
    return [
        {
            "prompt": prompt.messages(split[row]),
            "completion": [{"role": "assistant", "content": split[row].references[0]}],
        }
        for row in range(len(split))
    ]


def generation(tiny: bool) -> Json:
    """Greedy answers in bf16 by each of ftreg's paths, and whether fp32 matches `generate()`."""
    import torch
    from transformers import AutoModelForCausalLM

    from ftreg.generation.ways import Way, departs_on_twin

    prompts = [
        [number % 200 + 10 for number in range(length)]
        for length in random.Random(0).choices(range(60, 250), k=3 if tiny else 128)
    ]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: Json = {}
    with _workspace("tiny" if tiny else "135m", 4) as folder:
        load: Any = AutoModelForCausalLM.from_pretrained
        model = load(folder / "model", dtype=torch.bfloat16).to(device).eval()
        for way in (Way.CONTINUOUS, Way.PAGED, Way.BATCHES):
            found[way] = {"departs_on_twin_in_fp32": departs_on_twin(model, way)}
            for size in (2,) if tiny else (32, 128):
                found[way][str(size)] = _or_error(
                    lambda: _decoded(model, way, prompts, size, 4 if tiny else 64)  # noqa: B023
                )
    return found


def _decoded(model: Any, way: Any, prompts: list[list[int]], size: int, most: int) -> Json:
    """Decode twice, and return the speed of the second run."""
    from ftreg.generation.ways import decoder_of

    written: dict[int, list[int]] = {}
    began = 0.0
    for given in (prompts[:size], prompts):
        written.clear()
        began = time.perf_counter()
        decoder_of(way)(
            given, model=model, stops=frozenset([2]), max_new_tokens=most, batch_size=size,
            ended=written.__setitem__,
        )  # fmt: skip
    seconds = time.perf_counter() - began
    return {"tokens_per_second": round(sum(map(len, written.values())) / seconds, 1)}


def unit_tests(tiny: bool) -> Json:
    """The unit tests of accelerators, if there is one."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/training/test_accelerator.py", *(["-k", "mask"] if tiny else [])],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {"exit_code": done.returncode, "end": done.stdout.strip().splitlines()[-6:]}


FUNCTIONS: Mapping[str, Callable[[bool], Json]] = {
    "bits": bits,
    "train": speeds,
    "trl": trl,
    "generation": generation,
    "lora": lora,
    "tests": unit_tests,
    "trl-compiled": trl_compiled,
}

if __name__ == "__main__":
    main()
