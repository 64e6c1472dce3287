"""`--json`: each command that has it prints what its schema says, and nothing else on stdout.

The commands are those of the command line itself, so that a new one without a schema fails here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.main import get_command

from ftreg.cli.app import app
from ftreg.jobs.schemas import PRINTED, schema
from tests.conftest import Cli, Result, write_dataset
from tests.jobs.test_reproduce import UNREPEATABLE

ALWAYS = {"checkpoints show"}
"""Commands whose output is JSON without being asked for."""


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, as it is typed."""
    inner = getattr(command, "commands", {})
    if not inner:
        yield name, command
    for key, sub in inner.items():
        yield from leaves(sub, f"{name} {key}".strip())


def with_json() -> dict[str, Any]:
    return {
        name: command
        for name, command in leaves(get_command(app))
        if any("--json" in item.opts for item in command.params)
    }


def closed(part: Any) -> Any:
    """A schema that allows no key which it does not describe."""
    if isinstance(part, list):
        return [closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    inner = {key: closed(item) for key, item in part.items()}
    if isinstance(part.get("properties"), dict) and part.get("type") == "object":
        inner["additionalProperties"] = False
    return inner


def errors(name: str, value: Any) -> list[str]:
    found = Draft202012Validator(closed(schema(name))).iter_errors(value)
    return [f"{error.json_path}: {error.message[:300]}" for error in found]


CHECKPOINTS = {"train", "checkpoints show", "checkpoints list", "diff", "reproduce"}
OPTIMIZERS = {"optim show", "optim convert"}
EVALUATIONS = {
    *("eval", "promote", "baseline", "gate", "report", "compare", "power", "rescore"),
    *("evaluations list", "evaluations export", "history"),
}
WHY = {"slices", "blame"}
BESIDE = {"bisect", "export", "parity", "verify"}
"""Held to their schemas where they are tested, by `errors`."""
DATA = {
    *("data list", "data show", "data verify", "data import", "data freeze", "data diff"),
    *("data leaks", "score", "agree"),
}
MACHINE = {"models list", "doctor", "clean"}
TRACKING = {"track"}
"""test_tracking.py runs it, on its server."""


class Story:
    """Runs commands in one workspace, and keeps what was wrong with what they printed."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli
        self._seen: set[tuple[str, str]] = set()
        self._wrong: list[str] = []

    def __call__(self, command: str, *arguments: object, fits: str, code: int = 0) -> Any:
        """Run a command whose JSON has to fit a schema, and return that."""
        asked = () if command in ALWAYS else ("--json",)
        done: Result = self._cli(*command.split(), *arguments, *asked)
        assert done.code == code, (command, done)
        value = done.json  # the whole of stdout is one document
        assert isinstance(value["schema_version"], int), command
        self._wrong += [f"{command}, {fits}: {error}" for error in errors(fits, value)]
        self._seen.add((command, fits))
        return value

    def end(self, commands: set[str]) -> None:
        """See that all fitted, and that every schema of these commands had its turn."""
        assert not self._wrong, "\n".join(self._wrong)
        assert self._seen == {(name, one) for name in commands for one in PRINTED[name]}


def test_every_command_with_json_has_a_schema() -> None:
    assert set(with_json()) | ALWAYS == set(PRINTED)
    told = CHECKPOINTS | OPTIMIZERS | EVALUATIONS | DATA | MACHINE | TRACKING | WHY | BESIDE
    assert set(PRINTED) == told


def test_training_and_evaluations(cli: Cli, config: Path) -> None:
    run = Story(cli)
    Path("several.yaml").write_text(f"extends: {config.name}\ntrain: {{seeds: [1, 2]}}\n")
    Path("broken.yaml").write_text(
        f"extends: {config.name}\noptimizer: {{name: sgd, lr: 1e38}}\n"
        "train: {max_grad_norm: null}\n"
    )
    files = (config, "several.yaml", "broken.yaml", "-s", "train.max_steps=2")
    series = run("train", *files, "-o", "checkpoints", fits="series", code=1)["runs"]
    assert ["replicas" in item for item in series] == [False, True, False]
    assert series[2]["exit_code"] == 1
    # What is trained already is printed again by --resume.
    resumed = ("-s", "train.max_steps=2", "--resume")
    made = run("train", config, *resumed, "-o", "checkpoints/run", fits="training")
    assert {**made, "file": config.name} == {**series[0], "file": config.name}
    group = run("train", "several.yaml", *resumed, "-o", "checkpoints/several", fits="group")
    assert group["replicas"] == series[1]["replicas"]
    shown = run("checkpoints show", "run", fits="checkpoint")
    assert shown == {key: value for key, value in made.items() if key != "checkpoint"}
    assert run("checkpoints show", "several", fits="group") == group
    first, *others = run("checkpoints list", fits="checkpoints")["checkpoints"]
    assert (first["lr"], first["identity"]) == (1e-3, made["identity"])
    assert [item["name"] for item in others] == ["several/seed-1", "several/seed-2"]
    assert run("diff", "run", "several", fits="recipe-difference")["differences"]
    short = ("-s", UNREPEATABLE, "-s", "train.max_steps=2")
    assert cli("train", config, *short, "-o", "checkpoints/other").code == 0
    other = run("reproduce", "other", fits="reproduction", code=1)
    assert other["distance"]["max_abs"] > 0 and other["first_loss_difference"]["step"] == 2

    # There is nothing to hold it against, but there is an evaluation.
    alone = run("eval", "run", fits="evaluated", code=3)
    assert alone["reasons"][0].startswith("baselines/colours.json: there is no baseline yet")
    assert (alone["exit_code"], alone["outcome"]) == (3, None)
    stored = json.loads(Path("evaluations", alone["candidate"], "evaluation.json").read_text())
    assert alone["evaluation"] == {key: stored[key] for key in alone["evaluation"]}
    assert Path(alone["html"]).is_file()
    first = run("eval", "run", "--bootstrap", "--no-report", fits="evaluated")
    assert (first["html"], first["exit_code"]) == (None, 0)
    assert run("promote", "latest", "--anchor", "--why", "first", fits="promotion")["anchor"]
    assert run("baseline", "colours", fits="promotions")["history"][0]["why"] == "first"
    assert run("eval", "run", "--no-gate", fits="evaluated")["reasons"] == []
    unlike = run("eval", "run", "-s", "eval.max_new_tokens=3", fits="evaluated", code=3)
    assert any("max_new_tokens" in reason for reason in unlike["reasons"])
    replicas = run("eval", "several", fits="verdict", code=3)
    verdict = run("gate", "baseline", replicas["candidate"], fits="verdict", code=3)
    assert verdict["exit_code"] == 3
    Path("scores.jsonl").write_text(
        "".join(
            json.dumps({"id": f"e{number}", "scorer": "equals", "score": 1.0, "reason": None})
            + "\n"
            for number in range(20)
        )
    )
    bare = run("gate", "scores.jsonl", "scores.jsonl", fits="verdict", code=3)
    assert (bare["report"], bare["html"]) == (None, None)
    assert run("report", "latest", "-o", "r.html", fits="report")["report"] == "r.html"
    refs = ("baseline", "latest", "--routes", "routes.yaml", "--tag", "parity")
    assert run("compare", *refs, fits="comparison")["routes"]["tag"] == "parity"
    listed = run("evaluations list", fits="evaluations")
    assert len(listed["evaluations"]) == listed["total"]
    assert run("history", "colours", fits="history")["total"] == listed["total"]
    assert run("evaluations export", "latest", "-o", "t.csv", fits="table")["rows"] > 0
    assert run("rescore", "latest", fits="rescoring")["baseline"] is None
    assert run("power", replicas["candidate"], fits="power")["scorers"]
    assert run("slices", "latest", fits="slices")["unseen"]
    assert run("blame", "latest", "--no-proof", fits="blame")["outcome"]
    run.end(CHECKPOINTS | EVALUATIONS | WHY)


def test_optimizers(cli: Cli, config: Path) -> None:
    run = Story(cli)
    lion = ("-s", "optimizer={name: lion, lr: 1e-3, weight_decay: 0.1, fixed_decay: true}")
    shown = run("optim show", config, *lion, fits="optimizer")
    assert shown["steps"] == 3
    keys = ["optimizer.fixed_decay", "optimizer.lr"]
    assert [item["key"] for item in shown["advice"]] == keys
    elsewhere = ("-s", "dataset.root=nowhere")
    unknown = run("optim show", config, *lion, *elsewhere, fits="optimizer")
    assert unknown["steps"] is None
    assert [item["key"] for item in unknown["advice"]] == keys[1:]
    text = cli("optim", "show", config, *lion, *elsewhere).err
    assert (
        "note: colours@1 could not be read from nowhere" in text and "note: optimizer.lr: " in text
    )
    # What is said is what training would say.
    done = cli("train", config, *lion, "--strict", "-o", "a")
    assert done.code == 2
    assert [item["text"] in done.err for item in shown["advice"]] == [True, True]
    assert run("optim convert", config, "--to", "lion", fits="conversion")["from"] == "adamw"
    run.end(OPTIMIZERS)


def test_a_damaged_baseline_does_not_hide_the_evaluation(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-s", "train.max_steps=1", "-o", "checkpoints/a").code == 0
    Path("baselines").mkdir()
    Path("baselines/colours.json").write_text("{}")
    done = cli("eval", "a", "--json", "--no-report")
    assert done.code == 2
    assert errors("evaluated", done.json) == []
    assert done.json["exit_code"] == 2
    assert "baselines/colours.json" in done.json["reasons"][0]
    # A policy that is wrong costs no evaluation.
    Path("policy.yaml").write_text("margn: 1\n")
    count = len(list(Path("evaluations").iterdir()))
    done = cli("eval", "a", "--json", "--no-report", "--policy", "policy.yaml")
    assert (done.code, done.out) == (2, "")
    assert len(list(Path("evaluations").iterdir())) == count


def test_datasets_and_scores(cli: Cli, workspace: Path) -> None:
    write_dataset(workspace / "datasets")
    run, root = Story(cli), ("--root", "datasets")
    row = {"id": "a", "input": "?", "output": "red", "reference": "red"}
    rows = [{**row, "id": f"e{number}"} for number in range(4)]
    Path("outputs.jsonl").write_text("".join(json.dumps(item) + "\n" for item in rows))
    scored = run("score", "outputs.jsonl", "--scorer", "equals", fits="scoring")["rows"]
    assert [row["score"] for row in scored] == [1.0] * 4
    filed = ("outputs.jsonl", "--scorer", "equals", "-o", "scores.jsonl")
    assert "rows" not in run("score", *filed, fits="scoring")
    lines = Path("scores.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == scored

    mixed = [item | {"good": n % 2, "output": "red"[: 3 - n // 5]} for n, item in enumerate(rows)]
    Path("labelled.jsonl").write_text("".join(json.dumps(item) + "\n" for item in mixed))
    labelled = ("labelled.jsonl", "--label", "good", "--scorer", "equals")
    agreed = run("agree", *labelled, fits="agreement", code=3)
    assert (agreed["exit_code"], agreed["agreement"]["rows"]) == (3, 4)

    listed = run("data list", *root, fits="datasets")["datasets"]
    assert listed[0]["rows"] == {"train": 12, "eval": 8}
    shown = run("data show", "colours@1", *root, fits="dataset")
    assert (shown["name"], len(shown["digest"])) == ("colours", 64)
    assert run("data verify", *root, fits="verification")["ok"]
    assert cli("data", "draft", "colours@1", *root).code == 0
    draft = Path("datasets/colours/draft/eval.jsonl")
    held_out = [json.loads(line) for line in draft.read_text().splitlines()]
    train = json.loads(Path("datasets/colours/v1/train.jsonl").read_text().splitlines()[0])
    edited = [{**train, "id": "leaked"}, {**held_out[1], "input": "Another?"}, *held_out[2:]]
    draft.write_text("".join(json.dumps(item) + "\n" for item in edited))
    frozen = run("data freeze", draft.parent, "--changes", "Edited.", *root, fits="freezing")
    assert frozen["version"] == "colours@2"
    diff = run("data diff", "colours@1", "colours@2", *root, fits="dataset-difference")
    assert diff["splits"]["eval"]["changed"] == {"count": 1, "first": ["e1"]}
    leaks = run("data leaks", "colours@2", *root, fits="leaks")["leaks"]
    assert "leaked" in [leak["id"] for leak in leaks]
    taken = (
        *("more", "--eval", "outputs.jsonl", "--license", "MIT", "--description", "More."),
        *("--prompt-user", "{input}", "--drop-duplicates"),
    )
    imported = run("data import", *taken, *root, fits="importing")
    assert imported["ignored_columns"] == {"eval": ["output"]}
    with Path("datasets/more/v1/eval.jsonl").open("a") as stream:
        stream.write("\n")
    assert not run("data verify", *root, fits="verification", code=2)["ok"]
    run.end(DATA)


def test_the_machine(cli: Cli, workspace: Path) -> None:
    run = Story(cli)
    assert len(run("models list", fits="models")["models"]) > 1
    assert run("doctor", fits="findings")["ok"]
    Path("cache/arrow").mkdir(parents=True)
    Path("cache/arrow/something-0.arrow").write_text("rows")
    assert run("clean", "arrow", "--all", "--dry-run", fits="cleaning")["dry_run"]
    run.end(MACHINE)


def test_a_key_that_is_not_described_is_found(cli: Cli, workspace: Path) -> None:
    value = cli("models", "list", "--json").json
    assert errors("models", value) == []
    assert errors("models", {**value, "more": 1})
    value["models"][0]["more"] = 1
    assert errors("models", value)
    del value["models"][0]["more"], value["models"][0]["kind"]
    assert errors("models", value)


WANTING = [
    name for name, command in with_json().items() if any(item.required for item in command.params)
]


@pytest.mark.parametrize("name", WANTING)
def test_what_could_not_be_done_leaves_stdout_empty(name: str, cli: Cli, workspace: Path) -> None:
    arguments: list[str] = []
    for item in with_json()[name].params:
        if item.required:
            value = "equals" if "--scorer" in item.opts else "nothing-here@1"
            arguments += [value] if item.param_type_name == "argument" else [item.opts[0], value]
    done = cli(*name.split(), *arguments, "--json")
    assert done.code in (2, 3), done
    assert done.out == ""
    assert "ftreg: " in done.err
