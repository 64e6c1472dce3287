"""`ftreg init`: a folder that works at once."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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


def test_nothing_is_overwritten(cli: Cli, workspace: Path) -> None:
    (workspace / "README.md").write_text("mine")
    done = cli("init", ".")
    assert done.code == 2
    assert "README.md: there already" in done.err
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
