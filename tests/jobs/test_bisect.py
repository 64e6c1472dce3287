"""`ftreg bisect`: two checkpoints in, the difference that made one worse out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Cli, rows_of, write_dataset

GOOD, BAD = "checkpoints/good", "checkpoints/bad"


@pytest.fixture
def recipe(talking_config: Path) -> Path:
    """A recipe of two steps; what it writes is scored by its length."""
    config = yaml.safe_load(talking_config.read_text("utf-8"))
    config["optimizer"] = {"name": "sgd", "lr": 1e-4}
    config["train"] |= {"max_steps": 2, "save_steps": None}
    config["eval"]["scorers"] = config["eval"]["scorers"][1:]
    del config["gate"]
    talking_config.write_text(yaml.safe_dump(config), encoding="utf-8")
    return talking_config


def train(cli: Cli, recipe: Path, folder: str, *changes: str) -> None:
    options = [part for change in changes for part in ("-s", change)]
    done = cli("train", recipe, "-o", folder, "-q", *options)
    assert done.code == 0, done


def answer(cli: Cli, *options: object, code: int = 0) -> dict[str, Any]:
    done = cli("bisect", GOOD, BAD, "--json", "-q", *options)
    assert done.code == code, done
    found: dict[str, Any] = done.json
    return found


def test_the_culprit_is_named_and_a_search_that_ended_goes_on(
    cli: Cli, recipe: Path, workspace: Path
) -> None:
    train(cli, recipe, GOOD)
    train(
        cli, recipe, BAD,
        "optimizer.lr=50", "train.max_grad_norm=0.99", "optimizer.dampening=0.1", "train.seed=5",
    )  # fmt: skip
    planned = answer(cli, "--plan")
    assert planned["answer"] is None
    assert {factor["key"] for factor in planned["factors"]} == {
        "optimizer.lr", "optimizer.dampening", "train.max_grad_norm"
    }  # fmt: skip
    assert not Path(planned["folder"]).exists()
    assert planned["minutes"] > 0

    short = answer(cli, "--max-runs", 5, code=3)
    assert (short["answer"], short["culprit"], short["runs"]) == ("undecided", None, 5)
    assert short["more_runs"] > 0
    kept = {path: path.stat().st_mtime_ns for path in workspace.rglob("bisect-*/**/ftreg.json")}
    assert len(kept) == 5

    found = answer(cli, "-o", "why.html")
    assert found["answer"] == "culprit", found
    assert found["culprit"] == "optimizer.lr"
    low, high = found["interval"]
    assert 0.5 < low <= found["share"] <= high
    assert found["runs"] == sum(len(hybrid["seeds"]) for hybrid in found["hybrids"]) > 5
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    record = json.loads((Path(found["folder"]) / "bisect.json").read_text("utf-8"))
    assert record | {"minutes": 0} == found | {"minutes": 0}
    page = Path("why.html").read_text("utf-8")
    assert "optimizer.lr explains" in page
    assert "<script" not in page

    (hybrid,) = [item for item in found["hybrids"] if item["bad"] == ["optimizer.lr"]]
    seed = hybrid["seeds"][0]
    assert seed not in (0, 5), "the seeds of the two checkpoints raised the question"
    told = cli("diff", GOOD, f"{hybrid['folder']}/seed-{seed}", "--json").json
    assert {item["setting"] for item in told["differences"]} == {"optimizer.lr", "training.seed"}

    text = cli("bisect", GOOD, BAD, "-q")
    assert text.code == 0
    assert "optimizer.lr" in text.out
    assert "CULPRIT" in text.out


def test_runs_that_differ_by_the_seed_alone_are_noise_and_nothing_is_trained(
    cli: Cli, recipe: Path, workspace: Path
) -> None:
    train(cli, recipe, GOOD)
    train(cli, recipe, BAD, "train.seed=1")
    found = answer(cli)
    assert (found["answer"], found["culprit"], found["runs"]) == ("noise", None, 0)
    assert "seed" in found["why"]
    assert not list(workspace.rglob("bisect-*/**/ftreg.json"))


def test_rows_that_changed_are_factors_and_hybrids_mix_both_versions(
    cli: Cli, recipe: Path, workspace: Path
) -> None:
    train(cli, recipe, GOOD)
    rows = rows_of(14, "t")
    changed = [row | {"reference": "x"} if row["id"] in ("t3", "t7") else row for row in rows]
    write_dataset(
        Path("datasets"), version=2, train=[row for row in changed if row["id"] != "t5"],
        prompt={"user": "{input}\n{context}"},
    )  # fmt: skip
    train(cli, recipe, BAD, "dataset.version=colours@2")
    found = answer(cli, "--plan", "--blocks", 4)
    assert {factor["key"]: factor["rows"] for factor in found["factors"]} == {
        "dataset.prompt": [],
        "dataset.rows.added": ["t12", "t13"],
        "dataset.rows.removed": ["t5"],
        "dataset.rows.changed.1": ["t3"],
        "dataset.rows.changed.2": ["t7"],
    }
    assert any("colours@1" in note for note in found["notes"])
    answer(cli, "--max-runs", 9, "--blocks", 4, code=3)
    for folder in Path(found["folder"]).glob("datasets/*/v1"):
        assert (
            cli("data", "verify", f"{folder.parent.name}@1", "--root", folder.parent.parent).code
            == 0
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--scorer", "equal"), "did you mean equals"),
        (("-s", "train.epochs=2"), "only what hybrids are evaluated by"),
        (("--max-runs", "0"), "1 or more"),
        (("--max-hours", "0"), "above 0"),
        (("--dataset", "colours@9"), "colours@9"),
    ],
)
def test_what_is_asked_wrongly_ends_with_2(
    cli: Cli, config: Path, options: tuple[str, ...], said: str
) -> None:
    train(cli, config, GOOD, "train.max_steps=1")
    shutil.copytree(GOOD, BAD)
    done = cli("bisect", GOOD, BAD, *options)
    assert done.code == 2
    assert said in done.err


def test_a_checkpoint_whose_dataset_has_changed_cannot_be_bisected(cli: Cli, recipe: Path) -> None:
    train(cli, recipe, GOOD)
    shutil.copytree(GOOD, BAD)
    shutil.rmtree("datasets/colours")
    write_dataset(Path("datasets"), train=rows_of(9, "t"))
    done = cli("bisect", GOOD, BAD)
    assert done.code == 2
    assert "has changed since" in done.err
