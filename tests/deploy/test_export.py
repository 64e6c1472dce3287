"""An export is the checkpoint in another form: tokens, ends and outputs stay what they were."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftreg.errors import UsageError
from ftreg.files.store import file_digest
from ftreg.jobs.export import export
from ftreg.models.pretrained import load_checkpoint_model
from ftreg.services.llama_cpp import serving
from tests.conftest import Cli, write_dataset
from tests.deployable import (
    MODELS,
    PROBES,
    TOKENIZERS,
    as_checkpoint,
    chats,
    tokenizer_of,
    unigram,
    write_base,
)
from tests.gguf_surgery import operate
from tests.jobs.test_printed import errors

SETTINGS = """\
base: {model: base}
dataset: {version: colours@1, root: datasets}
optimizer: {name: adamw, lr: 1e-2}
train: {batch_size: 4, precision: fp32, threads: 1}
eval: {max_new_tokens: 4, scorers: [equals]}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the checkpoint `llama`."""
    from typer.testing import CliRunner

    from ftreg.cli.app import app

    root = tmp_path_factory.mktemp("export")
    write_dataset(root / "datasets")
    write_base(root / "base", "llama")
    (root / "run.yaml").write_text(SETTINGS, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        done = CliRunner().invoke(app, ["train", "run.yaml", "-o", "llama", "-q"])
        assert done.exit_code == 0, done.output
    return root


@pytest.fixture
def there(cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_computes_what_transformers_does(
    name: str, trained: Path, tmp_path: Path
) -> None:
    """All log-probabilities after prompts of all kinds, of each architecture."""
    pytest.importorskip("xllamacpp")
    folder = as_checkpoint(write_base(tmp_path / name, name), trained / "llama")
    export(folder, to="gguf:f32", output=tmp_path / "model.gguf")
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (letter,) = tokenizer.encode("a", add_special_tokens=False)[-1:]
    with serving(tmp_path / "model.gguf") as server:
        for chat in chats():
            text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert server.tokens({"messages": chat}) == ids
            found = server.likeliest(ids, most=model.config.vocab_size, letter=letter)
            assert found is not None
            assert len(found) == model.config.vocab_size
            with torch.inference_mode():
                expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            ours = torch.tensor([found[token] for token in range(len(found))])
            # llama.cpp keeps keys and values in fp16.
            torch.testing.assert_close(ours, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", sorted({*TOKENIZERS} - {words for _, _, words in MODELS.values()}))
def test_other_tokenizers_have_the_same_tokens(kind: str, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    tokenizer = tokenizer_of(kind)
    folder = write_base(tmp_path / "model", "llama", vocab_size=len(tokenizer))
    tokenizer.save_pretrained(folder)
    export(as_checkpoint(folder, trained / "llama"), to="gguf", output=tmp_path / "model.gguf")
    with serving(tmp_path / "model.gguf") as server:
        for text in PROBES:
            assert server.encode(text) == tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("settings", [{}, {"rslora": True}, {"dora": True}, {"head": True}])
def test_adapters_are_merged_as_peft_merges_them(
    settings: dict[str, bool], there: Path, tmp_path: Path, cli: Cli
) -> None:
    pytest.importorskip("peft")
    modules = ["q_proj", "down_proj"] + (["embed_tokens", "lm_head"] if "head" in settings else [])
    lora = {"r": 4, "alpha": 32, "target_modules": modules}
    lora |= {key: value for key, value in settings.items() if key != "head"}
    config = tmp_path / "lora.yaml"
    config.write_text(SETTINGS + f"lora: {json.dumps(lora)}", "utf-8")
    assert cli("train", config, "-o", tmp_path / "lora", "-q").code == 0
    assert cli("export", tmp_path / "lora", "--to", "merged", "-o", tmp_path / "whole").code == 0
    expected = load_checkpoint_model(tmp_path / "lora").state_dict()
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    base = AutoModelForCausalLM.from_pretrained("base").state_dict()
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-5)
    name = "model.layers.0.mlp.down_proj.weight"
    assert not torch.equal(base[name], whole.state_dict()[name])


def test_the_same_export_has_the_same_bytes(there: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree("llama", tmp_path / "elsewhere")
    found = []
    for number, folder in enumerate(("llama", tmp_path / "elsewhere")):
        place = tmp_path / f"made{number}"
        for to in ("gguf:q8_0", "gguf:q4_0", "merged"):
            done = cli("export", folder, "--to", to, "-o", place / to.replace(":", "-"), "-q")
            assert done.code == 0, done
        found.append(
            {
                path.relative_to(place): file_digest(path)
                for path in sorted(place.rglob("*"))
                if path.is_file()
            }
        )
    assert found[0] == found[1]
    assert len(found[0]) >= 8


def test_the_manifest_says_what_it_is_of(there: Path, tmp_path: Path, cli: Cli) -> None:
    target = tmp_path / "llama.gguf"
    found = cli("export", "llama", "--to", "gguf:q8_0", "-o", target, "-q", "--json").json
    assert not errors("export", found)
    record = json.loads(Path(found["manifest"]).read_text("utf-8"))
    manifest = json.loads(Path("llama/ftreg.json").read_text("utf-8"))
    assert record["checkpoint"] == manifest["identity"]
    assert record["weights"] == manifest["weights"]["digest"]
    assert record["files"] == {"llama.gguf": file_digest(target)}
    assert (record["form"], record["precision"]) == ("gguf", "q8_0")
    assert record["ends"] == [2]
    text = Path(found["manifest"]).read_text("utf-8")
    Path(found["manifest"]).write_text(text.replace("q8_0", "q4_0"), "utf-8")
    refused = cli("parity", "llama", target, "-q")
    assert refused.code == 2
    assert "has changed since it was written" in refused.err


@pytest.mark.parametrize("precision", ["f16", "bf16", "q8_0", "q4_0"])
def test_a_sound_export_of_each_precision_is_alike(
    precision: str, there: Path, tmp_path: Path, cli: Cli
) -> None:
    pytest.importorskip("xllamacpp")
    target = tmp_path / f"llama-{precision}.gguf"
    assert cli("export", "llama", "--to", f"gguf:{precision}", "-o", target, "-q").code == 0
    found = cli("parity", "llama", target, "-q", "--json")
    assert found.code == 0, found
    assert not errors("parity", found.json)
    assert found.json["precision"] == precision


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type is 'dynamic'",
        ),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    changes: dict[str, object], said: str, trained: Path, tmp_path: Path
) -> None:
    folder = as_checkpoint(write_base(tmp_path / "m", "llama", **changes), trained / "llama")
    with pytest.raises(UsageError, match=said):
        export(folder, to="gguf", output=tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_a_mistake_is_named_and_nothing_is_written(there: Path, tmp_path: Path, cli: Cli) -> None:
    wrong = cli("export", "llama", "--to", "gguf:q8", "-o", tmp_path / "a.gguf")
    assert wrong.code == 2
    assert "did you mean gguf:q8_0?" in wrong.err
    (tmp_path / "b.gguf").write_text("mine", "utf-8")
    assert cli("export", "llama", "-o", tmp_path / "b.gguf").code == 2
    assert (tmp_path / "b.gguf").read_text("utf-8") == "mine"
    garbage = cli("parity", "llama", tmp_path / "b.gguf")
    assert garbage.code == 2
    assert "not a GGUF file" in garbage.err
    assert cli("parity", "llama", tmp_path / "none.gguf").code == 2
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_tokenizer_of_another_type_is_refused_by_its_name(trained: Path, tmp_path: Path) -> None:
    tokenizer = unigram()
    folder = write_base(tmp_path / "m", "llama", tokenizer=tokenizer)
    as_checkpoint(folder, trained / "llama")
    with pytest.raises(UsageError, match="is of type Unigram; GGUF export supports only BPE"):
        export(folder, to="gguf", output=tmp_path / "model.gguf")
    export(folder, to="merged", output=tmp_path / "merged")
    assert {path.name for path in tmp_path.iterdir()} == {"m", "merged"}


def test_a_weight_beyond_f16_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "m", "llama", spread=1e7)
    as_checkpoint(folder, trained / "llama")
    with pytest.raises(UsageError, match="beyond 65504"):
        export(folder, to="gguf:f16", output=tmp_path / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    export(folder, to="gguf:bf16", output=tmp_path / "model.gguf")


def test_a_file_that_llama_cpp_cannot_load_is_one_message(
    there: Path, tmp_path: Path, cli: Cli
) -> None:
    pytest.importorskip("xllamacpp")
    assert cli("export", "llama", "--to", "gguf:f32", "-o", tmp_path / "a.gguf", "-q").code == 0
    operate(
        tmp_path / "a.gguf", tmp_path / "b.gguf",
        tensors=lambda name, value: None if "attn_q" in name else value,
    )  # fmt: skip
    found = cli("parity", "llama", tmp_path / "b.gguf", "-q")
    assert found.code == 2
    assert "llama.cpp cannot serve this file" in found.err
