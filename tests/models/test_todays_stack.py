"""What today's stack does without a word, each next to what ftreg does instead.

Each test names the tool, runs it (transformers' Trainer, torch's or pytorch-optimizer's classes) on
the tiny model, and runs `ftreg` on the same mistake.
"""

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_optimizer
import torch
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import (
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from tests.conftest import Cli, Result

STEPS = 6
BROKEN = 3


def _rows(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(3, 200, (12,), generator=generator) for _ in range(count)]
    return [{"input_ids": row, "labels": row.clone()} for row in ids]


def _trainer(model: Path, output: Path, *, optimizer: Any = None, **changes: Any) -> Trainer:
    """A Trainer whose every step sees the same four rows, so that losses can be compared."""
    AcceleratorState._reset_state()  # an earlier run's precision would be taken over
    arguments = {
        "output_dir": str(output), "per_device_train_batch_size": 4, "max_steps": STEPS,
        "logging_steps": 1, "save_steps": 3, "lr_scheduler_type": "constant", "report_to": [],
        "disable_tqdm": True, "use_cpu": True, "seed": 0, **changes,
    }  # fmt: skip
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=TrainingArguments(**arguments),
        train_dataset=_rows(4),
        optimizer_cls_and_kwargs=optimizer,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _in_force(trainer: Trainer) -> dict[str, Any]:
    group = trainer.create_optimizer().param_groups[0]
    return {key: value for key, value in group.items() if key != "params"}


def _losses(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def _weights(trainer: Trainer) -> torch.Tensor:
    return _flat(trainer.model)


SPOILT = "model.layers.0.self_attn.q_proj.weight"


@contextmanager
def _one_nan_gradient() -> Iterator[list[int]]:
    """One element of one tensor's gradient is NaN in training's third forward pass; counts them."""
    passes: list[int] = []

    def see(module: nn.Module, inputs: Any, output: Any) -> None:
        whole = type(module).__name__.endswith("ForCausalLM")
        if not (whole and module.training and torch.is_grad_enabled()):
            return
        passes.append(len(passes) + 1)
        if len(passes) == BROKEN:
            weight = module.get_parameter(SPOILT)
            handle = weight.register_hook(lambda gradient: spoil(gradient))

            def spoil(gradient: torch.Tensor) -> torch.Tensor:
                handle.remove()
                spoilt = gradient.clone()
                spoilt.view(-1)[0] = float("nan")
                return spoilt

    watch = register_module_forward_hook(see)
    try:
        yield passes
    finally:
        watch.remove()


@contextmanager
def _signal_after(step: int) -> Iterator[None]:
    """SIGTERM right after an optimizer step, as a cluster sends it."""
    done: list[int] = []

    def see(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        done.append(1)
        if len(done) == step:
            signal.raise_signal(signal.SIGTERM)

    handle = register_optimizer_step_post_hook(see)
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        handle.remove()
        signal.signal(signal.SIGTERM, before)


def _interrupted(cli: Cli, config: Path, output: str, *changes: str) -> Result:
    options = [part for change in changes for part in ("-s", change)]
    with _signal_after(2):
        return cli("train", config, "-o", output, "-s", "train.epochs=2", *options)


@pytest.mark.parametrize(
    ("optim", "optim_args", "key", "default", "optimizer"),
    [
        (
            "adagrad",
            "initial_accumulator_value=0.1",
            "initial_accumulator_value",
            0,
            "{name: adagrad, lr: 1e-3, initial_accumulator_value: 0.1}",
        ),
        ("adamw_torch", "amsgrad=True", "amsgrad", False, "{name: adamw, lr: 1e-3, amsgrad: true}"),
    ],
)
def test_a_setting_that_does_not_arrive(
    optim: str,
    optim_args: str,
    key: str,
    default: Any,
    optimizer: str,
    cli: Cli,
    config: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    """transformers.Trainer: `optim_args` drops AdaGrad's start value and Adam's amsgrad."""
    held = _in_force(_trainer(tiny_model, tmp_path, optim=optim, optim_args=optim_args))
    assert held[key] == default

    shown = cli("optim", "show", config, "-s", f"optimizer={optimizer}", "--json")
    assert shown.code == 0, shown
    wanted = optim_args.partition("=")[2]
    assert str(shown.json["arguments"][key]) == wanted


@pytest.mark.parametrize(
    ("optim", "misspelt", "meant"),
    [
        ("adagrad", "lr_decai", "lr_decay"),
        ("adamw_torch", "weigth_decay", "weight_decay"),
        ("sgd", "momentom", "momentum"),
        ("rmsprop", "alhpa", "alpha"),
    ],
)
def test_a_misspelt_setting(
    optim: str,
    misspelt: str,
    meant: str,
    cli: Cli,
    config: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    """transformers.Trainer: a key of `optim_args` that no optimizer has is ignored."""
    plain = _in_force(_trainer(tiny_model, tmp_path, optim=optim))
    held = _in_force(_trainer(tiny_model, tmp_path, optim=optim, optim_args=f"{misspelt}=0.5"))
    assert held == plain

    name = optim.removesuffix("_torch")
    done = cli("train", config, "-s", f"optimizer={{name: {name}, lr: 1e-3, {misspelt}: 0.5}}")
    assert done.code == 2, done
    assert f"optimizer.{misspelt} is not a setting of {name}" in done.err
    assert f"did you mean optimizer.{meant}?" in done.err


def test_the_optimizer_that_is_not_there(
    cli: Cli, config: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """transformers.Trainer: no Adam with L2 among its names, and Lion wants bitsandbytes."""
    with pytest.raises(ValueError, match="adam is not a valid OptimizerNames"):
        _trainer(tiny_model, tmp_path, optim="adam")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="bitsandbytes"):
            _in_force(_trainer(tiny_model, tmp_path, optim="lion_32bit"))

    for name, coupling in (("adam", "coupled"), ("lion", "decoupled")):
        done = cli("train", config, "-s", f"optimizer={{name: {name}, lr: 1e-5}}", "-o", name)
        assert done.code == 0, done
        manifest = json.loads(Path(name, "ftreg.json").read_text())
        assert manifest["optimizer"]["decay_coupling"] == coupling


def test_a_resume_with_other_settings(
    cli: Cli,
    config: Path,
    tiny_model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """transformers.Trainer: resumed with another lr and decay it goes on with the old ones.

    `load_state_dict` takes every hyperparameter from the checkpoint. The Trainer's own comparison
    of arguments warns of other intervals of saving, not of these.
    """
    settings = {"learning_rate": 1e-3, "weight_decay": 0.1}
    whole = _trainer(tiny_model, tmp_path / "whole", **settings)
    whole.train()
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        changed = {"learning_rate": 1e-9, "weight_decay": 0.9, "save_steps": 6}
        resumed = _trainer(tiny_model, tmp_path / "other", **changed)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    finally:
        logger.removeHandler(caplog.handler)
    assert torch.equal(_weights(whole), _weights(resumed))
    assert resumed.state.log_history[-2]["learning_rate"] == 1e-3
    assert "save_steps: 6 (from args) != 3" in caplog.text
    assert not any(key in caplog.text for key in ("learning_rate", "weight_decay"))

    assert _interrupted(cli, config, "a", "schedule.name=constant").code == 130
    again = ["train", config, "-o", "a", "-s", "train.epochs=2", "-s", "schedule.name=constant"]
    other = ["-s", "optimizer.lr=1e-5", "-s", "optimizer.weight_decay=0.9"]
    done = cli(*again, "--resume", *other)
    assert done.code == 2, done
    for key in ("optimizer.lr", "optimizer.weight_decay"):
        assert f"--allow-change {key}" in done.err
    allowed = ["--allow-change", "optimizer.lr", "--allow-change", "optimizer.weight_decay"]
    done = cli(*again, "--resume", *other, *allowed)
    assert done.code == 0, done
    rates = [json.loads(line)["lr"] for line in Path("a/history.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-5, 1e-5, 1e-5, 1e-5])


def test_one_nan_gradient(cli: Cli, config: Path, tiny_model: Path, tmp_path: Path) -> None:
    """transformers.Trainer: ends as a success, every weight NaN, with a logged loss of 0.0."""
    trainer = _trainer(tiny_model, tmp_path / "out", learning_rate=1e-3)
    with _one_nan_gradient() as passes:
        trainer.train()
    assert len(passes) == STEPS
    assert _losses(trainer)[BROKEN:] == [0.0] * (STEPS - BROKEN)
    assert torch.isnan(_weights(trainer)).all()
    assert get_last_checkpoint(str(tmp_path / "out")).endswith(f"checkpoint-{STEPS}")

    with _one_nan_gradient() as passes:
        done = cli("train", config, "-o", "a", "-s", "train.epochs=2")
    assert done.code == 1, done
    assert f"diverged at step {BROKEN}" in done.err
    assert SPOILT in done.err
    assert not Path("a").exists()


def test_a_nan_that_lion_hides(cli: Cli, config: Path, tiny_model: Path, tmp_path: Path) -> None:
    """pytorch-optimizer's Lion, in the Trainer: sign(nan) is 0, so training stops unseen.

    Clipping spreads the NaN to every gradient, and no momentum ever loses it again. The weights
    stay finite, and with them the loss, at what it was.
    """
    assert torch.sign(torch.tensor(float("nan"))) == 0
    lion = (pytorch_optimizer.Lion, {"lr": 1e-4})
    trainer = _trainer(tiny_model, tmp_path / "out", optimizer=lion)
    with _one_nan_gradient():
        trainer.train()
    losses = _losses(trainer)
    assert losses[0] > losses[1] > losses[2]
    # The rows of a batch come in another order each time, which shows in the last bits.
    assert losses[BROKEN:] == pytest.approx([losses[BROKEN - 1]] * (STEPS - BROKEN), rel=1e-6)
    assert torch.isfinite(_weights(trainer)).all()
    then = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / f"checkpoint-{BROKEN}")
    assert torch.equal(_weights(trainer), _flat(then))

    with _one_nan_gradient():
        done = cli(
            "train", config, "-s", "optimizer={name: lion, lr: 1e-5}", "-s", "train.epochs=2",
            "-o", "a",
        )  # fmt: skip
    assert done.code == 1, done
    assert f"diverged at step {BROKEN}" in done.err
    assert not Path("a").exists()


def test_adam_that_becomes_adamw(cli: Cli, config: Path) -> None:
    """torch.optim.Adam: loading AdamW's state turns its decay into AdamW's."""
    weight, other = (nn.Parameter(torch.ones(3)) for _ in range(2))
    adamw = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.5)
    adam = torch.optim.Adam([other], lr=0.1, weight_decay=0.5)
    adam.load_state_dict(adamw.state_dict())
    for parameter, optimizer in ((weight, adamw), (other, adam)):
        parameter.grad = torch.ones(3)
        optimizer.step()
    assert torch.equal(weight, other)

    assert _interrupted(cli, config, "a").code == 130
    changes = ["-s", "train.epochs=2", "-s", "optimizer={name: adam, lr: 1e-3, weight_decay: 0.01}"]
    for allowed in ([], ["--allow-change", "optimizer"]):
        done = cli("train", config, "-o", "a", "--resume", *changes, *allowed)
        assert done.code == 2, done
        assert "optimizer.name: 'adamw' -> 'adam'" in done.err


def test_a_checkpoint_that_is_half_there(
    cli: Cli, config: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers.Trainer: a save that is cut off leaves a folder that the next run resumes from.

    It writes file by file into the final folder, and finds the newest by its name.
    """

    def cut_off(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    trainer = _trainer(tiny_model, tmp_path / "out")
    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", cut_off)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    found = Path(get_last_checkpoint(str(tmp_path / "out")))
    assert (found / "model.safetensors").is_file()
    with pytest.raises(FileNotFoundError, match=r"trainer_state\.json"):
        _trainer(tiny_model, tmp_path / "out").train(resume_from_checkpoint=True)

    with monkeypatch.context() as patched:
        patched.setattr(PreTrainedTokenizerFast, "save_pretrained", cut_off)
        done = cli("train", config, "-o", "checkpoints/a")
    assert done.code == 130, done
    assert not Path("checkpoints/a").exists()
    done = cli("train", config, "-o", "checkpoints/a", "--resume")
    assert done.code == 0, done
    assert cli("checkpoints", "show", "checkpoints/a").code == 0
