"""The folder that every trial starts from, the commands, and the checks after each trial."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import make_model, rows_of, write_dataset
from tests.torture.harness import Done, Trial, run

CONFIG = """\
base: {model: tiny}
dataset: {version: colours@1, root: datasets}
optimizer: {name: adamw, lr: 1e-3}
train: {batch_size: 4, precision: fp32, threads: 1, epochs: 2, save_steps: 2}
eval:
  max_new_tokens: 4
  scorers:
    - equals
    - {name: "tests.fakes:length_scorer", options: {limit: 40}}
gate: {margin: 0.03, min_examples: 4, resamples: 999}
"""

TRAIN = ["train", "run.yaml", "-o", "checkpoints/new", "--resume"]
EVAL = ["eval", "checkpoints/b", "--against", "baseline", "--quiet"]
PROMOTE = ["promote", "B", "--force", "--why", "torture", "--anchor"]
FREEZE = [
    "data",
    "freeze",
    "datasets/colours/draft",
    "--changes",
    "one row more",
    "--root",
    "datasets",
]
REPORT = ["report", "B", "-o", "out.html"]
GATE = ["gate", "baseline", "B", "--json"]


@dataclass(frozen=True, slots=True)
class Command:
    """A command, with its exit code and result when nothing fails."""

    name: str
    arguments: list[str]
    code: int
    result: Any


def build_world(folder: Path) -> None:
    """Make two checkpoints, their evaluations A and B, A as the baseline, and a dataset draft."""
    folder.mkdir(parents=True)
    (folder / "tmp").mkdir()
    _talking(make_model(folder / "tiny"))
    write_dataset(folder / "datasets")
    (folder / "run.yaml").write_text(CONFIG, encoding="utf-8")
    for name, lr in (("a", "1e-3"), ("b", "1e-2")):
        _expect(
            folder, "train", "run.yaml", "-s", f"optimizer.lr={lr}", "-o", f"checkpoints/{name}"
        )
        _expect(folder, "eval", f"checkpoints/{name}", "--no-gate", "--quiet")
        (made,) = (folder / "evaluations").glob(f"{name}-*")
        shutil.copytree(made, folder / "evaluations" / name.upper())
        shutil.rmtree(made)
        _rename_evaluation(folder / "evaluations" / name.upper())
    _expect(folder, "promote", "A")
    run("gate", "baseline", "B", cwd=folder)
    _expect(folder, "data", "draft", "colours@1", "--root", "datasets")
    rows = folder / "datasets/colours/draft/eval.jsonl"
    with rows.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({**rows_of(1)[0], "id": "one more"}) + "\n")


def _talking(model: Path) -> None:
    """Scale a model's weights, so that its outputs differ from prompt to prompt."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(6)
    network.save_pretrained(model)


def _rename_evaluation(folder: Path) -> None:
    from ftreg.files.store import write_record

    header = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    header.pop("digest", None)
    write_record(folder / "evaluation.json", {**header, "id": folder.name})


def _expect(folder: Path, *arguments: str) -> None:
    done = run(*arguments, cwd=folder)
    if done.code != 0:
        raise SystemExit(f"ftreg {' '.join(arguments)} ended with {done}")


def evaluations(folder: Path) -> list[Path]:
    """Return the folders of the evaluations made in a trial."""
    found = (folder / "evaluations").glob("[!.]*/evaluation.json")
    return sorted(path.parent for path in found if path.parent.name not in ("A", "B"))


def result_of(name: str, folder: Path) -> Any:
    """Return a command's result, without times and names."""
    if name == "train":
        manifest = json.loads((folder / "checkpoints/new/ftreg.json").read_text(encoding="utf-8"))
        assert not (folder / "checkpoints/new.state").exists(), "a state was left behind"
        return manifest["identity"], manifest["weights"]["digest"]
    if name == "eval":
        made = evaluations(folder)[-1]
        gate = json.loads((made / "gate.json").read_text(encoding="utf-8"))
        assert (made / "report.html").is_file() and (made / "report.md").is_file()
        return (
            (made / "outputs.jsonl").read_text(encoding="utf-8"),
            (made / "scores.jsonl").read_text(encoding="utf-8"),
            gate["verdict"],
        )
    if name == "promote":
        record = json.loads((folder / "baselines/colours.json").read_text(encoding="utf-8"))
        return record["baseline"]["header"]["id"], record["anchor"]["header"]["id"]
    if name == "freeze":
        frozen = folder / "datasets/colours/v2"
        card = yaml.safe_load((frozen / "dataset.yaml").read_text(encoding="utf-8"))
        return card, (frozen / "eval.jsonl").read_bytes(), (frozen / "train.jsonl").read_bytes()
    if name == "report":
        return (folder / "out.html").read_bytes()
    raise ValueError(name)


