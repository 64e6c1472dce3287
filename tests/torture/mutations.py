"""Damaged files of every kind: they must be rejected by name, or read correctly.

Most are read by the library's readers in a separate fork, some by whole commands. Files with a
digest (records, weights, rows, states, caches) must be read as written or rejected; the user's own
files (cards, configurations, policies, base models) must not cause a crash.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.torture.harness import Part, Suite, Trial, run
from tests.torture.world import EVAL, GATE, TRAIN, Command, complaint, result_of

_BATCH = 50
Reader = Callable[[Path], Any]


def mutate(data: bytes, generator: random.Random) -> tuple[str, bytes]:
    """Damage data in a random way; returns a description and the damaged bytes."""
    at = generator.randrange(len(data))
    size = min(len(data) - at, generator.choice((1, 4, 64, 512)))
    match generator.randrange(8):
        case 0 | 1 | 2:
            bit = generator.randrange(8)
            return f"bit {bit} of byte {at}", _put(data, at, bytes([data[at] ^ 1 << bit]))
        case 3:
            value = generator.randrange(256)
            return f"byte {at} set to {value}", _put(data, at, bytes([value]))
        case 4:
            return f"cut at {at}", data[:at]
        case 5:
            return f"{size} bytes from {at} zeroed", _put(data, at, bytes(size))
        case 6:
            return f"{size} bytes from {at} lost", data[:at] + data[at + size :]
        case _:
            return f"{size} bytes from {at} doubled", data[: at + size] + data[at:]


def _put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of file: its location, its reader, its share of the trials, and what may happen."""

    kind: str
    pattern: str
    read: Reader
    share: float
    own: bool = False
    """The user's own file: another value is valid input."""
    silent: bool = False
    """A cache: a damaged one counts as missing."""


def _evaluation(folder: Path) -> Any:
    from ftreg.records.evaluation.stored import read_evaluation

    found = read_evaluation(folder / "evaluations/B")
    return found.header, found.scores, found.cohorts, found.clusters, sorted(found.critical)


def _gate_record(folder: Path) -> Any:
    from ftreg.jobs.gate import last_gate
    from ftreg.records.evaluation.stored import read_evaluation

    return last_gate(read_evaluation(folder / "evaluations/B"))


def _baseline(folder: Path) -> Any:
    from ftreg.records.baseline import read_anchor, read_baseline, read_history

    path = folder / "baselines/colours.json"
    found = read_baseline(path)
    return found.header, found.scores, read_anchor(path), read_history(path)


def _checkpoint(folder: Path) -> Any:
    from ftreg.records.checkpoint import read_checkpoint

    found = read_checkpoint(folder / "checkpoints/b")
    found.verify()
    # Times and durations are not compared.
    said = found.manifest.model_dump(exclude={"created": True, "training": {"seconds"}})
    said["files"].pop("history.jsonl")
    return said


def _state(folder: Path) -> Any:
    from safetensors.torch import load_file

    from ftreg.training.state.saved import read_state

    found = read_state(folder / "state")
    tensors = {
        name: {key: hashlib.sha256(value.numpy().tobytes()).hexdigest()
               for key, value in load_file(folder / "state" / name).items()}
        for name in ("model.safetensors", "optimizer.safetensors")
    }  # fmt: skip
    return found.step, found.facts, found.history, found.optimizer, tensors


def _dataset(folder: Path) -> Any:
    from ftreg.data import load_dataset

    os.environ["FTREG_CACHE"] = str(folder / "cache")
    dataset = load_dataset("colours@1", root=folder / "datasets")
    return [list(dataset.split(name)) for name in ("train", "eval")]


def _card(folder: Path) -> Any:
    from ftreg.data import load_dataset

    return load_dataset("colours@1", root=folder / "datasets").card


def _outputs(folder: Path) -> Any:
    """Whether every output that is found is the one that was written."""
    from ftreg.files.cache.table import Table

    with contextlib.closing(sqlite3.connect(folder / "cache.whole/tables/outputs.sqlite")) as whole:
        rows = whole.execute("SELECT key, value FROM kept").fetchall()
    os.environ["FTREG_CACHE"] = str(folder / "cache")
    table = Table("outputs")
    table._name = bytes.fromhex  # type: ignore[method-assign]
    known = {key.hex(): value[8:] for key, value in rows}
    assert known
    return table.get_many(known).items() <= known.items()


def _answers(folder: Path) -> Any:
    from ftreg.files.cache.table import Table

    os.environ["FTREG_CACHE"] = str(folder / "cache")
    return Table("judge", "torture").get_many(["Is it so?"]) in ({}, {"Is it so?": _ANSWER})


def _vectors(folder: Path) -> Any:
    from ftreg.scoring.backends.vector_store import VectorStore

    os.environ["FTREG_CACHE"] = str(folder / "cache")
    found = VectorStore("torture").get(map(str, range(40)))
    return all((vector == _vector(int(text))).all() for text, vector in found.items())


def _config(folder: Path) -> Any:
    from ftreg.config.load import load_config

    return load_config(folder / "run.yaml")


