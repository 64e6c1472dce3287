"""Compare training with TRL's SFTTrainer: tokens per second, peak memory, held-out loss.

Both sides fine-tune the packaged model on the same first rows of code-summary@2, one pass, with the
same batch size, AdamW, constant learning rate, clipping, seed and loss (the answers only). Every
configuration runs in a fresh process, all in turn, and the complete round is repeated. ftreg runs
as `ftreg train`, as for its users. CPUs only, on an otherwise idle machine.

    python scripts/bench_train.py --output runs/bench-train      # 40 minutes on two cores
    python scripts/bench_train.py --scaling --output runs/bench-train    # 5 minutes
    python scripts/bench_train.py --one trl-full                 # one configuration, as JSON

Needs TRL (the extra `bench`). A missed target is printed, and the exit status is still 0.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from ftreg.files.store import file_digest, write_json, write_text

# torch and related libraries are imported where they are used: a child inherits its parent's peak
# memory, so the measuring process has to stay small.

ROOT = Path(__file__).resolve().parents[1]
MODEL = "smollm2-135m-instruct"
DATASET = "code-summary@2"
HELD_OUT_ROWS = 32
BATCH = 8
LR = 1e-4
MAX_GRAD_NORM = 1.0
LORA = {"r": 16, "alpha": 32.0, "dropout": 0.0, "target_modules": "all-linear"}
PACKED_LENGTH = 1024
WARM_UP = 2
"""Steps at the start that are not timed: caches fill, threads start, compilers compile."""
LIBRARIES = ("torch", "transformers", "accelerate", "peft", "trl")
UNTRAINED = "untrained"

console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Setup:
    """One configuration of one side. `settings` are ftreg's section `train`, or SFTConfig's."""

    side: str
    mode: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    base_dtype: str = "float32"
    """Dtype in which TRL loads the weights."""
    compiled: bool = False
    """Runs only with `--compile`, or by its name."""
    plain: bool = False
    """Without ftreg's kernels; runs only by its name."""


