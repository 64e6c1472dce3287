"""`ftreg reproduce`: the same weights again, or a reason why not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from ftreg.files.store import file_digest, write_json
from ftreg.records.checkpoint import read_checkpoint
from ftreg.records.manifest import seal
from tests.conftest import Cli, make_model, write_card, write_dataset

UNREPEATABLE = "optimizer={name: custom, path: 'tests.fakes:Unrepeatable', lr: 1e-2}"


def _reseal(folder: Path, **changes: Any) -> None:
    """Change a manifest so that it is consistent again: dotted keys, written with `__`."""
    values = read_checkpoint(folder).manifest.model_dump(mode="json")
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = values
        for parent in parents:
            place = place[parent]
        place[last] = value
    values.pop("identity")
    created = values.pop("created")
    values["config"] = read_checkpoint(folder).manifest.config
    manifest = seal(values, created=created)
    write_json(folder / "ftreg.json", manifest.model_dump(mode="json"))


def _folders() -> set[str]:
    return {path.name for path in Path().iterdir()} - {"cache"}


@pytest.mark.parametrize("lora", ["null", "{r: 2, dropout: 0.2}"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_weights_come_out(
    lora: str, precision: str, cli: Cli, config: Path, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "dropping", attention_dropout=0.1)
    changes = [f"base.model={model}", f"lora={lora}", f"train.precision={precision}"]
    arguments = [part for change in changes for part in ("-s", change)]
    assert cli("train", config, *arguments, "-o", "checkpoints/a").code == 0
    before = _folders()
    done = cli("reproduce", "a", "--quiet")
    assert done.code == 0, done
    assert done.out.startswith("reproduced: the weights are equal, bit for bit\n")
    assert "the losses of all steps are equal" in done.out
    # No progress. (An older rich ends the one that it does not show with an empty line.)
    assert all(line.startswith("note: ") for line in done.err.splitlines() if line)
    assert _folders() == before  # nothing is left behind


def test_auto_precision_and_free_threads_are_the_recorded_ones(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftreg.training.precision._cpu_has_bf16", lambda: True)
    free = ["-s", "train.precision=auto", "-s", "train.threads=null"]
    torch.set_num_threads(1)
    assert cli("train", config, *free, "-o", "a").code == 0
    monkeypatch.setattr("ftreg.training.precision._cpu_has_bf16", lambda: False)
    torch.set_num_threads(2)
    assert cli("reproduce", "a", "-o", "again").code == 0
    first, second = (read_checkpoint(Path(name)).manifest.training for name in ("a", "again"))
    assert first.precision == second.precision == "bf16"
    assert first.threads == second.threads == 1


def test_json_has_every_comparison(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "a").code == 0
    done = cli("reproduce", "a", "-o", "kept", "--json")
    assert done.code == 0, done
    weights = file_digest(Path("a/model.safetensors"))
    equal = {"equal": True, "recorded": weights, "reproduced": weights}
    order = read_checkpoint(Path("a")).manifest.dataset.order_digest
    assert done.json == {
        "schema_version": 1,
        "checkpoint": "a",
        "reproduction": "kept",
        "outcome": "reproduced",
        "weights": equal,
        "files": {"model.safetensors": equal},
        "order": {"equal": True, "recorded": order, "reproduced": order},
        "first_loss_difference": None,
        "distance": None,
        "differences": [],
    }
    kept = read_checkpoint(Path("kept"))
    kept.verify()
    assert kept.manifest.weights.digest == weights


@pytest.mark.slow
def test_what_is_not_deterministic_ends_with_1(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-s", UNREPEATABLE, "-o", "a").code == 0
    done = cli("reproduce", "a", "-o", "again", "--json")
    assert done.code == 1, done
    assert done.json["outcome"] == "not reproduced"
    assert done.json["differences"] == []
    assert not done.json["weights"]["equal"]
    assert done.json["order"]["equal"]
    # The first loss is of the base model, before any step.
    assert done.json["first_loss_difference"]["step"] == 2
    first, second = (load_file(f"{name}/model.safetensors") for name in ("a", "again"))
    apart = torch.cat([(second[key] - first[key]).double().flatten() for key in first])
    recorded = torch.cat([first[key].double().flatten() for key in first])
    distance = done.json["distance"]
    assert distance["max_abs"] == pytest.approx(apart.abs().max().item(), rel=1e-3)
    assert distance["relative_l2"] == pytest.approx((apart.norm() / recorded.norm()).item(), 1e-3)
    assert distance["unlike"] == []
    done = cli("reproduce", "a")
    assert done.code == 1
    assert done.out.startswith("not reproduced: the weights differ")
    assert "the losses differ from step 2" in done.out


def test_other_weights_in_another_environment_end_with_3(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-s", UNREPEATABLE, "-o", "a").code == 0
    _reseal(Path("a"), environment__versions__torch="2.0.0", training__processes=4)
    done = cli("reproduce", "a")
    assert done.code == 3, done
    assert done.out.startswith("undecided: the weights differ")
    assert f"  versions.torch: 2.0.0 -> {torch.__version__}" in done.out
    assert "  training.processes: 4 -> 1" in done.out
    assert "not the recorded environment" in done.err  # said before the time is spent


@pytest.mark.slow
@pytest.mark.parametrize("key", ["hardware__cpu", "hardware__cores", "git"])
def test_hardware_and_commit_are_environment(key: str, cli: Cli, config: Path) -> None:
    assert cli("train", config, "-s", UNREPEATABLE, "-o", "a").code == 0
    value = {"hardware__cpu": "other", "hardware__cores": 1000}.get(
        key, {"commit": "c0ffee", "dirty": False}
    )
    _reseal(Path("a"), **{f"environment__{key}": value})
    done = cli("reproduce", "a", "--json")
    assert done.code == 3, done
    (difference,) = done.json["differences"]
    assert difference["setting"].startswith(key.replace("__", "."))


def test_the_same_weights_in_another_environment_are_reproduced(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "a").code == 0
    _reseal(Path("a"), environment__versions__torch="2.0.0", environment__hardware__memory_gib=1.0)
    done = cli("reproduce", "a", "--json")
    assert done.code == 0, done
    assert done.json["outcome"] == "reproduced"
    assert [item["setting"] for item in done.json["differences"]] == ["versions.torch"]


def test_a_manifest_that_names_other_weights_ends_with_1(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "a").code == 0
    path = Path("a/model.safetensors")
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + 0.5
    save_file(tensors, path, metadata={"format": "pt"})
    files = {path.name: file_digest(path)}
    _reseal(Path("a"), weights={"digest": files[path.name], "files": files})
    done = cli("reproduce", "a", "--json")
    assert done.code == 1, done
    assert done.json["distance"]["max_abs"] == pytest.approx(0.5)
    assert done.json["first_loss_difference"] is None


def test_a_checkpoint_that_was_tampered_with_is_refused(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "a").code == 0
    with Path("a/model.safetensors").open("ab") as stream:
        stream.write(b"x")
    done = cli("reproduce", "a")
    assert done.code == 2, done
    assert "a/model.safetensors: the file does not match the manifest" in done.err


def test_a_dataset_that_has_changed_is_refused(cli: Cli, config: Path, workspace: Path) -> None:
    assert cli("train", config, "-o", "a").code == 0
    version = workspace / "datasets/colours/v1"
    card = yaml.safe_load((version / "dataset.yaml").read_text())
    write_card(version, **{**card, "prompt": {"user": "{input}"}})
    done = cli("reproduce", "a")
    assert done.code == 2, done
    assert "colours@1 has changed since a was trained on it: its prompt" in done.err
    shutil.rmtree(version.parent)
    rows = [{"id": "x", "input": "y", "reference": "z", "tags": {}}]
    write_dataset(workspace / "datasets", train=rows, prompt={"user": "{input}"}, cohorts=[])
    done = cli("reproduce", "a")
    assert done.code == 2, done
    assert "the rows of its split 'train' are different" in done.err
    assert "training" not in done.err


def test_rows_that_are_not_those_of_their_card_are_refused(
    cli: Cli, config: Path, workspace: Path
) -> None:
    assert cli("train", config, "-o", "a").code == 0
    with (workspace / "datasets/colours/v1/train.jsonl").open("a") as stream:
        stream.write("\n")
    done = cli("reproduce", "a")
    assert done.code == 2, done
    assert "the bytes of colours@1 have changed" in done.err


def test_a_base_model_that_has_changed_is_refused(cli: Cli, config: Path, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "base")
    assert cli("train", config, "-s", f"base.model={folder}", "-o", "a").code == 0
    tensors = load_file(folder / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] * 2
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    done = cli("reproduce", "a")
    assert done.code == 2, done
    assert "base has changed since a was trained from it" in done.err
    assert "training" not in done.err


def test_a_tokenizer_that_has_changed_is_named(cli: Cli, config: Path, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "base")
    assert cli("train", config, "-s", f"base.model={folder}", "-o", "a").code == 0
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("m['content']", "m['content'] | lower"))
    done = cli("reproduce", "a")
    assert done.code == 3, done
    assert "files.chat_template.jinja" in done.out


def test_a_hub_model_is_taken_at_the_recorded_commit(
    cli: Cli, config: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append(options["revision"])
        return str(tiny_model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    changes = ["-s", "base.model=some-org/some-model", "-s", "base.revision=main"]
    assert cli("train", config, *changes, "-o", "a").code == 0
    asked.clear()
    assert cli("reproduce", "a").code == 0
    recorded = read_checkpoint(Path("a")).manifest.base.revision
    assert recorded != "main"
    assert set(asked) == {recorded}


def test_settings_that_were_changed_on_the_way_are_refused(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "a").code == 0
    change = {"key": "optimizer.lr", "old": 1e-2, "new": 1e-3}
    resumption = {"after_step": 1, "changed": [change], "environment": []}
    _reseal(Path("a"), training__resumed=[resumption])
    done = cli("reproduce", "a")
    assert done.code == 2, done
    assert "optimizer.lr was changed after step 1" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(("recorded", "code"), [(None, 1), ("2.0.0", 3)])
def test_a_reproduction_that_diverges(
    recorded: str | None, code: int, cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("train", config, "-o", "a").code == 0
    if recorded is not None:
        _reseal(Path("a"), environment__versions__torch=recorded)
    monkeypatch.setattr(
        "ftreg.training.loss.Loss.__call__",
        lambda *_, **__: torch.full((), float("nan"), requires_grad=True),
    )
    done = cli("reproduce", "a")
    assert done.code == code, done
    assert "training diverged at step 1" in done.err
    assert "ftreg-reproduce-" not in done.err  # a folder that is gone


def test_what_is_no_checkpoint_or_no_free_folder_ends_with_2(cli: Cli, config: Path) -> None:
    done = cli("reproduce", "nothing")
    assert done.code == 2
    assert "there is no such checkpoint folder" in done.err
    assert cli("train", config, "-o", "a").code == 0
    done = cli("reproduce", "a", "-o", "a")
    assert done.code == 2
    assert "a already exists" in done.err


@pytest.mark.slow
def test_two_processes_reproduce_two(cli: Cli, config: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
    }

    def together(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*launch, "-m", "ftreg", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, check=False)

    done = together("train", str(config), "-o", "two")
    assert done.returncode == 0, done.stderr
    done = together("reproduce", "two", "-o", "again", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcome"] == "reproduced"
    alone = cli("reproduce", "two")
    assert "training.processes 2 -> 1" in alone.err
    assert alone.code in (0, 3)  # whether the sums happen to be equal is not promised


def test_processes_that_reproduce_together_need_one_name(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = cli("reproduce", "a")
    assert done.code == 2
    assert "name their one --output" in done.err
