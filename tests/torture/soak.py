"""Processes that share one workspace and one cache for an hour, while others clean the cache."""

import contextlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import sqlite3
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.torture.harness import Done, Part, Process, Suite, Trial
from tests.torture.together import await_address, serve_judge
from tests.torture.world import Command, broken, complaint

_PULLED = "all-minilm-l6-v2"
_KEPT = 20
"""On average, one in this many new evaluations is kept; the others are removed once read."""
_PATIENCE = 900


@dataclass(frozen=True, slots=True)
class _Act:
    """A command, its allowed exit codes, and its result, which must never vary (None: not checked).

    `{new}` in an argument is replaced by a new name each time.
    """

    arguments: tuple[str, ...]
    result: Callable[[Path, str, Done], Any] | None = None
    codes: frozenset[int] = frozenset({0})
    weight: int = 1


def soak(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Run random commands in parallel until the time is up; results must be as if run alone."""
    with suite.copy() as folder:
        place = folder / "judge-address"
        server = serve_judge(place, -1)
        try:
            acts = _acts(await_address(place), pulls=_seed_wheels(folder / "cache"))
            first = {name: _once(act, folder, name) for name, act in acts.items()}
            part.failures += [text for wrong, _ in first.values() for text in wrong]
            alone = {name: result for name, (_, result) in first.items()}
            work = partial(_work, acts, alone, folder, suite)
            with multiprocessing.get_context("fork").Pool(suite.processes) as pool:
                found = pool.map(work, range(suite.processes), chunksize=1)
        finally:
            os.kill(server, 9)
            os.waitpid(server, 0)
        counts: Counter[str] = Counter()
        for trial, _ in found:
            counts.update(trial.counts)
            part.failures += trial.failures
        part.trials = counts.total()
        part.counts |= counts
        part.count("processes", suite.processes)
        part.count("MiB at most, of one command", max(most for _, most in found) >> 10)
        part.failures += [*broken(folder), *_wrong_at_the_end(folder, counts)]


def _work(
    acts: Mapping[str, _Act], alone: Mapping[str, Any], folder: Path, suite: Suite, number: int
) -> tuple[Trial, int]:
    """Run as one of the processes; returns its trial, and a command's peak memory in KiB."""
    generator = random.Random(f"{suite.seed} {number}")
    counts: Counter[str] = Counter()
    failures: list[str] = []
    told = 0
    weights = [act.weight for act in acts.values()]
    while time.monotonic() < suite.deadline and len(failures) < 100:
        (name,) = generator.choices(list(acts), weights)
        counts[name.partition(":")[0]] += 1
        wrong, result = _once(acts[name], folder, name)
        failures += wrong
        if not wrong and result != alone[name]:
            failures.append(f"{name}: {result!r:.300}, and alone: {alone[name]!r:.300}")
        for text in failures[told:]:
            print(f"  FOUND: {text}", file=sys.stderr, flush=True)  # now, not after an hour
        told = len(failures)
    return Trial(dict(counts), failures), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def _once(act: _Act, folder: Path, name: str) -> tuple[list[str], Any]:
    """Run a command; returns what is wrong with how it ended, and its result."""
    new = f"soak-{uuid.uuid4().hex[:12]}"
    arguments = [argument.format(new=new) for argument in act.arguments]
    done = Process(arguments, cwd=folder).wait(_PATIENCE)
    wrong = complaint(done, label=name, allowed=act.codes)
    if "damaged" in done.err:
        wrong.append(f"{name}: {done.brief()}")
    result = act.result(folder, new, done) if act.result and not wrong else None
    for path in (folder / f"checkpoints/{new}", folder / f"{new}.html"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return wrong, result


def _acts(judge: str, *, pulls: bool) -> dict[str, _Act]:
    """Return the commands to choose from; they are counted by the name before the colon."""
    options = {"model": "m", "base_url": judge, "concurrency": 1}
    scorer = json.dumps({"name": "faithfulness", "backend": "judge", "options": options})
    scored = scorer.replace("{", "{{").replace("}", "}}")  # escaped for `format`
    judged = frozenset({0, 1, 3})
    acts = {
        f"train:{seed}": _Act(
            ("train", "run.yaml", "-s", f"train.seed={seed}", "-o", "checkpoints/{new}"), _weights
        )
        for seed in (1, 2)
    }
    for name in ("a", "b"):
        acts[f"eval:{name}"] = _Act(
            ("eval", f"checkpoints/{name}", "--no-gate", "--json", "--quiet"), _rows, weight=4
        )
    acts |= {
        f"clean:{number}": _Act(("clean", *chosen))
        for number, chosen in enumerate((
            ["--older-than", "1h"], ["--max-size", "10KiB"], ["arrow", "prepared", "--all"],
            ["outputs", "judge", "--all"], ["models", "--all"], ["--all"],
        ))
    }  # fmt: skip
    acts |= {
        "rescore": _Act(("rescore", "B", "--json", "--quiet"), _rows, weight=2),
        "gate:files": _Act(("gate", "A", "B", "--json"), _deltas, judged, weight=2),
        # Its owner may remove the latest while it is read; the message then names the file.
        "gate:words": _Act(("gate", "baseline", "latest", "--json"), None, judged | {2}, weight=2),
        "promote:A": _Act(("promote", "A", "--force", "--why", "soak")),
        "promote:B": _Act(("promote", "B", "--force", "--why", "soak")),
        "score": _Act(
            ("score", "evaluations/B/outputs.jsonl", "--scorer", "equals", "--scorer", scored),
            _printed, weight=4,
        ),
        "report": _Act(("report", "B", "-o", "{new}.html")),
        "list": _Act(("evaluations", "list", "--json")),
        "history": _Act(("history", "colours", "-o", "{new}.html")),
        "compare": _Act(("compare", "A", "B", "--json"), _printed),
        "verify": _Act(("data", "verify", "colours@1", "--root", "datasets")),
    }  # fmt: skip
    if pulls:
        acts["pull"] = _Act(("models", "pull", _PULLED))
    return acts


def _weights(folder: Path, new: str, done: Done) -> Any:
    manifest = json.loads((folder / f"checkpoints/{new}/ftreg.json").read_text(encoding="utf-8"))
    return manifest["weights"]["digest"]


def _rows(folder: Path, new: str, done: Done) -> Any:
    """Return outputs and scores of the new evaluation, and usually remove it; see `_KEPT`."""
    printed = json.loads(done.out)
    if "evaluations" in printed:  # from `rescore`
        (named,) = (item["evaluation"] for item in printed["evaluations"])
    else:
        named = printed["evaluation"]["id"]
    made = folder / "evaluations" / named
    rows = [(made / name).read_text(encoding="utf-8") for name in ("outputs.jsonl", "scores.jsonl")]
    if int(uuid.uuid4()) % _KEPT:
        shutil.rmtree(made)
    return rows


def _printed(folder: Path, new: str, done: Done) -> Any:
    return done.out


def _deltas(folder: Path, new: str, done: Done) -> Any:
    return json.loads(done.out)["rows"]


def _seed_wheels(cache: Path) -> bool:
    """Put a packaged model's wheel into the cache; False if it is not available locally."""
    from ftreg.files.cache.folder import cache_folder
    from ftreg.models.packaged import PACKAGED

    for wheel in PACKAGED[_PULLED].wheels:
        source = cache_folder("wheels", wheel.sha256)
        if not source.is_dir():
            return False
        shutil.copytree(source, cache / "wheels" / wheel.sha256)
    return True


def _wrong_at_the_end(folder: Path, counts: Mapping[str, int]) -> list[str]:
    """Return what is left over, lost or damaged after all processes have ended."""
    from ftreg.files.cache.sealed import is_whole
    from ftreg.records.baseline import read_history

    found = [f"left behind: {path}" for path in folder.rglob(".tmp-*")]
    found += [f"damaged: {path}" for path in (folder / "cache").rglob("*.arrow")
              if not is_whole(path)]  # fmt: skip
    for path in (folder / "cache/tables").glob("*.sqlite"):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            answer = connection.execute("PRAGMA integrity_check").fetchone()
            found += [f"{path}: {answer}"] if answer != ("ok",) else []
    promoted = len(read_history(folder / "baselines/colours.json")) - 1
    if promoted != counts["promote"] + 2:  # two from the runs before the parallel ones
        found.append(f"{promoted} promotions in the history, {counts['promote'] + 2} were made")
    return found
