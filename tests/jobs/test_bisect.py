"""`ftreg bisect`: two checkpoints in, the difference that made one worse out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftreg.records.bisect_record import newest_bisection
from ftreg.report.why_part import Recipes, RunCost, why_lines
from tests.conftest import Cli, rows_of, write_dataset
from tests.jobs.test_printed import errors

GOOD, BAD = "checkpoints/good", "checkpoints/bad"


@pytest.fixture
def recipe(talking_config: Path) -> Path:
    """A recipe of two steps; what it writes is scored by its variety, which a large lr destroys."""
    config = yaml.safe_load(talking_config.read_text("utf-8"))
    config["optimizer"] = {"name": "sgd", "lr": 1e-4}
    config["train"] |= {"max_steps": 2, "save_steps": None}
    config["eval"] |= {"max_new_tokens": 8, "scorers": ["tests.fakes:variety_scorer"]}
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
    assert not errors("bisection", found)
    return found


def test_the_culprit_is_named_and_a_search_that_ended_goes_on(
    cli: Cli, recipe: Path, workspace: Path
) -> None:
    train(cli, recipe, GOOD)
    train(
        cli, recipe, BAD,
        "optimizer.lr=500", "optimizer.dampening=0.1", "train.seed=5",
    )  # fmt: skip
    planned = answer(cli, "--plan")
    assert planned["answer"] is None
    assert {factor["key"] for factor in planned["factors"]} == {
        "optimizer.lr", "optimizer.dampening"
    }  # fmt: skip
    assert not Path(planned["folder"]).exists()
    assert planned["minutes"] > 0

    none = answer(cli, "--max-hours", 1e-9, code=3)
    assert (none["answer"], none["runs"], none["delta"]) == ("undecided", 0, None)
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
    assert newest_bisection(Path("checkpoints"), *found["identities"]) == found["headline"]
    assert newest_bisection(Path("checkpoints"), *found["identities"][::-1]) is None
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


def test_a_report_names_the_command_with_its_cost_and_what_it_found() -> None:
    def line(recipes: Recipes | None, generating: float | None = None) -> Any:
        run = RunCost(2.0, generating)
        lines = why_lines("e2", "e1", slices=None, blame=None, run=run, recipes=recipes)
        return next((one for one in lines if "bisect" in one.command), None)

    asked = line(Recipes("good", "bad", 12))
    assert asked.command == "ftreg bisect good bad"
    assert "12 runs, about 24 min of training, and evaluating" in asked.cost
    measured = line(Recipes("good", "bad", 12), 1.5)
    assert "12 runs, about 42 min of training and generating" in measured.cost
    assert line(Recipes("good", "bad", 12, "optimizer.lr explains 98 %")).found.startswith("optim")
    assert line(None) is None


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
    found = answer(cli, "--plan", "--blocks", 3)
    assert {factor["key"]: factor["rows"] for factor in found["factors"]} == {
        "dataset.prompt": [],
        "dataset.rows.added": ["t12", "t13"],
        "dataset.rows.removed": ["t5"],
        "dataset.rows.changed": ["t3", "t7"],
    }
    assert any("colours@1" in note for note in found["notes"])


def test_hybrids_mix_the_rows_and_the_prompts_of_two_versions(workspace: Path) -> None:
    from ftreg.data import load_dataset
    from ftreg.why.hybrid_rows import row_difference, row_factors, write_hybrid_rows

    rows = rows_of(14, "t")
    later = [row | {"reference": "x"} if row["id"] in ("t3", "t7") else row for row in rows]
    write_dataset(workspace, train=rows[:12])
    write_dataset(
        workspace, version=2, train=[row for row in later if row["id"] != "t5"],
        prompt={"user": "{input}\n{context}"},
    )  # fmt: skip
    good, bad = (load_dataset(f"colours@{number}", root=workspace) for number in (1, 2))
    difference = row_difference(good, bad, "train")
    factors = row_factors(good, bad, difference, blocks=5)
    chosen = [item for item in factors if item.key in ("dataset.rows.changed.2", "dataset.prompt")]
    name = write_hybrid_rows(
        workspace / "mixed", good, bad, "train",
        difference=difference, chosen=chosen, name="colours-mixed",
    )  # fmt: skip
    mixed = load_dataset(name, root=workspace / "mixed")
    found = {example.id: example.references[0] for example in mixed.split("train")}
    expected = {row["id"]: row["reference"][0] for row in rows[:12]}
    assert found == expected | {"t7": "x"}
    assert mixed.card.prompt == bad.card.prompt
    assert list(mixed.split("eval")) == list(good.split("eval"))
    for place, factor in enumerate(factors):
        if factor.rows:
            write_hybrid_rows(
                workspace / "mixed", good, bad, "train",
                difference=difference, chosen=[factor], name=f"colours-{place}",
            )  # fmt: skip
            one = load_dataset(f"colours-{place}@1", root=workspace / "mixed")
            ids = {example.id for example in one.split("train")}
            moved = {"added": set(factor.rows), "removed": set(), "changed": set()}
            kind = factor.key.split(".")[2]
            gone = set(factor.rows) if kind == "removed" else set()
            assert ids == {row["id"] for row in rows[:12]} - gone | moved[kind]


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        (
            ["optimizer.name=adam", "optimizer.lr=1e-2", "optimizer.weight_decay=0.01"],
            ["optimizer.name", "optimizer.lr"],
        ),
        (["optimizer.name=lion", "optimizer.lr=1e-2"], ["optimizer"]),
        (["train.epochs=2", "train.threads=2", "train.seed=3"], ["train.epochs"]),
        (["lora.r=4", "schedule.warmup=0.2"], ["schedule.warmup", "lora"]),
        (
            ["optimizer.name=schedule_free_adamw", "optimizer.lr=1e-2", "schedule.name=constant"],
            ["optimizer + schedule.name"],
        ),
    ],
)
def test_settings_become_factors_that_can_be_moved_alone(
    config: Path, changes: list[str], keys: list[str]
) -> None:
    from ftreg.config.load import load_config
    from ftreg.why.factors import hybrid_config, setting_factors

    good, bad = load_config(config), load_config(config, overrides=changes)
    factors = setting_factors(good, bad, same_base=True, same_dataset=True)
    assert [factor.key for factor in factors] == keys
    for chosen in range(1 << len(factors)):
        hybrid_config(good, bad, factors, chosen=chosen)
    whole = hybrid_config(good, bad, factors, chosen=(1 << len(factors)) - 1)
    assert whole.optimizer == bad.optimizer
    assert (whole.lora, whole.schedule) == (bad.lora, bad.schedule)
    assert hybrid_config(good, bad, factors, chosen=0) == good


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--scorer", "equal"), "did you mean equals"),
        (("-s", "train.epochs=2"), "only the evaluation of hybrids can be set"),
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
