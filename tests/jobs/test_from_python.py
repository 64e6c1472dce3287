"""What commands do, each in one call from Python: what is trained, listed, shown and compared."""

from pathlib import Path

import pytest

from ftreg.data import load_dataset
from ftreg.data.differences import difference
from ftreg.data.freezing import draft, freeze
from ftreg.data.sources.importing import import_version
from ftreg.data.verifying import verify_versions
from ftreg.errors import UsageError
from ftreg.jobs.checkpoints import (
    CheckpointRecord,
    GroupRecord,
    checkpoints_of,
    plot_checkpoint,
    show_checkpoint,
)
from ftreg.jobs.datasets import find_dataset_leaks, list_datasets, show_dataset
from ftreg.jobs.diff import diff_recipes
from ftreg.jobs.doctor import examine
from ftreg.jobs.init import start
from ftreg.jobs.models import list_models
from ftreg.jobs.optim import convert_optimizer, show_optimizer
from ftreg.jobs.reproduce import reproduce
from ftreg.jobs.train import FailedOfSeries, GroupOfSeries, Series, failure_of, train_files
from ftreg.records.workspace import Workspace
from tests.conftest import write_dataset

FEW = ("train.max_steps=2",)


class Notices:
    """Keeps what a job says of its progress."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def phase(self, text: str) -> None:
        self.said.append(text)

    def notice(self, text: str) -> None:
        self.said.append(text)

    def preparing(self, done: int, total: int) -> None: ...

    def start(self, total_steps: int, done: int) -> None:
        self.said.append(f"{total_steps} steps")

    def step(self, record: object) -> None: ...


def test_training_and_what_is_made_of_it(config: Path) -> None:
    workspace, events = Workspace(Path("space")), Notices()
    made = train_files([config], workspace=workspace, overrides=FEW, events=events)
    assert isinstance(made, CheckpointRecord)
    folder = Path(made.checkpoint)
    assert folder.parent == workspace.checkpoints and (folder / "history.svg").is_file()
    assert {"starting", "2 steps"} <= set(events.said)
    (listed,) = checkpoints_of(workspace).checkpoints
    assert (listed.name, listed.identity, listed.steps) == (folder.name, made.identity, 2)
    shown = show_checkpoint(folder)
    assert dict(shown) == {key: value for key, value in made if key != "checkpoint"}
    assert plot_checkpoint(folder, output=Path("a.svg")).read_text().startswith("<svg")
    with pytest.raises(UsageError, match=r"ends in \.svg"):
        plot_checkpoint(folder, output=Path("a.pdf"))

    again = reproduce(folder, output=Path("again"))
    assert (again.outcome, again.checkpoint, again.reproduction) == (
        "reproduced",
        folder,
        Path("again"),
    )
    assert again.weights.equal and again.distance is None and again.differences == ()
    assert diff_recipes(folder, Path("again")).same_weights


def test_a_series_has_what_became_of_each(config: Path) -> None:
    Path("several.yaml").write_text(f"extends: {config.name}\ntrain: {{seeds: [1, 2]}}\n")
    Path("missing.yaml").write_text(f"extends: {config.name}\nbase: {{model: nowhere}}\n")
    files = [config, Path("several.yaml"), Path("missing.yaml")]
    found = train_files(files, workspace=Workspace(Path()), overrides=FEW, output=Path("made"))
    assert isinstance(found, Series)
    one, group, failed = found.runs
    assert isinstance(one, CheckpointRecord) and isinstance(group, GroupOfSeries)
    assert isinstance(failed, FailedOfSeries) and failed.exit_code == 2
    failure = failure_of(found)
    assert isinstance(failure, UsageError) and "1 of 3 configurations failed" in str(failure)
    shown = show_checkpoint(Path("made/several"))
    assert isinstance(shown, GroupRecord)
    assert [item.training.seed for item in shown.replicas] == [1, 2]
    assert shown.replicas == group.replicas
    differing = diff_recipes(Path("made/run"), Path("made/several")).differences
    assert [(item.setting, item.first, item.second) for item in differing] == [
        ("training.seed", 0, [1, 2])
    ]
    alone = train_files(
        files[:1], workspace=Workspace(Path()), overrides=FEW, output=Path("made/run"), resume=True
    )
    assert isinstance(alone, CheckpointRecord) and failure_of(alone) is None
    assert alone.identity == one.identity


def test_what_cannot_be_asked_for_together(config: Path) -> None:
    here = Workspace(Path())
    with pytest.raises(UsageError, match="--allow-change belongs to --resume"):
        train_files([config], workspace=here, allow_change=["optimizer.lr"])
    with pytest.raises(UsageError, match="no interrupted run of run"):
        train_files([config], workspace=here, resume=True)


def test_optimizers(config: Path) -> None:
    said: list[str] = []
    plan = show_optimizer(config, overrides=["dataset.root=nowhere"], notice=said.append)
    assert (plan["name"], plan["steps"]) == ("adamw", None)
    assert "could not be read from nowhere" in said[0]
    assert [f"{item.key}: {item.text} ({item.source})" for item in plan["advice"]] == said[1:]
    proposal = convert_optimizer(config, to="lion", source="adamw")
    assert (proposal.from_, proposal.to, proposal.proposed["lr"]) == ("adamw", "lion", 2e-4)
    with pytest.raises(UsageError, match=r"has optimizer\.name adamw"):
        convert_optimizer(config, to="lion", source="sgd")


def test_datasets(workspace: Path) -> None:
    root = Path("datasets")
    write_dataset(root)
    (listed,) = list_datasets(root).datasets
    assert (listed.version, listed.rows) == ("colours@1", {"train": 12, "eval": 8})
    shown = show_dataset("colours@1", root=root)
    assert shown.card_digest == shown.digest
    assert shown.cohort_sizes["eval"] == {"parity=even": 4, "parity=odd": 4}
    assert sum(shown.lengths["eval"]["reference"].values()) == 16
    leaks = find_dataset_leaks("colours@1", root=root)
    assert (leaks.rows, leaks.exact) == (8, 8)
    assert [leak.kind for leak in leaks.leaks] == ["exact"] * 8
    with pytest.raises(UsageError, match="are both eval"):
        find_dataset_leaks("colours@1", root=root, train_split="eval")

    folder = draft("colours@1", root=root)
    rows = (folder / "eval.jsonl").read_text().splitlines(keepends=True)
    (folder / "eval.jsonl").write_text("".join(rows[1:]))
    made = freeze(str(folder), root=root, changes="One less.")
    assert (made.version, made.folder) == ("colours@2", root / "colours" / "v2")
    assert made.rows == {"train": 12, "eval": 7}
    found = difference(load_dataset("colours@1", root=root), load_dataset("colours@2", root=root))
    assert (found.splits["eval"].removed.first, found.splits["train"].rows) == (["e0"], (12, 12))
    imported = import_version(
        "more",
        {"eval": str(folder / "eval.jsonl")},
        root=root,
        mapping={},
        facts={"license": "MIT", "description": None},
    )
    assert (imported.version, imported.rows, imported.dropped) == ("more@1", {"eval": 7}, 0)
    assert verify_versions(root=root).ok
    (root / "more/v1/eval.jsonl").write_text("")
    (check,) = verify_versions(["more@1"], root=root).splits
    assert check.problem is not None and "more" in check.problem


def test_the_machine(workspace: Path) -> None:
    assert {"smollm2-135m-instruct"} <= {item.name for item in list_models().models}
    said: list[str] = []
    found = examine(Workspace(Path()), say=said.append)
    assert found.ok == all(item.state != "problem" for item in found.findings)
    assert said == ["libraries", "arithmetic", "models", "folders"]
    assert Path("README.md") in start(Path("new"))
