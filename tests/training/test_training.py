"""Training, through `ftreg train`, and its numerics against the plain computation."""

import copy
import hashlib
import importlib.metadata
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftreg.config.sections import BaseConfig
from ftreg.errors import UsageError
from ftreg.models.pretrained import find_base, load_checkpoint_model, weights_digest
from ftreg.training.batching.batches import batch_order
from ftreg.training.batching.examples import TokenisedExamples
from tests.conftest import Cli, make_model, write_dataset


def test_a_checkpoint_has_weights_and_all_that_made_them(cli: Cli, config: Path) -> None:
    done = cli("train", config, "-o", "checkpoints/a", "--json")
    assert done.code == 0, done
    folder = Path("checkpoints/a")
    manifest = json.loads((folder / "ftreg.json").read_text())
    optimizer = manifest["optimizer"]
    assert optimizer["import_path"] == "torch.optim.adamw:AdamW"
    assert optimizer["arguments"]["betas"] == [0.9, 0.999]
    assert optimizer["arguments"]["eps"] == 1e-8
    assert optimizer["decay_coupling"] == "decoupled"
    named = [name for group in optimizer["groups"] for name in group["parameters"]]
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert sorted(named) == sorted(name for name, _ in model.named_parameters())
    assert manifest["dataset"]["version"] == "colours@1"
    assert manifest["training"]["steps"] == manifest["schedule"]["total_steps"] == 3
    assert manifest["environment"]["versions"]["torch"] == torch.__version__
    assert str(Path.cwd()) not in (folder / "ftreg.json").read_text()
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in history] == [1, 2, 3]
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in history)
    assert AutoTokenizer.from_pretrained(folder).chat_template


@pytest.mark.slow
def test_the_written_config_trains_the_same_weights(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "first").code == 0
    assert cli("train", "first/config.yaml", "-o", "second").code == 0
    first, second = (
        json.loads(Path(name, "ftreg.json").read_text()) for name in ("first", "second")
    )
    assert first["weights"]["digest"] == second["weights"]["digest"]
    assert first["identity"] == second["identity"]
    assert cli("train", config, "-s", "train.seed=1", "-o", "third").code == 0
    third = json.loads(Path("third/ftreg.json").read_text())
    assert third["weights"]["digest"] != first["weights"]["digest"]
    assert third["identity"] != first["identity"]


@pytest.mark.parametrize(
    "optimizer",
    [
        "{name: adafactor, lr: 1e-1}",
        "{name: adagrad, lr: 1e-2}",
        "{name: adam, lr: 1e-3}",
        "{name: lion, lr: 1e-4}",
        "{name: muon, lr: 1e-2, adamw_lr: 1e-3}",
        "{name: schedule_free_adamw, lr: 1e-2}",
        "{name: sgd, lr: 1e-1, momentum: 0.9}",
        "{name: rmsprop, lr: 1e-3}",
        "{name: custom, path: 'torch.optim:NAdam', lr: 1e-3}",
    ],
)
def test_every_optimizer_learns(optimizer: str, cli: Cli, config: Path) -> None:
    done = cli(
        "train", config, "-s", f"optimizer={optimizer}", "-s", "train.epochs=8",
        "-s", "schedule.name=constant", "-o", "a", "--json",
    )  # fmt: skip
    assert done.code == 0, done
    assert done.json["training"]["best_loss"] < 0.98 * done.json["training"]["first_loss"]


def test_lora_writes_adapters_that_evaluate(cli: Cli, config: Path) -> None:
    done = cli("train", config, "-s", "lora.r=2", "-o", "a")
    assert done.code == 0, done
    assert Path("a/adapter_model.safetensors").is_file()
    assert not Path("a/model.safetensors").exists()
    assert cli("eval", "a", "--no-gate").code == 0