def _policy(folder: Path) -> Any:
    from ftreg.config.load import validate
    from ftreg.config.policy import GatePolicy
    from ftreg.files import marked_yaml

    return validate(GatePolicy, marked_yaml.read(folder / "policy.yaml"), where="policy.yaml")


def _base(folder: Path) -> Any:
    from ftreg.models.chat_template import Chat
    from ftreg.models.pretrained import load_model, load_tokenizer

    tokenizer = load_tokenizer(folder / "tiny")
    Chat(tokenizer).prompt([{"role": "user", "content": "Which colour?"}])
    load_model(folder / "tiny")
    return None


_ANSWER = b"Yes, it is so: " * 8


def _vector(number: int) -> Any:
    import numpy as np

    return np.random.default_rng(number).standard_normal(16).astype("float32")


TARGETS = (
    Target("evaluation.json", "evaluations/B/evaluation.json", _evaluation, 0.13),
    Target("outputs.jsonl", "evaluations/B/outputs.jsonl", _evaluation, 0.08),
    Target("scores.jsonl", "evaluations/B/scores.jsonl", _evaluation, 0.08),
    Target("gate.json", "evaluations/B/gate.json", _gate_record, 0.08),
    Target("baseline", "baselines/colours.json", _baseline, 0.13),
    Target("manifest", "checkpoints/b/ftreg.json", _checkpoint, 0.08),
    Target("weights, tokenizer, recipe", "checkpoints/b/[!f]*", _checkpoint, 0.08),
    Target("training state", "state/*", _state, 0.06),
    Target("dataset rows", "datasets/colours/v1/*.jsonl", _dataset, 0.04),
    Target("cache of rows", "cache/arrow/*.arrow", _dataset, 0.05, silent=True),
    Target("cache of digests", "cache/tables/digests.sqlite", _dataset, 0.02, silent=True),
    Target("cache of outputs", "cache/tables/outputs.sqlite", _outputs, 0.06, silent=True),
    Target("cache of answers", "cache/tables/judge.sqlite", _answers, 0.03, silent=True),
    Target("cache of vectors", "cache/tables/vectors.sqlite", _vectors, 0.02, silent=True),
    Target("dataset card", "datasets/colours/v1/dataset.yaml", _card, 0.02, own=True),
    Target("configuration", "run.yaml", _config, 0.02, own=True),
    Target("policy", "policy.yaml", _policy, 0.01, own=True),
    Target("base model", "tiny/*", _base, 0.01, own=True),
)


def _prepare(folder: Path) -> None:
    """Add a state, a cached answer, vectors, a policy and a copy of the undamaged cache."""
    from ftreg.files.cache.table import Table
    from ftreg.scoring.backends.vector_store import VectorStore

    done = run(*TRAIN[:-1], cwd=folder, kill_after=None, before=partial(_stop_after_step, 4))
    if done.code != 130:
        raise SystemExit(f"the training that was to be stopped ended with {done}")
    newest = sorted((folder / "checkpoints/new.state").glob("step-*"))[-1]
    shutil.copytree(newest, folder / "state")
    os.environ["FTREG_CACHE"] = str(folder / "cache")
    Table("judge", "torture").put_many({"Is it so?": _ANSWER})
    VectorStore("torture").put({str(number): _vector(number) for number in range(40)})
    (folder / "policy.yaml").write_text("margin: 0.05\nmin_examples: 4\nconfidence: 0.9\n")
    for split in sorted(folder.glob("datasets/colours/v1/*.jsonl")):
        os.utime(split, (1e9, 1e9))
    time.sleep(2.1)  # the digest of a younger file is not cached
    _dataset(folder)
    shutil.copytree(folder / "cache", folder / "cache.whole")


def _stop_after_step(step: int) -> None:
    from ftreg.training.session import Session

    real = Session.step

    def taken(self: Session, record: Any) -> None:
        real(self, record)
        if record.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    Session.step = taken  # type: ignore[method-assign]


