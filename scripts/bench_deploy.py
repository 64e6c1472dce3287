"""Time the export of a checkpoint and its parity, and print a table.

    python scripts/bench_deploy.py checkpoints/adamw

Each command runs in a process of its own, from start to end, so that its peak memory is its own.
Copying is that of the weights' files, flushed to disk.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Print a line for each form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--to", nargs="+", default=["merged", "gguf:f16", "gguf:q8_0", "gguf:q4_0"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy, size = copied(asked.checkpoint, Path(folder))
        print(f"weights {size / 1e6:,.0f} MB, copied in {copy:.1f} s")
        print("| form | export, s | times a copy | peak memory, MB | parity, s |")
        print("| --- | --- | --- | --- | --- |")
        for form in asked.to:
            target = Path(folder, form.replace(":", "-")).with_suffix(".gguf")
            seconds, peak = run("export", asked.checkpoint, "--to", form, "-o", target)
            parity = ""
            if form != "merged":
                parity = f"{run('parity', asked.checkpoint, target)[0]:.1f}"
            print(f"| {form} | {seconds:.1f} | {seconds / copy:.1f} | {peak:,.0f} | {parity} |")


def copied(checkpoint: Path, folder: Path) -> tuple[float, int]:
    """Copy a checkpoint's weights; returns seconds and bytes."""
    begin, size = time.perf_counter(), 0
    for path in checkpoint.glob("*.safetensors"):
        target = Path(shutil.copy(path, folder))
        with target.open("rb") as stream:
            os.fsync(stream.fileno())
        size += target.stat().st_size
    return time.perf_counter() - begin, size


def run(*arguments: object) -> tuple[float, float]:
    """Run a command of ftreg; returns seconds, and the peak memory of all so far in MB."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "ftreg", *map(str, arguments), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begin
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


if __name__ == "__main__":
    main()
