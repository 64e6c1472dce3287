"""`ftreg init`: a folder that works at once."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ftreg.config import load_config
from ftreg.data import load_dataset
from ftreg.gate import compare
from tests.conftest import Cli, make_model

ROOT = Path(__file__).parents[2]


def test_each_configuration_and_the_dataset_are_right(
    cli: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cli("init", "specialist")
    assert done.code == 0, done
    monkeypatch.chdir(workspace / "specialist")
    assert cli("data", "verify").code == 0
    shown = {
        path.stem: cli("optim", "show", path, "-s", "base.model=nowhere").err
        for path in sorted(Path("configs").glob("*.yaml"))
    }
    assert list(shown) == ["adagrad", "adam", "adamw", "base", "lion"]
    for name, err in shown.items():
        # The model is refused and nothing else; the shared file alone has no optimizer.
        assert ("optimizer" if name == "base" else "nowhere") in err


def test_it_trains_evaluates_and_gates(
    cli: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(workspace / "tiny", max_position_embeddings=2048)
    cli("init", "specialist")
    monkeypatch.chdir(workspace / "specialist")
    small = ["-s", f"base.model={model}", "-s", "train.max_steps=1"]
    small += ["-s", "dataset.max_train_examples=8", "-s", "train.precision=fp32"]
    brief = ["-s", "eval.scorers=[equals]", "-s", "eval.max_new_tokens=2", "-s", "gate.margins={}"]
    train = ["train", "configs/adamw.yaml", "-o", "checkpoints/adamw", *small]
    assert cli(*train).code == 0
    assert cli("eval", "adamw", "--bootstrap", *brief).code == 0
    assert cli("promote", "latest", "--anchor", "--why", "the first").code == 0
    assert cli("eval", "adamw", *brief).code in (0, 3)
    assert Path("baselines/ferry-desk.json").is_file()


@pytest.mark.parametrize(
    ("version", "drop", "spread", "outcome"),
    [
        ("ferry-desk@2", 0.0, 0.1, "pass"),
        ("ferry-desk@2", 0.2, 0.1, "regression"),
        ("ferry-desk@2", 0.0, 0.5, "undecided"),
        ("ferry-desk@1", 0.0, 0.1, "undecided"),  # 20 notices, where a pass takes 59
    ],
)
def test_its_policy_has_every_verdict_on_its_dataset(
    version: str, drop: float, spread: float, outcome: str
) -> None:
    config = load_config(ROOT / "configs/adamw.yaml")
    dataset = load_dataset(version, root=ROOT / "sample_datasets")
    card, rows = dataset.card, dataset.split("eval")
    draw = np.random.default_rng(3)
    baseline, candidate = {}, {}
    for scorer in config.eval.scorers:
        before = draw.uniform(0.3, 1, len(rows))
        change = draw.normal(-drop, spread, len(rows)) * [not row.critical for row in rows]
        for scores, values in ((baseline, before), (candidate, before + change)):
            values = np.clip(values, 0, 1).tolist()
            scores[scorer.name] = {row.id: value for row, value in zip(rows, values, strict=True)}
    verdict = compare(
        baseline,
        candidate,
        config.gate,
        cohorts={row.id: {tag: row.tags[tag] for tag in card.cohorts} for row in rows},
        critical=[row.id for row in rows if row.critical],
        clusters={row.id: row.tags[str(card.cluster)] for row in rows},
    )
    assert verdict.outcome == outcome, verdict.reasons


def test_nothing_is_overwritten(cli: Cli, workspace: Path) -> None:
    (workspace / "README.md").write_text("mine")
    done = cli("init", ".")
    assert done.code == 2
    assert "README.md: already exists" in done.err
    assert (workspace / "README.md").read_text() == "mine"
    assert not (workspace / "configs").exists()


def test_the_commands_of_its_readme_exist(cli: Cli, workspace: Path) -> None:
    cli("init", "specialist")
    text = (workspace / "specialist" / "README.md").read_text()
    commands = re.findall(r"^\$ ftreg (\w+)", text, re.MULTILINE)
    assert len(commands) > 4
    for command in set(commands):
        assert cli(command, "--help").code == 0


@pytest.mark.slow
def test_a_built_wheel_holds_the_same_folder(cli: Cli, workspace: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", workspace, ROOT],
        check=True,
    )
    (wheel,) = workspace.glob("ftreg-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.startswith("tests")]
        archive.extractall(workspace / "installed")
    cli("init", "from-source")
    code = "from pathlib import Path; from ftreg.jobs.init import start; start(Path('from-wheel'))"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=workspace,
        env={"PYTHONPATH": str(workspace / "installed")},
    )

    def contents(folder: str) -> dict[str, bytes]:
        root = workspace / folder
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }

    assert contents("from-wheel") == contents("from-source")
