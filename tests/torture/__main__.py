"""`python -m tests.torture`: run ftreg under faults of its environment, and count failures.

Exits with 1 if there are any. The slow tests run it with `--short`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.torture import disks, interruptions, mutations, soak, syscalls, together
from tests.torture.harness import Part, Suite, build_shim, has_shim, warm
from tests.torture.world import build_world, commands

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs/torture.md"
_MARKS = ("<!-- figures: begin -->", "<!-- figures: end -->")

SOAK = "One cache and workspace, for long"
# Name, function, whether the shim is needed, and share of the time; 0: runs only with `--only`.
PARTS = (
    ("Power-cut order", disks.power_cut, True, 0.02),
    ("Power-cut order, by strace", syscalls.system_calls, False, 0.04),
    ("SIGKILL at random moments", interruptions.kills, False, 0.23),
    ("Damaged files", mutations.mutations, False, 0.18),
    ("ENOSPC, EIO and EACCES at an operation on the disk", interruptions.errors, True, 0.25),
    ("SIGKILL within an operation on the disk", interruptions.kills_in_writes, True, 0.12),
    ("Many processes at once", together.at_once, False, 0.05),
    ("A full tmpfs", disks.full_disk, False, 0.05),
    ("Read-only folders", disks.read_only, False, 0.04),
    ("A clock that goes back", disks.clock, True, 0.02),
    ("Little memory (RLIMIT_AS)", together.memory, False, 0.03),
    ("A judge that dies", together.judge, False, 0.01),
    (SOAK, soak.soak, False, 0.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a twentieth of everything")
    parser.add_argument("--minutes", type=float, help="the time for the parts that run; 20")
    parser.add_argument("--scale", type=float, help="how much is done; 1.0 is everything")
    parser.add_argument("--only", action="append", default=[], help="a part of a part's name")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", action="store_true", help=f"write the figures into {PAGE.name}")
    options = parser.parse_args()
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # its fsync costs nothing
    scratch = Path(
        os.environ.get("TORTURE_FOLDER") or tempfile.mkdtemp(prefix="torture-", dir=place)
    )
    if "TORTURE_FOLDER" not in os.environ:
        os.environ["TORTURE_FOLDER"] = str(scratch)
        shim = build_shim(scratch)
        environment = {**os.environ, "LD_PRELOAD": str(shim)} if shim else dict(os.environ)
        child = subprocess.run(
            [sys.executable, "-m", "tests.torture", *sys.argv[1:]], env=environment
        )
        shutil.rmtree(scratch, ignore_errors=True)
        raise SystemExit(child.returncode)
    scale = options.scale or (0.03 if options.short else 1.0)
    scratch.chmod(0o755)
    parts, seconds = run(scale, scratch, options)
    summary = {
        part.name: [part.trials, part.counts, len(part.failures), part.skipped] for part in parts
    }
    print(json.dumps({"seconds": round(seconds), "parts": summary}))
    raise SystemExit(any(part.failures for part in parts))


def run(scale: float, scratch: Path, options: argparse.Namespace) -> tuple[list[Part], float]:
    began = time.monotonic()
    tempfile.tempdir = str(scratch)
    warm()
    world = scratch / "world"
    build_world(world)
    known = commands(world, scratch)
    chosen = [
        item
        for item in PARTS
        if (any(text in item[0] for text in options.only) if options.only else item[3])
    ]
    seconds = 60 * (options.minutes or (1 if options.short else 20))
    shares = sum(share for *_, share in chosen)
    left_over = 0.0
    parts = []
    for name, work, shimmed, share in chosen:
        part = Part(name)
        parts.append(part)
        if shimmed and not has_shim():
            part.skipped = "no C compiler, so no fault can be injected"
            continue
        start = time.monotonic()
        # Unused time is passed on to the next part.
        given = seconds * (share / shares if shares else 1) + left_over
        work(
            Suite(scale, world, scratch, options.processes, start + given, options.seed),
            known,
            part,
        )
        part.seconds = time.monotonic() - start
        left_over = max(0.0, given - part.seconds)
        print(f"{name}: {figures(part)}", file=sys.stderr, flush=True)
        for text in part.failures[:20]:
            print(f"  FOUND: {text}", file=sys.stderr, flush=True)
        if options.page:
            write_page([part])
    return parts, time.monotonic() - began


def figures(part: Part) -> str:
    if part.skipped:
        return f"skipped: {part.skipped}"
    counts = ", ".join(f"{number:,} {what}" for what, number in sorted(part.counts.items()))
    return f"{part.trials:,} trials ({counts}), {len(part.failures)} found, {part.seconds:.0f} s"


def write_page(parts: list[Part]) -> None:
    """Write the figures between the page's marks; parts that did not run keep their rows."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(_MARKS[0])
    old, _, after = rest.partition(_MARKS[1])
    rows = {line.split("|")[1].strip(): line for line in old.splitlines() if line.count("|") == 6}
    rows |= {part.name: _row(part) for part in parts}
    lines = ["| what | trials | among them | wrong | s |", "| --- | ---: | --- | ---: | ---: |"]
    lines += [rows[name] for name, *_ in PARTS if name in rows]
    block = "\n".join([_MARKS[0], "", *lines, "", _MARKS[1]])
    PAGE.write_text(before + block + after, encoding="utf-8")


def _row(part: Part) -> str:
    if part.skipped:
        return f"| {part.name} | 0 | skipped: {part.skipped} | 0 | 0 |"
    counts = "; ".join(f"{what}: {number:,}" for what, number in sorted(part.counts.items()))
    return (
        f"| {part.name} | {part.trials:,} | {counts} | {len(part.failures)} | {part.seconds:.0f} |"
    )


if __name__ == "__main__":
    main()
