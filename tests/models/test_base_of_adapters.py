"""Adapters find their base wherever both have gone, and no other in its place."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftreg.config.load import load_config
from ftreg.errors import InterruptedRunError
from ftreg.files.store import digest, write_json
from ftreg.models.packaged import PACKAGED
from ftreg.models.pretrained import configuration_digest
from ftreg.records.checkpoint import read_checkpoint
from ftreg.records.manifest import identity_of
from ftreg.training.events import Silent, StepRecord
from ftreg.training.run import train
from tests.conftest import Cli, Result


@pytest.fixture
def project(
    cli: Cli, talking_config: Path, talking_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A workspace with its base model, datasets, and adapters `checkpoints/a`; it can be moved."""
    folder = Path("project").absolute()
    shutil.copytree(talking_model, folder / "models" / "talking")
    shutil.copytree("datasets", folder / "datasets")
    settings = yaml.safe_load(talking_config.read_text(encoding="utf-8"))
    settings["base"]["model"] = str(folder / "models" / "talking")
    (folder / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    monkeypatch.chdir(folder)
    done = cli("train", "run.yaml", "-s", "lora={r: 2}", "-o", "checkpoints/a")
    assert done.code == 0, done
    return folder


def _evaluate(cli: Cli, checkpoint: str | Path, *options: str) -> tuple[Result, list[str]]:
    """Evaluate into a store of outputs that has none of before; return the outputs too."""
    shutil.rmtree("evaluations", ignore_errors=True)
    done = cli("eval", checkpoint, "--no-gate", "--no-report", *options)
    rows = [
        json.loads(line)["output"]
        for path in Path("evaluations").glob("*/outputs.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return done, rows


def _forget_outputs() -> None:
    shutil.rmtree(Path(os.environ["FTREG_CACHE"]))


def _text(shown: str) -> str:
    return " ".join(shown.split())


def test_adapters_name_their_base_without_this_machine(project: Path) -> None:
    adapters = json.loads(Path("checkpoints/a/adapter_config.json").read_text())
    assert adapters["base_model_name_or_path"] == "models/talking"
    record = read_checkpoint(Path("checkpoints/a")).manifest.base
    assert record.configuration == configuration_digest(project / "models/talking")
    assert record.tokenizer is not None


def test_a_name_stays_a_name(
    project: Path, cli: Cli, talking_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub's and a packaged model's; peft would write the folder of the cache."""
    commit = project / "0123abc"
    shutil.copytree(talking_model, commit)
    monkeypatch.setattr("ftreg.models.pretrained._download", lambda config: commit)
    monkeypatch.setattr("ftreg.models.pretrained.packaged_folder", lambda name: talking_model)
    monkeypatch.setattr("ftreg.models.pretrained.packaged_digest", lambda name: "0" * 64)
    for name, revision in (("somebody/talking", commit.name), (next(iter(PACKAGED)), None)):
        output = name.replace("/", "-")
        given = ["-s", f"base.model={name}", "-s", "lora={r: 2}", "-o", output]
        done = cli("train", "run.yaml", *given)
        assert done.code == 0, done
        adapters = json.loads(Path(output, "adapter_config.json").read_text())
        assert adapters["base_model_name_or_path"] == name
        assert adapters["revision"] == revision
        assert cli("eval", output, "--no-gate").code == 0


def test_a_workspace_that_moved_or_another_working_folder(
    project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, expected = _evaluate(cli, "checkpoints/a")
    assert done.code == 0, done
    moved = project.with_name("elsewhere")
    project.rename(moved)
    here = moved.parent / "cwd"
    here.mkdir()
    monkeypatch.chdir(here)
    root = ["-s", f"dataset.root={moved}/datasets"]
    for checkpoint in (moved / "checkpoints/a", moved / "old/2025/a"):
        if not checkpoint.exists():
            checkpoint.parent.mkdir(parents=True)
            (moved / "checkpoints/a").rename(checkpoint)
        _forget_outputs()
        done, found = _evaluate(cli, checkpoint, *root)
        assert (done.code, found) == (0, expected), done


def test_a_base_that_is_nowhere_can_be_named(project: Path, cli: Cli) -> None:
    done, expected = _evaluate(cli, "checkpoints/a")
    Path("models/talking").rename(project.with_name("hidden"))
    # What was generated is there without it.
    assert _evaluate(cli, "checkpoints/a")[1] == expected
    _forget_outputs()
    done, _ = _evaluate(cli, "checkpoints/a")
    assert done.code == 2, done
    assert "the base model of these adapters, models/talking" in _text(done.err)
    assert "-s base.model=FOLDER" in _text(done.err)
    done, _ = _evaluate(cli, "checkpoints/a", "-s", "base.model=nowhere")
    assert (done.code, "there is no such folder" in _text(done.err)) == (2, True)
    done, found = _evaluate(cli, "checkpoints/a", "-s", "base.model=../hidden")
    assert (done.code, found) == (0, expected), done


def test_other_weights_are_not_its_base(project: Path, cli: Cli, tiny_model: Path) -> None:
    shutil.copy(tiny_model / "model.safetensors", "models/talking/model.safetensors")
    done, _ = _evaluate(cli, "checkpoints/a")
    assert done.code == 2, done
    assert "this adapter was trained on models/talking with weights" in _text(done.err)
    whole = cli("train", "run.yaml", "-o", "checkpoints/whole")
    assert whole.code == 0, whole
    done, _ = _evaluate(cli, "checkpoints/whole", "-s", "base.model=models/talking")
    assert (done.code, "cannot be changed after training" in _text(done.err)) == (2, True)


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_an_edited_configuration_replays_no_old_outputs(name: str, project: Path, cli: Cli) -> None:
    assert _evaluate(cli, "checkpoints/a")[0].code == 0
    path = Path("models/talking", name)
    before = path.read_text(encoding="utf-8")
    _edit(path, transformers_version="5.99.0")  # who wrote it, and how, is nothing of the model
    assert _evaluate(cli, "checkpoints/a")[0].code == 0
    _edit(path, rope_theta=5.0, eos_token_id=list(range(259)))
    done, _ = _evaluate(cli, "checkpoints/a")
    assert done.code == 2, done
    assert "of this base model has changed since checkpoints/a was trained" in _text(done.err)
    done = cli("reproduce", "checkpoints/a")
    assert done.code == 2, done
    assert "of the base model models/talking has changed since" in _text(done.err)
    path.write_text(before, encoding="utf-8")
    assert _evaluate(cli, "checkpoints/a")[0].code == 0


def test_a_run_does_not_go_on_with_another_tokenizer_or_configuration(
    project: Path, cli: Cli
) -> None:
    given = ["train", "run.yaml", "-s", "train.save_steps=1", "-s", "train.epochs=2"]
    changes = (
        ("chat_template.jinja", "m['content']", "m['content'] | lower", "tokenizer"),
        ("config.json", '"use_cache": true', '"use_cache": false', "configuration"),
    )
    with pytest.raises(InterruptedRunError):
        train(load_config(Path("run.yaml"), overrides=["train.save_steps=1", "train.epochs=2"]),
              output=Path("b"), events=_Interrupting())  # fmt: skip
    for name, old, new, what in changes:
        path = Path("models/talking", name)
        before = path.read_text(encoding="utf-8")
        path.write_text(before.replace(old, new), encoding="utf-8")
        done = cli(*given, "-o", "b", "--resume")
        assert done.code == 2, done
        assert f"(the {what} of base.model" in _text(done.err)
        path.write_text(before, encoding="utf-8")
    state = Path("b.state/step-00000002/state.json")
    record = json.loads(state.read_text())
    for key in ("base_configuration", "base_tokenizer"):  # as an older state
        del record["facts"]["recipe"][key]
    record.pop("digest")
    write_json(state, record | {"digest": digest(record)})
    done = cli(*given, "-o", "b", "--resume")
    assert done.code == 0, done
    # The adapters have a tokenizer of their own.
    Path("models/talking/chat_template.jinja").write_text("changed", encoding="utf-8")
    assert _evaluate(cli, "checkpoints/a")[0].code == 0


class _Interrupting(Silent):
    def step(self, record: StepRecord) -> None:
        if record.step == 3:
            raise InterruptedRunError("after step 3")


def test_an_older_manifest_without_the_digests_is_read(project: Path, cli: Cli) -> None:
    path = Path("checkpoints/a/ftreg.json")
    manifest = json.loads(path.read_text())
    for key in ("configuration", "tokenizer", "quantization"):
        del manifest["base"][key]
    write_json(path, manifest | {"identity": identity_of(manifest)})
    assert _evaluate(cli, "checkpoints/a")[0].code == 0
    # Nobody can say that it is not what it was; outputs of before are not its own any more.
    _edit(Path("models/talking/config.json"), rope_theta=5.0)
    done, _ = _evaluate(cli, "checkpoints/a")
    assert done.code == 0, done
    assert "taken from an earlier run" not in done.err
