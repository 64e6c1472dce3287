"""Time the export of a checkpoint and its parity, and print a table.

    python scripts/bench_deploy.py checkpoints/adamw

Each command runs in a separate process, from start to end, so that its peak memory is measured
separately. Copying means the weight files (for adapters, those of the base model), flushed to disk;
it is repeated beside each export, since a machine's speed varies. Transformers generates answers to
the dataset's first ten prompts, one after the other. CPU seconds are printed too: on a busy machine
they are more reliable than wall-clock time.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ANSWERS, NEW_TOKENS = 10, 64


class Took(NamedTuple):
    """Cost of a command: wall-clock and CPU seconds, and its peak memory in MB."""

    seconds: float
    cpu: float
    peak: float


def main() -> None:
    """Print a line for each form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--to", nargs="+", default=["merged", "gguf:f16", "gguf:q8_0", "gguf:q4_0"])
    asked = parser.parse_args()
    weights = weights_of(asked.checkpoint)
    size = sum(path.stat().st_size for path in weights) / 1e6
    print(f"weights {size:,.0f} MB, in memory twice {2 * size:,.0f} MB")
    print("| form | copy, s | export, s (CPU) | times a copy | peak, MB | parity, s (CPU) |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for form in asked.to:
            target = Path(folder, form.replace(":", "-")).with_suffix(".gguf")
            copy = copied(weights, Path(folder, "copy"))
            made = run("export", asked.checkpoint, "--to", form, "-o", target)
            held = run("parity", asked.checkpoint, target)
            print(
                f"| {form} | {copy:.1f} | {made.seconds:.1f} ({made.cpu:.1f}) "
                f"| {made.seconds / copy:.1f} | {made.peak:,.0f} "
                f"| {held.seconds:.1f} ({held.cpu:.1f}) |",
                flush=True,
            )
    seconds, cpu = generated(asked.checkpoint)
    print(f"{ANSWERS} answers of {NEW_TOKENS} tokens: {seconds:.1f} s ({cpu:.1f} of the CPUs)")


def weights_of(checkpoint: Path) -> list[Path]:
    """Return the weight files that a checkpoint uses."""
    from ftreg.deploy.merging import Merged
    from ftreg.records.checkpoint import read_checkpoint

    return sorted(Merged(read_checkpoint(checkpoint)).folder.glob("*.safetensors"))


def copied(weights: list[Path], target: Path) -> float:
    """Copy files; returns seconds."""
    begin = time.perf_counter()
    for path in weights:
        shutil.copy(path, target)
        with target.open("rb") as stream:
            os.fsync(stream.fileno())
    return time.perf_counter() - begin


def run(*arguments: object) -> Took:
    """Run a command of ftreg in a separate process."""
    command = [sys.executable, "-m", "ftreg", *map(str, arguments), "--quiet"]
    code = (
        "import json, resource, subprocess, sys, time; begin = time.perf_counter(); "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(json.dumps([time.perf_counter() - begin, used.ru_utime + used.ru_stime, "
        "used.ru_maxrss / 1024]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True)
    return Took(*json.loads(done.stdout))


def generated(checkpoint: Path) -> tuple[float, float]:
    """Load a checkpoint and generate answers; returns wall-clock and CPU seconds."""
    import torch

    from ftreg.data import load_dataset
    from ftreg.models.pretrained import load_checkpoint_model
    from ftreg.models.trained_chat import trained_chat
    from ftreg.records.checkpoint import read_checkpoint

    found = read_checkpoint(checkpoint)
    config = found.manifest.config.dataset
    version = load_dataset(config.version, root=Path(config.root))
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    chat, model = trained_chat(found), load_checkpoint_model(found)
    for row in version.split(config.eval_split)[:ANSWERS]:
        ids = torch.tensor([chat.prompt(version.card.prompt.messages(row))])
        model.generate(  # type: ignore[operator]
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS, do_sample=False,
        )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, cpu


if __name__ == "__main__":
    main()