def commands(world: Path, scratch: Path) -> dict[str, Command]:
    """Run the five commands undisturbed; returns them with their exit codes and results."""
    found = {}
    for name, arguments in (
        ("train", TRAIN), ("eval", EVAL), ("promote", PROMOTE), ("freeze", FREEZE),
        ("report", REPORT),
    ):  # fmt: skip
        folder = scratch / f"undisturbed-{name}"
        shutil.copytree(world, folder)
        done = run(*arguments, cwd=folder)
        if "Traceback" in done.err or done.code not in (0, 1, 3):
            raise SystemExit(f"ftreg {name} ended with {done}")
        found[name] = Command(name, arguments, done.code, result_of(name, folder))
    return found


def check(command: Command, folder: Path, *, label: str) -> Trial:
    """Check after a fault that no record is partial, and that the command now succeeds as usual."""
    failures = [f"{label}: {text}" for text in broken(folder)]
    if command.name == "freeze" and (folder / "datasets/colours/v2").exists():
        # It had already finished: a second run must say that there is nothing to do.
        done = run(*command.arguments, cwd=folder)
        if done.code != 2 or "nothing differs" not in done.err:
            failures.append(f"{label}: frozen a second time: {done.brief()}")
    else:
        done = run(*command.arguments, cwd=folder)
        if done.code != command.code or "Traceback" in done.err:
            failures.append(f"{label}: the next command ended with {done.brief()}")
            return Trial({}, failures)
    try:
        found = result_of(command.name, folder)
    except Exception as error:
        failures.append(f"{label}: the next command left {error!r}")
    else:
        if found != command.result:
            failures.append(f"{label}: the next command has another result")
    failures += [f"{label}, then: {text}" for text in broken(folder)]
    return Trial({}, failures)


def broken(folder: Path) -> list[str]:
    """Read every record and dataset, and return what is wrong."""
    from ftreg.data.dataset import load_dataset
    from ftreg.errors import FtregError
    from ftreg.records.baseline import read_baseline, read_history
    from ftreg.records.checkpoint import list_checkpoints
    from ftreg.records.evaluation.stored import read_evaluation

    found = []
    try:
        for checkpoint in list_checkpoints(folder / "checkpoints"):
            checkpoint.verify()
        names = [path.name for path in (folder / "evaluations").iterdir()]
        for name in names:
            if not name.startswith("."):
                read_evaluation(folder / "evaluations" / name)
        baseline = folder / "baselines/colours.json"
        read_baseline(baseline)
        first, *_ = read_history(baseline)
        if first["evaluation"] != "A":
            found.append("the history of the baseline has lost a line")
        for version in (folder / "datasets/colours").glob("v*"):
            dataset = load_dataset(f"colours@{version.name[1:]}", root=folder / "datasets")
            for split in dataset.card.splits:
                dataset.verify(split, reread=True)
    except (FtregError, OSError) as error:
        found.append(str(error))
    return found


def complaint(done: Done, *, label: str, allowed: set[int], names: str | None = None) -> list[str]:
    """Return what is wrong with how a disturbed command ended.

    Wrong are a traceback, an exit code that is not `allowed`, and an exit code of 2 without a
    message, or with one that does not contain `names`.
    """
    if "Traceback (most recent call last)" in done.err or done.code not in allowed:
        return [f"{label}: {done.brief()}"]
    if done.code == 2 and "ftreg: " not in done.err:
        return [f"{label}: exit 2 without a message: {done.brief()}"]
    if done.code == 2 and names is not None and names not in done.err:
        return [f"{label}: the message does not name {names}: {done.brief()}"]
    return []