def test_a_base_that_is_a_checkpoint_is_read_once(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are held against the manifest, and have the digest that they had there."""
    done = cli("train", config, "-s", "train.max_steps=1", "-o", "a", "--json")
    assert done.code == 0, done
    read: list[str] = []
    digest = hashlib.file_digest

    def counted(stream: Any, name: Any) -> Any:
        read.append(Path(stream.name).name)
        return digest(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    base = find_base(BaseConfig(model="a"))
    assert base.digest == done.json["weights"]["digest"] == weights_digest(Path("a"))
    assert base.parent == done.json["identity"]
    assert read.count("model.safetensors") == 2  # by `find_base`, and by the line above
    shutil.copy("a/model.safetensors", "a/more.safetensors")
    with pytest.raises(UsageError, match=r"a/more\.safetensors: .* not listed in the manifest"):
        find_base(BaseConfig(model="a"))


@pytest.mark.parametrize(
    ("name", "library", "distribution"),
    [("adamw", "torch", "torch"), ("lion", "pytorch_optimizer", "pytorch-optimizer")],
)
def test_the_version_of_an_optimizers_library_needs_no_look_at_all_others(
    name: str,
    library: str,
    distribution: str,
    cli: Cli,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise AssertionError("the files of all distributions are read")

    monkeypatch.setattr(importlib.metadata, "packages_distributions", refuse)
    given = [
        "-s",
        f"optimizer={{name: {name}, lr: 1e-4}}",
        "-s",
        "train.max_steps=1",
        "-o",
        "a",
        "--json",
    ]
    done = cli("train", config, *given)
    assert done.code == 0, done
    recorded = done.json["optimizer"]
    assert recorded["library"] == library
    assert recorded["library_version"] == importlib.metadata.version(distribution)


# For peft's own loading, below.
@pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings")
def test_adapters_on_tied_weights_evaluate_as_they_were_trained(cli: Cli, config: Path) -> None:
    """The tiny model's output layer has the embedding's weights: merged, the two must part."""
    base = AutoModelForCausalLM.from_pretrained(re.search("model: (.*)", config.read_text())[1])
    assert base.get_output_embeddings().weight is base.get_input_embeddings().weight
    ids = torch.arange(3, 40)[None]
    for module in ("lm_head", "embed_tokens"):
        done = cli(
            "train", config, "-s", f"lora={{r: 2, target_modules: [q_proj, {module}]}}",
            "-s", "train.max_steps=3", "-s", "optimizer.lr=0.05", "-o", module,
        )  # fmt: skip
        assert done.code == 0, done
        adapted = peft.PeftModel.from_pretrained(copy.deepcopy(base), module).eval()
        with torch.no_grad():
            expected = adapted(input_ids=ids).logits
            torch.testing.assert_close(load_checkpoint_model(Path(module))(ids).logits, expected)
            assert not torch.allclose(base(ids).logits, expected, atol=0.01)


def test_only_the_answer_carries_loss(tiny_model: Path, examples: TokenisedExamples) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = examples.ids(0)
    answer = ids[examples.prompt_length(0) :]
    assert tokenizer.decode(list(answer)) == "red<|im_end|>"
    prompt = tokenizer.decode(list(ids[: examples.prompt_length(0)]))
    assert prompt.endswith("<|im_start|>assistant\n")
    assert "Item 0 is red.\nWhich colour has item 0?" in prompt


@pytest.mark.parametrize(
    ("settings", "shared"),
    [
        (("lora.r=2",), True),
        (("lora={r: 2, dropout: 0.1}",), False),  # another mask in each example
        (("train.packing=false",), False),
    ],
)
def test_the_manifest_says_whether_a_prefix_was_shared(
    settings: tuple[str, ...], shared: bool, cli: Cli, config: Path
) -> None:
    given = [part for setting in settings for part in ("-s", setting)]
    done = cli("train", config, *given, "-s", "train.max_steps=2", "-o", "a", "--json")
    assert done.code == 0, done
    assert done.json["training"]["shared_prefix"] is shared
    # Each example counts with all of its tokens, whether or not they were computed for it alone.
    history = [json.loads(line) for line in Path("a/history.jsonl").read_text().splitlines()]
    assert done.json["training"]["tokens"] == history[-1]["tokens"] > 20 * history[-1]["examples"]


def test_a_nan_in_an_embeddings_rows_is_found(cli: Cli, config: Path) -> None:
    """They go past autograd, into the gradient of the weight that is the output layer's too."""

    def spoil(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, nn.Embedding) and output.requires_grad and module.training:
            output.register_hook(lambda gradient: gradient * math.nan)

    watch = register_module_forward_hook(spoil)
    try:
        done = cli("train", config, "-o", "a")
    finally:
        watch.remove()
    assert done.code == 1, done
    assert "diverged at step 1" in done.err
    failure = json.loads(Path("a.failed/failure.json").read_text())
    assert failure["parameters"] == ["model.embed_tokens.weight"]
    assert math.isfinite(failure["loss"])


def test_the_layout_of_a_step_does_not_change_it(cli: Cli, config: Path) -> None:
    losses = {}
    for tokens in (64, 200, 2000):
        done = cli("train", config, "-s", f"train.micro_batch_tokens={tokens}", "-o", f"c{tokens}")
        assert done.code == 0, done
        lines = Path(f"c{tokens}/history.jsonl").read_text().splitlines()
        losses[tokens] = [json.loads(line)["loss"] for line in lines]
    assert losses[64] == pytest.approx(losses[2000], rel=1e-4)
    assert losses[200] == pytest.approx(losses[2000], rel=1e-4)


def test_order_is_a_permutation_per_epoch_by_seed() -> None:
    steps = list(batch_order(10, batch_size=4, steps=6, seed=1))
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    first, second = ([row for step in half for row in step] for half in (steps[:3], steps[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert steps[:3] != steps[3:]
    assert steps == list(batch_order(10, batch_size=4, steps=6, seed=1))
    assert steps != list(batch_order(10, batch_size=4, steps=6, seed=2))


def test_no_epoch_of_a_seed_has_the_order_of_another_seeds() -> None:
    """Else replicas of neighbouring seeds would train on the same orders, an epoch apart."""
    orders = [
        tuple(order)
        for seed in range(8)
        for order in batch_order(50, batch_size=50, steps=8, seed=seed)
    ]
    assert len(set(orders)) == len(orders)


def test_divergence_ends_with_1_and_keeps_the_history(cli: Cli, config: Path) -> None:
    done = cli(
        "train", config, "-s", "optimizer={name: sgd, lr: 1e38}", "-s", "train.epochs=5",
        "-s", "train.max_grad_norm=null", "-o", "checkpoints/a",
    )  # fmt: skip
    assert done.code == 1, done
    assert "training diverged at step" in done.err
    assert "Traceback" not in done.err
    assert not Path("checkpoints/a").exists()
    failed = Path("checkpoints/a.failed")
    assert json.loads((failed / "failure.json").read_text())["steps_taken"] >= 1
    assert (failed / "history.jsonl").read_text()


@pytest.mark.parametrize("steps", [1, 3])
def test_a_step_that_blows_up_the_weights_ends_with_1(steps: int, cli: Cli, config: Path) -> None:
    changes = ["-s", "optimizer.lr=1e300", "-s", f"train.max_steps={steps}"]
    done = cli("train", config, *changes, "-o", "checkpoints/a")
    assert done.code == 1, done
    assert [path.name for path in Path("checkpoints").iterdir()] == ["a.failed"]
    assert Path("checkpoints/a.failed/failure.json").is_file()


def test_even_a_single_step_trains(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-s", "train.max_steps=1", "-o", "a").code == 0
    (row,) = [json.loads(line) for line in Path("a/history.jsonl").read_text().splitlines()]
    assert row["lr"] > 0
    assert row["step_size"] > 0


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "inverse_sqrt"])
def test_warm_up_rises_from_its_first_step(name: str, cli: Cli, config: Path) -> None:
    changes = ["-s", f"schedule={{name: {name}, warmup: 0.5}}", "-s", "train.max_steps=8"]
    assert cli("train", config, *changes, "-s", "train.epochs=9", "-o", "a").code == 0
    rates = [json.loads(line)["lr"] for line in Path("a/history.jsonl").read_text().splitlines()]
    assert rates[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert all(rate > 0 for rate in rates)
    assert name == "constant" or rates[-1] < 1e-3


def test_where_the_output_cannot_go_is_said_before_training(cli: Cli, config: Path) -> None:
    Path("file").write_text("x")
    done = cli("train", config, "-o", "file/ck")
    assert done.code == 2
    assert "cannot write file/ck" in done.err
    assert "training" not in done.err


def test_weights_that_do_not_fit_their_configuration_are_refused(
    cli: Cli, config: Path, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "odd")
    path = folder / "config.json"
    for layers in (1, 4):
        settings = json.loads(path.read_text())
        path.write_text(json.dumps({**settings, "num_hidden_layers": layers}))
        done = cli("train", config, "-s", f"base.model={folder}", "-o", "a")
        assert done.code == 2, done
        assert "the weights do not fit config.json" in done.err
    (folder / "model.safetensors").write_bytes(b"garbage")
    done = cli("train", config, "-s", f"base.model={folder}", "-o", "a")
    assert done.code == 2
    assert "cannot load the model" in done.err


def test_adapters_are_no_base_model_and_hold_no_absolute_path(
    cli: Cli, config: Path, workspace: Path
) -> None:
    assert cli("train", config, "-s", "lora.r=2", "-o", "a").code == 0
    for path in Path("a").iterdir():
        assert str(workspace.parent.parent).encode() not in path.read_bytes(), path
    done = cli("train", config, "-s", "base.model=a", "-o", "b")
    assert done.code == 2
    assert "these are adapters" in done.err


def test_an_existing_output_folder_is_never_overwritten(cli: Cli, config: Path) -> None:
    folder = Path("checkpoints/a")
    folder.mkdir(parents=True)
    (folder / "precious").write_text("x")
    done = cli("train", config, "-o", folder)
    assert done.code == 2
    assert "checkpoints/a already exists" in done.err
    assert [path.name for path in folder.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("train.max_length=20", "example 't0' has"),
        ("base.model=nowhere", "'nowhere' is neither a packaged model"),
        ("base.model=datasets/nowhere", "base.model: there is no folder datasets/nowhere"),
        ("base.revision=main", "is not a hub id, so it has no revisions"),
        ("base.model=smollm2-135m-instruct", "ftreg models pull smollm2-135m-instruct"),
        ("dataset.version=colours@7", "no dataset version colours@7"),
        ("dataset.train_split=tain", "has no split 'tain'"),
        ("lora={target_modules: [nothing]}", "lora: "),
    ],
)
def test_what_does_not_fit_ends_with_2(change: str, expected: str, cli: Cli, config: Path) -> None:
    done = cli("train", config, "-s", change, "-o", "checkpoints/a")
    assert done.code == 2, done
    assert expected in done.err
    assert "Traceback" not in done.err
    assert not list(Path("checkpoints").glob("*"))


def test_a_hub_that_cannot_be_reached(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    done = cli("train", config, "-s", "base.model=some-org/some-model", "-o", "a")
    assert done.code == 2, done
    assert "base.model: cannot get some-org/some-model from the hub" in done.err
    assert "Traceback" not in done.err


def test_a_hub_id_is_taken_from_the_hub(
    cli: Cli, config: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def snapshot_download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(tiny_model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    changes = ["-s", "base.model=some-org/some-model", "-s", "base.revision=v1"]
    done = cli("train", config, *changes, "-o", "a", "--json")
    assert done.code == 0, done
    assert (asked["name"], asked["revision"]) == ("some-org/some-model", "v1")
    assert not any(pattern.endswith((".py", ".bin", ".pt")) for pattern in asked["allow_patterns"])
    assert done.json["base"]["model"] == "some-org/some-model"
    assert done.json["base"]["revision"] == tiny_model.name


def test_longer_than_the_models_context(cli: Cli, config: Path, tmp_path: Path) -> None:
    short = make_model(tmp_path / "short", max_position_embeddings=32)
    done = cli("train", config, "-s", f"base.model={short}", "-o", "a")
    assert done.code == 2
    assert "more than the 32 that the model takes" in done.err


def test_a_row_without_reference_cannot_be_learnt(cli: Cli, config: Path, workspace: Path) -> None:
    bare = [{"id": "a", "input": "x", "context": "c"}]
    write_dataset(workspace / "datasets", version=2, train=bare, cohorts=[])
    done = cli("train", config, "-s", "dataset.version=colours@2", "-o", "a")
    assert done.code == 2
    assert "'a' has no reference" in done.err


def test_tokenizer_without_chat_template(cli: Cli, config: Path, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "bare")
    (folder / "chat_template.jinja").unlink()
    done = cli("train", config, "-s", f"base.model={folder}", "-o", "a")
    assert done.code == 2
    assert "no chat template" in done.err


def test_optim_show_prints_what_is_in_force(cli: Cli, config: Path) -> None:
    done = cli("optim", "show", config, "--json")
    assert done.code == 0, done
    assert done.json["name"] == "adamw"
    assert {group["name"]: group["weight_decay"] for group in done.json["groups"]} == {
        "decayed": 0.01,
        "undecayed": 0.0,
    }
    assert "decayed" in cli("optim", "show", config).out


def test_the_accelerator_is_not_shared_between_runs(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-s", "train.precision=bf16", "-o", "a").code == 0
    assert Accelerator().mixed_precision == "bf16"
    assert cli("train", config, "-s", "train.precision=fp32", "-o", "b").code == 0
    precisions = [
        json.loads(Path(name, "ftreg.json").read_text())["training"]["precision"]
        for name in ("a", "b")
    ]
    assert precisions == ["bf16", "fp32"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["optimizer={name: lion, lr: 3e-4}"], "optimizer.lr: 0.0003 is a learning rate for AdamW"),
        (["optimizer={name: lion, lr: 1e-5, betas: [0.9, 0.999]}"], "optimizer.betas: beta2 0.999"),
        (["optimizer={name: adam, lr: 1e-5, weight_decay: 0.1}"], "Adam's decay is L2"),
        (
            ["optimizer={name: adamw, lr: 1e-2}"],
            "optimizer.lr: 0.01 is above the usual fine-tuning range of adamw",
        ),
        (
            ["optimizer={name: adagrad, lr: 1e-3}", "schedule.warmup=0"],
            "the first step is +-lr for every weight",
        ),
        (
            ["optimizer={name: adagrad, lr: 1e-3}", "train.epochs=50"],
            "its step falls to about 8 % over these 150 steps",
        ),
    ],
)
def test_advice_is_printed_and_strict_refuses(
    changes: list[str], expected: str, cli: Cli, config: Path
) -> None:
    arguments = [part for change in changes for part in ("-s", change)]
    done = cli("train", config, *arguments, "--strict", "-o", "refused")
    assert done.code == 2
    assert expected in done.err
    assert not Path("refused").exists()
    done = cli("train", config, *arguments, "-s", "train.max_steps=150", "-o", "told")
    assert done.code == 0, done
    assert expected in done.err


def test_sound_settings_are_not_warned_of(cli: Cli, config: Path) -> None:
    for optimizer in ("{name: adamw, lr: 1e-4}", "{name: lion, lr: 2e-5, weight_decay: 0.1}"):
        done = cli(
            "train", config, "-s", f"optimizer={optimizer}", "--strict", "-o", optimizer[7:10]
        )
        assert done.code == 0, done


@pytest.mark.slow
def test_a_run_says_when_adagrad_has_stopped_moving(cli: Cli, config: Path) -> None:
    arguments = ["-s", "train.epochs=60", "-s", "schedule={name: constant, warmup: 0}"]
    done = cli("train", config, "-s", "optimizer={name: adagrad, lr: 1e-3}", *arguments, "-o", "a")
    assert done.code == 0, done
    assert "AdaGrad's effective step has fallen to" in done.err
    done = cli("train", config, "-s", "optimizer={name: adamw, lr: 1e-4}", *arguments, "-o", "b")
    assert "effective step" not in done.err


def test_two_decays_of_the_learning_rate_are_refused(cli: Cli, config: Path) -> None:
    decayed = "optimizer={name: adagrad, lr: 1e-3, lr_decay: 0.1}"
    done = cli("train", config, "-s", decayed, "-o", "a")
    assert done.code == 2
    expected = "run.yaml: optimizer.lr_decay and schedule.name both lower the learning rate"
    assert expected in done.err
    assert cli("train", config, "-s", decayed, "-s", "schedule.name=constant", "-o", "a").code == 0


@pytest.mark.slow
def test_two_processes_train_as_one(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "one").code == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, "-m", "ftreg", "train", str(config), "-o", "two"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads(Path("two/ftreg.json").read_text())
    assert manifest["training"]["processes"] == 2
    losses = [
        [json.loads(line)["loss"] for line in Path(name, "history.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert done.stdout.count("steps") == 1  # one process speaks


def test_processes_that_train_together_need_one_name(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = cli("train", config)
    assert done.code == 2
    assert "name their one --output" in done.err