def mutations(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Damage files and read them, about 10,000 times in the whole suite."""
    with suite.copy() as folder:
        _prepare(folder)
        items = []
        for target in TARGETS:
            number = suite.some(9_500 * target.share, least=6)
            for start in range(0, number, _BATCH):
                items.append((target, start, min(_BATCH, number - start)))
        suite.each(part, partial(_batch, suite, folder), items)
        whole = _commands(suite, folder)
        suite.each(part, partial(_through, suite, folder), whole)
    part.trials = sum(
        part.counts.get(name, 0) for name in ("refused", "read as written", "the user's own")
    )


def _batch(suite: Suite, prepared: Path, item: tuple[Target, int, int]) -> Trial:
    """Read damaged files of one kind in a fork, since a library may crash the process."""
    target, start, number = item
    with suite.copy(of=prepared) as folder:
        said = folder.parent / "said"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.environ["TMPDIR"] = str(folder / "tmp")
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 1)
                os.dup2(null, 2)
                _read_damaged(suite, target, folder, start, number, said)
                code = 0
            except BaseException:
                said.write_text(traceback.format_exc())
            finally:
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        text = said.read_text(encoding="utf-8") if said.exists() else ""
        if status != 0:
            return Trial({}, [f"{target.kind}: the reader ended with {status}: {text[-600:]}"])
        counts, failures = json.loads(text.splitlines()[-1])
        return Trial(counts, failures)


def _read_damaged(
    suite: Suite, target: Target, folder: Path, start: int, number: int, said: Path
) -> None:
    from ftreg.errors import FtregError

    os.environ["FTREG_CACHE"] = str(folder / "cache")
    counts: dict[str, int] = {}
    failures = []
    expected = None if target.own else target.read(folder)
    files = [path for path in sorted(folder.glob(target.pattern)) if path.is_file()]
    generator = random.Random(f"{suite.seed} {target.kind} {start}")
    for _ in range(number):
        path = generator.choice(files)
        data = path.read_bytes()
        how, damaged = mutate(data, generator)
        label = f"{path.relative_to(folder)}, {how}"
        said.write_text(label, encoding="utf-8")
        path.write_bytes(damaged)
        try:
            found = target.read(folder)
        except FtregError as error:
            outcome = "refused"
            if path.name not in str(error) and str(path.parent) not in str(error):
                failures.append(f"{label}: the message does not name the file: {error}")
            if target.silent:
                failures.append(f"{label}: a damaged cache is no reason to refuse: {error}")
        except Exception as error:
            outcome = "crashed"
            failures.append(f"{label}: {error!r}")
        else:
            outcome = "the user's own" if target.own else "read as written"
            if not target.own and found != expected:
                failures.append(f"{label}: read with another content")
        counts[outcome] = counts.get(outcome, 0) + 1
        path.write_bytes(data)
        if target.silent:
            _restore(folder, "cache")
    said.write_text(json.dumps([counts, failures]), encoding="utf-8")


def _restore(folder: Path, name: str) -> None:
    whole = folder / f"{name}.whole"
    if whole.is_dir():
        shutil.rmtree(folder / name)
        shutil.copytree(whole, folder / name)


def _commands(suite: Suite, folder: Path) -> list[Any]:
    """Whole commands over damaged files: (pattern, arguments, what is compared, index)."""
    found: list[Any] = []
    for number, pattern, arguments, compared in (
        (100, "evaluations/B/*.json*", GATE, "verdict"),
        (60, "baselines/*.json", GATE, "verdict"),
        (40, "evaluations/B/gate.json", ["report", "B", "-o", "out.html"], "report"),
        (40, "evaluations/B/gate.json", ["promote", "B", "--why", "x"], None),
        (60, "checkpoints/b/*", EVAL, "eval"),
        (40, "cache/*/*", EVAL, "eval"),
        (40, "datasets/colours/v1/*", EVAL, "eval"),
        (40, "checkpoints/new.state/step-*/*", TRAIN, "train"),
        (40, "cache/*/*", TRAIN, "train"),
        (40, "tiny/*", TRAIN, None),
    ):
        count = suite.some(number, least=2)
        found += [(pattern, arguments, compared, index) for index in range(count)]
    return found


def _through(suite: Suite, prepared: Path, item: tuple[str, list[str], str | None, int]) -> Trial:
    pattern, arguments, compared, index = item
    generator = random.Random(f"{suite.seed} {pattern} {arguments} {index}")
    with suite.copy(of=prepared) as folder:
        if "train" not in arguments:
            shutil.rmtree(folder / "checkpoints/new.state")
        with_result = compared is not None and not pattern.startswith("datasets")
        whole = _result(compared, run(*arguments, cwd=folder), folder) if with_result else None
        with suite.copy(of=prepared) as other:
            files = [path for path in sorted(other.glob(pattern)) if path.is_file()]
            path = generator.choice([path for path in files if path.stat().st_size])
            how, damaged = mutate(path.read_bytes(), generator)
            path.write_bytes(damaged)
            done = run(*arguments, cwd=other)
            label = f"{' '.join(arguments[:2])} over {path.relative_to(other)}, {how}"
            failures = complaint(done, label=label, allowed={0, 1, 2, 3})
            if done.code == 2:
                named = path.name in done.err or path.parent.name in done.err
                # A damaged template may still parse but not fit; the error names the template.
                if not named and "chat template" not in done.err:
                    failures.append(f"{label}: the message does not name the file: {done.brief()}")
                return Trial({"refused": 1, "whole commands": 1}, failures)
            if with_result and not failures and _result(compared, done, other) != whole:
                failures.append(f"{label}: another result: {done.brief()}")
            outcome = "read as written" if with_result else "the user's own"
            return Trial({outcome: 1, "whole commands": 1}, failures)


def _result(compared: str | None, done: Any, folder: Path) -> Any:
    if compared == "verdict":
        said = json.loads(done.out)
        return {key: said[key] for key in ("outcome", "reasons", "rows", "critical", "exit_code")}
    return result_of(str(compared), folder)