# TRL's fast settings on a CPU: no recomputation, and little or no padding.
_PACKED = {
    "gradient_checkpointing": False,
    "packing": True,
    "packing_strategy": "bfd",
    "max_length": PACKED_LENGTH,
    # A packed row holds about as many tokens as eight rows of the data.
    "per_device_train_batch_size": 1,
}
_GROUPED = {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"}
_COMPILED = {**_PACKED, "torch_compile": True}

SETUPS = {
    "ftreg-full": Setup("ftreg", "full"),
    "ftreg-full-compiled": Setup("ftreg", "full", {"compile": True}, compiled=True),
    "ftreg-full-plain": Setup("ftreg", "full", {"kernels": "off"}, plain=True),
    "ftreg-full-fp32": Setup("ftreg", "full", {"precision": "fp32"}),
    "trl-full": Setup("trl", "full"),
    "trl-full-packed": Setup("trl", "full", _PACKED),
    "trl-full-grouped": Setup("trl", "full", _GROUPED),
    "trl-full-compiled": Setup("trl", "full", _COMPILED, compiled=True),
    "ftreg-lora": Setup("ftreg", "lora"),
    "ftreg-lora-compiled": Setup("ftreg", "lora", {"compile": True}, compiled=True),
    "ftreg-lora-plain": Setup("ftreg", "lora", {"kernels": "off"}, plain=True),
    "ftreg-lora-fp32": Setup("ftreg", "lora", {"precision": "fp32"}),
    "trl-lora": Setup("trl", "lora"),
    "trl-lora-packed": Setup("trl", "lora", _PACKED),
    "trl-lora-grouped": Setup("trl", "lora", _GROUPED),
    "trl-lora-bf16": Setup("trl", "lora", _PACKED, "bfloat16"),
    "trl-lora-compiled": Setup("trl", "lora", _COMPILED, compiled=True),
}

Options = argparse.Namespace
Json = dict[str, Any]


# --- Processes ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished process: its output, its duration and CPU time in s, its peak memory in GiB."""

    out: str
    seconds: float
    cpu_seconds: float
    peak: float


def run(command: Sequence[str]) -> Finished:
    """Run a process on the CPUs only and measure it.

    Raises:
        RuntimeError: it failed; has the end of its output.
    """
    # No accelerator and no network: neither is measured.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=err)
        try:
            # wait4 gives this child's peak memory; getrusage the largest of all children.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()  # it also ends its own children
            process.wait()
            raise
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            said = (err.read().strip() or out.read().strip()).splitlines()[-12:]
            raise RuntimeError("\n".join([f"exit status {process.returncode}", *said]))
        unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
        worked = usage.ru_utime + usage.ru_stime
        return Finished(out.read(), seconds, worked, usage.ru_maxrss / unit)


def this_script(*arguments: object) -> list[str]:
    """Return the command that runs this script again."""
    return [sys.executable, str(Path(__file__).resolve()), *map(str, arguments)]


def ftreg_train(config: Json, folder: Path) -> tuple[Finished, Json, list[Json]]:
    """Train by the command line; return the process, the manifest and the history."""
    path = folder / "run.yaml"
    write_text(path, yaml.safe_dump(config))
    output = folder / "trained"
    command = [sys.executable, "-m", "ftreg", "train", str(path), "-o", str(output)]
    finished = run([*command, "--quiet", "--json"])
    lines = (output / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return finished, json.loads(finished.out), [json.loads(line) for line in lines]


def ftreg_config(setup: Setup, *, dataset: Json, seed: int) -> Json:
    """Return the YAML of one of ftreg's configurations."""
    config: Json = {
        "base": {"model": MODEL},
        "dataset": dataset,
        "optimizer": {"name": "adamw", "lr": LR, "weight_decay": 0.0},
        "schedule": {"name": "constant", "warmup": 0.0},
        "train": {
            "seed": seed,
            "batch_size": BATCH,
            "max_grad_norm": MAX_GRAD_NORM,
            **setup.settings,
        },
    }
    return config | ({"lora": LORA} if setup.mode == "lora" else {})


# --- One configuration -------------------------------------------------------------------------


def measure(name: str, options: Options) -> Json:
    """Train one configuration in a separate process, then measure held-out loss in another.

    Raises:
        RuntimeError: one of the processes failed, or there are too few rows.
    """
    base = ("--rows", options.rows, "--seed", options.seed)
    if name == UNTRAINED:
        loss = float(run(this_script("--held-out", UNTRAINED, *base)).out)
        return {"name": name, "held_out_loss": loss}
    setup = SETUPS[name]
    with tempfile.TemporaryDirectory(prefix="bench-train-") as temporary:
        folder = Path(temporary)
        if setup.side == "ftreg":
            rows = {"version": DATASET, "max_train_examples": options.rows}
            config = ftreg_config(setup, dataset=rows, seed=options.seed)
            finished, manifest, history = ftreg_train(config, folder)
            tokens = [0, *(record["tokens"] for record in history)]
            counts = [after - before for before, after in itertools.pairwise(tokens)]
            steps = [
                (count, count / record["tokens_per_second"])
                for count, record in zip(counts, history, strict=True)
            ]
            ran = {key: manifest["training"][key] for key in ("precision", "threads")}
        else:
            finished = run(this_script("--trl", name, "--folder", folder / "trained", *base))
            ran = json.loads(finished.out.splitlines()[-1])
            steps = ran.pop("steps")
        counted = steps[WARM_UP:]
        if not counted:
            raise RuntimeError(f"{len(steps)} steps, of which the first {WARM_UP} do not count")
        loss = float(run(this_script("--held-out", folder / "trained", *base)).out)
    return {
        "name": name,
        "tokens_per_second": sum(step[0] for step in counted) / sum(step[1] for step in counted),
        "peak_gib": finished.peak,
        "held_out_loss": loss,
        "command_seconds": finished.seconds,
        "cpu_seconds": finished.cpu_seconds,
        "tokens": sum(step[0] for step in steps),
        "steps": [[count, round(seconds, 4)] for count, seconds in steps],
        **ran,
    }


def train_with_trl(name: str, options: Options) -> Json:
    """Train one of TRL's configurations in this process, and save it to `--folder`.

    The rows come in ftreg's order, and the default keeps it; packing and grouping by length use
    their own. As in ftreg, the time of a step excludes fetching its batch, and padding is not
    counted.
    """
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    setup = SETUPS[name]
    split, prompt, tokenizer, base = materials("train", options.rows)
    clock = _step_clock()
    trainer = SFTTrainer(
        model=str(base),
        args=SFTConfig(**_trl_settings(setup, options)),
        train_dataset=Dataset.from_list(_trl_rows(split, prompt, seed=options.seed)),
        processing_class=tokenizer,
        peft_config=_trl_adapters() if setup.mode == "lora" else None,
        callbacks=[clock],
    )
    collate: Callable[[Any], Any] = trainer.data_collator
    counts: list[int] = []

    def count(members: Any) -> Any:
        batch = collate(members)
        # A packed batch is one row without padding, and has no mask.
        mask = batch.get("attention_mask")
        counts.append(batch["input_ids"].numel() if mask is None else int(mask.sum()))
        return batch

    trainer.data_collator = count
    trainer.train()
    trainer.save_model(str(options.folder))
    return {
        "steps": list(zip(counts, clock.seconds, strict=True)),
        "precision": "bf16" if trainer.args.bf16 else "fp32",
        "threads": torch.get_num_threads(),
    }


def _trl_rows(split: Any, prompt: Any, *, seed: int) -> list[Json]:
    from ftreg.training.batching.batches import batch_order, steps_of_run

    planned = steps_of_run(len(split), batch_size=BATCH, epochs=1, max_steps=None)
    return [
        {
            "prompt": prompt.messages(split[row]),
            "completion": [{"role": "assistant", "content": split[row].references[0]}],
        }
        for batch in batch_order(len(split), batch_size=BATCH, steps=planned, seed=seed)
        for row in batch
    ]


def _trl_settings(setup: Setup, options: Options) -> Json:
    import torch

    from ftreg.training.precision import choose_precision

    settings: Json = {
        "output_dir": str(options.folder),
        "seed": options.seed,
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "learning_rate": LR,
        "weight_decay": 0.0,
        "lr_scheduler_type": "constant",
        "max_grad_norm": MAX_GRAD_NORM,
        "completion_only_loss": True,
        "train_sampling_strategy": "sequential",
        "use_cpu": True,  # without it SFTConfig rejects its own default, bf16, if there is no GPU
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "model_init_kwargs": {"dtype": setup.base_dtype},
        **setup.settings,
    }
    if setup.settings and choose_precision("auto", torch.device("cpu")) != "bf16":
        settings["bf16"] = False  # the best configuration here: bf16 would be emulated
    return settings


def _trl_adapters() -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=LORA["r"],
        lora_alpha=LORA["alpha"],
        lora_dropout=LORA["dropout"],
        target_modules=LORA["target_modules"],
        task_type="CAUSAL_LM",
    )


def _step_clock() -> Any:
    """A callback of transformers' Trainer, whose `seconds` are how long each step took."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.began = 0.0

        def on_step_begin(self, *_: object, **__: object) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: object, **__: object) -> None:
            self.seconds.append(time.perf_counter() - self.began)

    return Clock()


def materials(split: str, rows: int) -> tuple[Any, Any, Any, Path]:
    """Return the first rows of a split, the dataset's prompt, the tokenizer and the base model."""
    from ftreg.data import load_dataset
    from ftreg.models.packaged import packaged_folder
    from ftreg.models.pretrained import load_tokenizer

    dataset = load_dataset(DATASET, root=ROOT / "sample_datasets")
    base = packaged_folder(MODEL)
    return dataset.split(split)[:rows], dataset.card.prompt, load_tokenizer(base), base


def held_out_loss(folder: str) -> float:
    """Return the mean loss per token of held-out answers, in nats: fp32, one example at a time.

    It uses neither side's training code: no packing, no mask, no padding, the complete head.
    Adapters are merged into the base model first.
    """
    import torch
    from torch.nn import functional

    from ftreg.models.adapters import add_adapters
    from ftreg.models.assistant_turn import AssistantTurn
    from ftreg.models.chat_template import Chat
    from ftreg.models.pretrained import load_model
    from ftreg.training.batching.examples import TokenisedExamples, record_batches, token_pairs

    split, prompt, tokenizer, base = materials("eval", HELD_OUT_ROWS)
    turn = AssistantTurn(Chat(tokenizer))
    pairs = token_pairs(split, turn=turn, prompt=prompt, max_length=2**20)
    examples = TokenisedExamples(record_batches(pairs))
    if folder == UNTRAINED:
        model = load_model(base)
    elif (Path(folder) / "adapter_config.json").is_file():
        model = add_adapters(load_model(base), Path(folder))
    else:
        model = load_model(Path(folder))
    summed, tokens = 0.0, 0
    with torch.inference_mode():
        for row in range(len(examples)):
            ids = torch.tensor([list(examples.ids(row))])
            logits = model.eval()(input_ids=ids, use_cache=False).logits[0].float()
            first = examples.prompt_length(row)
            losses = functional.cross_entropy(
                logits[first - 1 : -1], ids[0, first:], reduction="sum"
            )
            summed += float(losses)
            tokens += examples.answer_length(row)
    return summed / tokens


# --- Results -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table for the terminal and for Markdown."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 2
    """Number of text columns; the others hold figures."""

    def show(self) -> None:
        """Print it."""
        table = Table()
        for column, heading in enumerate(self.headings):
            side = "left" if column < self.left else "right"
            table.add_column(heading, justify=side, no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)

    def markdown(self) -> str:
        """Return it as a Markdown table."""
        marks = ["---" if column < self.left else "---:" for column in range(len(self.headings))]
        lines = [self.headings, marks, *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Results:
    """The measurements so far; a configuration's figures are lists, one entry per round."""

    def __init__(self, runs: Sequence[Json]) -> None:
        self.runs = [run for run in runs if "error" not in run]

    def figures(self, name: str, key: str) -> list[float]:
        """Return a configuration's figures, empty if it has not run."""
        return list(self._by_round(name, key).values())

    def _by_round(self, name: str, key: str) -> dict[int, float]:
        return {run["round"]: run[key] for run in self.runs if run["name"] == name and key in run}

    def names(self, side: str, mode: str) -> list[str]:
        """Return the configurations of a side and mode that have run."""
        return [
            name
            for name, setup in SETUPS.items()
            if (setup.side, setup.mode) == (side, mode) and self.figures(name, "tokens_per_second")
        ]

    def best(self, mode: str) -> str | None:
        """Return TRL's fastest configuration by its mean over the rounds."""
        found = self.names("trl", mode)
        return max(
            found, key=lambda name: mean(self.figures(name, "tokens_per_second")), default=None
        )

    def ratios(self, name: str, other: str | None, key: str = "tokens_per_second") -> list[float]:
        """Return one configuration's figures over another's, round by round."""
        mine, theirs = self._by_round(name, key), self._by_round(other or "", key)
        return [figure / theirs[number] for number, figure in mine.items() if number in theirs]

    def drift(self, name: str) -> list[float]:
        """Return how far the held-out loss is from that of ftreg in fp32, as a share of it."""
        plain = f"ftreg-{SETUPS[name].mode}-fp32"
        return [ratio - 1 for ratio in self.ratios(name, plain, "held_out_loss")]

    def _worst_drift(self, name: str) -> str:
        drift = self.drift(name)
        return f"{100 * max(drift, key=abs):+.2f}" if drift else "–"

    def sheet(self) -> Sheet:
        """Return every configuration's figures."""
        rows = []
        for name, setup in SETUPS.items():
            if name not in self.names(setup.side, setup.mode):
                continue
            rows.append(
                [
                    name,
                    spread(self.figures(name, "tokens_per_second"), 0),
                    spread(self.figures(name, "peak_gib"), 2),
                    spread(self.figures(name, "held_out_loss"), 3),
                    self._worst_drift(name),
                    spread(self.figures(name, "command_seconds"), 0),
                ]
            )
        headings = ("configuration", "tokens/s", "GiB", "held-out", "drift, %", "s")
        return Sheet(headings, rows, left=1)

    def comparison(self) -> Sheet:
        """Return ftreg's figures over TRL's."""
        rows = []
        for mode in ("full", "lora"):
            for name in self.names("ftreg", mode):
                for label, other in (("default", f"trl-{mode}"), ("best", self.best(mode))):
                    speed = self.ratios(name, other)
                    if other is not None and speed:
                        memory = self.ratios(name, other, "peak_gib")
                        rows.append(
                            [name, f"{label}: {other}", spread(speed, 2), spread(memory, 2)]
                        )
        return Sheet(("ftreg", "over TRL's", "speed, x", "peak memory, x"), rows)

    def targets(self) -> Iterator[tuple[str, bool, str]]:
        """Yield each target, whether it holds in every round, and the figures."""
        for name in (name for mode in ("full", "lora") for name in self.names("ftreg", mode)):
            mode = SETUPS[name].mode
            default, best = f"trl-{mode}", self.best(mode)
            wanted = ((best, "best", 3.0), (default, "default", 5.0))
            if name.endswith("-fp32"):
                continue
            for other, label, factor in wanted if mode == "full" else ((default, "default", 4.0),):
                speed = self.ratios(name, other)
                if speed:
                    text = f"{name}: at least {factor:g}x TRL's {label} ({other})"
                    yield text, min(speed) >= factor, f"{spread(speed, 2)}x"
            drift = self.drift(name)
            if drift:
                worst = max(drift, key=abs)
                text = f"{name}: held-out loss within 1 % of fp32"
                yield text, abs(worst) <= 0.01, f"{self._worst_drift(name)} %"
            for other in dict.fromkeys((default, best)):
                mine, theirs = self.figures(name, "peak_gib"), self.figures(other or "", "peak_gib")
                if theirs:
                    text = f"{name}: peak memory below that of {other}"
                    figures = f"{max(mine):.2f} against {min(theirs):.2f} GiB"
                    yield text, max(mine) < min(theirs), figures


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def spread(values: Sequence[float], digits: int) -> str:
    """Write figures as their range, or as one if their digits are the same."""
    ends = [f"{end:.{digits}f}" for end in (min(values), max(values))] if values else ["–"]
    return "–".join(dict.fromkeys(ends))


def machine() -> Json:
    """Describe the machine, without imports that would make this process large."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
    }


def _cpu_name() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8").splitlines() if cpus.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine_line(described: Json, runs: Sequence[Json]) -> str:
    """Return the machine in one line, with the threads and precision of the runs."""
    threads = sorted({str(run["threads"]) for run in runs if "threads" in run})
    ran = f", {'/'.join(threads)} threads" if threads else ""
    bf16 = any(run.get("precision") == "bf16" for run in runs if run["name"] == "ftreg-full")
    versions = ", ".join(f"{name} {described[name] or 'missing'}" for name in LIBRARIES)
    return (
        f"{described['cpu']}, {described['cores']} cores{ran}{', bf16' if bf16 else ''}; "
        f"Python {described['python']}, {versions}; load {described['load_at_start']} at the start"
    )


# --- The rounds --------------------------------------------------------------------------------


def compare(options: Options) -> None:
    """Measure every configuration in turn, for several rounds, and print the results."""
    names = options.only or [
        name
        for name, setup in SETUPS.items()
        if not setup.plain and (options.compile or not setup.compiled)
    ]
    described = machine()
    if described["trl"] is None and any(SETUPS[name].side == "trl" for name in names):
        sys.exit("TRL is not installed: `make bench-train` does it, or pip install -e '.[bench]'")
    runs: list[Json] = []
    jobs = [(UNTRAINED, 1)]
    jobs += [(name, number) for number in range(1, options.rounds + 1) for name in names]
    for name, number in jobs:
        console.print(f"round {number} of {options.rounds}, {name}:", end=" ")
        runs.append({"round": number, **_one(name, options)})
        console.print(_said(runs[-1]), soft_wrap=True, markup=False)
        _write(options, described, runs)  # keeps the results so far if interrupted
    results = Results(runs)
    console.print(f"\n{machine_line(described, runs)}\n{_rows_line(options, runs)}", soft_wrap=True)
    results.sheet().show()
    results.comparison().show()
    for line in _target_lines(results.targets()):
        console.print(line, soft_wrap=True, markup=False)


def _one(name: str, options: Options) -> Json:
    """Measure one configuration in a fresh process; a failure is also a result."""
    with tempfile.TemporaryDirectory(prefix="bench-train-") as temporary:
        path = Path(temporary) / "result.json"
        try:
            run(
                this_script(
                    *("--one", name, "--json", path),
                    *("--rows", options.rows, "--seed", options.seed),
                )
            )
        except RuntimeError as error:
            return {"name": name, "error": str(error)}
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _said(result: Json) -> str:
    if "error" in result:
        return f"failed: {result['error']}"
    loss = f"held-out loss {result['held_out_loss']:.3f}"
    if "tokens_per_second" not in result:
        return loss
    return f"{result['tokens_per_second']:.0f} tokens/s, {result['peak_gib']:.2f} GiB, {loss}"


def _rows_line(options: Options, runs: Sequence[Json]) -> str:
    untrained = [f"{run['held_out_loss']:.3f}" for run in runs if run["name"] == UNTRAINED]
    tokens = [run["tokens"] for run in runs if run["name"].startswith("ftreg-")]
    length = f" ({tokens[0] / options.rows:.0f} tokens each on average)" if tokens else ""
    return (
        f"The first {options.rows} training rows of {DATASET}{length}, one pass, batch {BATCH}, "
        f"AdamW with lr {LR:g}; measured {options.rounds}x, the first {WARM_UP} steps of a run not "
        f"counted. Held out: the first {HELD_OUT_ROWS} rows of its split eval; untrained "
        f"{untrained[0] if untrained else 'unknown'}."
    )


def _target_lines(targets: Iterator[tuple[str, bool, str]]) -> list[str]:
    return [f"{'holds ' if holds else 'MISSES'} {text}: {found}" for text, holds, found in targets]


def _write(options: Options, described: Json, runs: Sequence[Json]) -> None:
    if options.output is None:
        return
    results = Results(runs)
    settings = {"rows": options.rows, "rounds": options.rounds, "seed": options.seed}
    record = {
        "schema_version": 1,
        "machine": described,
        "settings": {**settings, "model": MODEL, "dataset": DATASET, "lr": LR, "batch": BATCH},
        "runs": list(runs),
        "targets": [
            {"target": text, "holds": holds, "found": found}
            for text, holds, found in results.targets()
        ],
    }
    options.output.mkdir(parents=True, exist_ok=True)
    write_json(options.output / "train.json", record)
    failed = [f"{run['name']} failed." for run in runs if "error" in run]
    parts = [
        _rows_line(options, runs),
        results.sheet().markdown(),
        results.comparison().markdown(),
        "\n".join(f"- {line}" for line in _target_lines(results.targets())),
        "\n".join(f"- {line}" for line in failed),
        f"Measured on {machine_line(described, runs)}.",
    ]
    write_text(options.output / "train.md", "\n\n".join(part for part in parts if part) + "\n")


# --- Ten times the rows ------------------------------------------------------------------------


def scaling(options: Options) -> None:
    """Train on short rows and on ten times as many, and print how time and memory grow."""
    described = machine()
    few, many = options.scaling_rows, 10 * options.scaling_rows
    runs = []
    for rows in (few, many):
        console.print(f"{rows} rows:", end=" ")
        with tempfile.TemporaryDirectory(prefix="bench-train-") as temporary:
            folder = Path(temporary)
            write_short_rows(folder / "datasets", rows)
            dataset = {"version": "lines@1", "root": str(folder / "datasets")}
            config = ftreg_config(SETUPS["ftreg-full"], dataset=dataset, seed=options.seed)
            try:
                finished, manifest, _ = ftreg_train(config, folder)
            except RuntimeError as error:
                sys.exit(f"failed: {error}")
        training = manifest["training"]
        keys = ("steps", "tokens", "seconds", "threads", "precision")
        runs.append(
            {"name": "ftreg-full", "rows": rows, **{key: training[key] for key in keys}}
            | {"command_seconds": finished.seconds, "peak_gib": finished.peak}
        )
        console.print(f"{training['seconds']:.1f} s, {finished.peak:.2f} GiB")
    headings = ("rows", "steps", "tokens", "training, s", "whole command, s", "peak GiB")
    keys = ("rows", "steps", "tokens", "seconds", "command_seconds", "peak_gib")
    digits = (0, 0, 0, 1, 1, 2)
    lines = [
        [f"{run[key]:.{places}f}" for key, places in zip(keys, digits, strict=True)] for run in runs
    ]
    ratios = {key: runs[1][key] / runs[0][key] for key in keys}
    lines.append([f"{ratios[key]:.2f}x" for key in keys])
    sheet = Sheet(headings, lines, left=0)
    # Relative to tokens, not rows: rows with longer numbers have one more token.
    relative = ratios["seconds"] / ratios["tokens"]
    targets = [
        ("time per token grows by at most 10 %", relative <= 1.1, f"{relative:.3f}x"),
        (
            "peak memory grows by at most 5 %",
            ratios["peak_gib"] <= 1.05,
            f"{ratios['peak_gib']:.3f}x",
        ),
    ]
    console.print(f"\n{machine_line(described, runs)}", soft_wrap=True)
    sheet.show()
    verdicts = _target_lines(iter(targets))
    for line in verdicts:
        console.print(line, soft_wrap=True, markup=False)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        record = {"schema_version": 1, "machine": described, "runs": runs, "ratios": ratios}
        write_json(options.output / "scaling.json", record)
        listed = "\n".join(f"- {line}" for line in verdicts)
        source = f"Measured on {machine_line(described, runs)}."
        parts = (sheet.markdown(), listed, source)
        write_text(options.output / "scaling.md", "\n\n".join(parts) + "\n")


def write_short_rows(root: Path, count: int) -> None:
    """Write a throw-away dataset version `lines@1` of short rows."""
    folder = root / "lines" / "v1"
    folder.mkdir(parents=True)
    splits = {}
    for split, rows in (("train", count), ("eval", 1)):
        path = folder / f"{split}.jsonl"
        lines = (
            {"id": f"{split}{row}", "input": f"Item {row:06d}?", "reference": f"It is {row % 7}."}
            for row in range(rows)
        )
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
        splits[split] = {"file": path.name, "rows": rows, "sha256": file_digest(path)}
    card = {
        "license": "Apache-2.0",
        "description": "Short rows.",
        "source": "Made by scripts/bench_train.py.",
        "prompt": {"user": "{input}"},
        "splits": splits,
    }
    write_text(folder / "dataset.yaml", yaml.safe_dump({"name": "lines", "version": 1, **card}))


# --- The command line --------------------------------------------------------------------------


def main() -> None:
    """Run according to the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=64, help="training rows (at least 24)")
    parser.add_argument("--rounds", type=int, default=2, help="number of rounds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--compile", action="store_true", help="also with torch.compile, both sides"
    )
    parser.add_argument("--only", action="append", choices=list(SETUPS), help="only these")
    parser.add_argument("--output", type=Path, help="folder for JSON and Markdown")
    parser.add_argument("--one", choices=[UNTRAINED, *SETUPS], help="one configuration, as JSON")
    parser.add_argument("--json", type=Path, help="with --one: write it there")
    parser.add_argument("--scaling", action="store_true", help="ten times the rows, instead")
    parser.add_argument("--scaling-rows", type=int, default=120, help="the smaller number of rows")
    # Options with which the script calls itself.
    parser.add_argument("--trl", choices=list(SETUPS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--held-out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rows <= WARM_UP * BATCH:
        parser.error(f"--rows: the first {WARM_UP} steps do not count, so take more than that")

    if options.trl:
        print(json.dumps(train_with_trl(options.trl, options)))
    elif options.held_out:
        print(held_out_loss(options.held_out))
    elif options.one:
        try:
            result = measure(options.one, options)
        except RuntimeError as error:
            sys.exit(str(error))
        if options.json:
            write_json(options.json, result)
        else:
            print(json.dumps(result))
    elif options.scaling:
        scaling(options)
    else:
        compare(options)


if __name__ == "__main__":
    # On SIGTERM, also end the child processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
