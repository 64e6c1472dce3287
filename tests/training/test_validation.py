"""The validation loss: what it is, what follows from it, and that it changes nothing else."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftreg.config.load import load_config
from ftreg.errors import InterruptedRunError
from ftreg.training.events import Silent, StepRecord
from ftreg.training.run import train
from ftreg.training.validation import parted_after
from tests.conftest import Cli, add_split, make_model, rows_of

VALIDATE = ("dataset.validation_split=validation", "train.validate_steps=2")
# With this rate the validation loss rises again before the run ends.
BEST = (
    *VALIDATE,
    "train.keep=best",
    "train.epochs=10",
    "optimizer.lr=2e-2",
    "schedule.name=constant",
)


@pytest.fixture
def validated(config: Path) -> Path:
    """The tiny configuration, whose dataset has a split to validate on.

    Of what its rows want, the first words are learnt in training, and the rest is unlearnt.
    """
    answers = [f"{row['reference'][0]} or {i}7" for i, row in enumerate(rows_of(5))]
    rows = zip(rows_of(5, "v"), answers, strict=True)
    add_split("validation", [{**row, "reference": answer} for row, answer in rows])
    return config


@pytest.fixture
def trains(cli: Cli, validated: Path) -> Callable[..., Any]:
    """Train into a folder and return its manifest."""

    def run(folder: str, *overrides: str, more: Sequence[str] = ()) -> Any:
        given = [part for item in overrides for part in ("-s", item)]
        done = cli("train", validated, *given, "-o", folder, *more)
        assert done.code == 0, done
        return manifest(folder)

    return run


def manifest(folder: str | Path) -> Any:
    return json.loads(Path(folder, "ftreg.json").read_text())


def history(folder: str | Path) -> list[dict[str, Any]]:
    lines = Path(folder, "history.jsonl").read_text().splitlines()
    return [{**json.loads(line), "tokens_per_second": 0} for line in lines]


def losses(folder: str | Path) -> dict[int, float]:
    """Step to validation loss, where one was measured."""
    found = {row["step"]: row["validation_loss"] for row in history(folder)}
    return {step: loss for step, loss in found.items() if loss is not None}


def mean_loss(folder: Path) -> float:
    """Loss per answer token of the validation rows, by transformers alone, a row at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    total, count = 0.0, 0
    for line in Path("datasets/colours/v1/validation.jsonl").read_text().splitlines():
        row = json.loads(line)
        asked = [{"role": "user", "content": f"{row['context']}\n{row['input']}"}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(f"{prompt}{row['reference']}<|im_end|>", return_tensors="pt").input_ids
        labels = ids.clone()
        labels[:, : len(tokenizer(prompt).input_ids)] = -100
        answer = int((labels != -100).sum())
        total += model(input_ids=ids, labels=labels).loss.item() * answer
        count += answer
    return total / count


def interrupt(config: Path, *overrides: str, after: int, resume: bool = False) -> None:
    """Train into `a` until a signal after a step ends it."""

    class Interrupting(Silent):
        def step(self, record: StepRecord) -> None:
            if record.step == after:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError):
        train(
            load_config(config, overrides=overrides),
            output=Path("a"), resume=resume, events=Interrupting(),
        )  # fmt: skip


def test_validating_changes_nothing_else_and_its_loss_is_transformers(
    trains: Callable[..., Any], tmp_path: Path
) -> None:
    # Dropout is on in training, and off in validation.
    model = make_model(tmp_path / "dropping", attention_dropout=0.3)
    shared = (f"base.model={model}", "train.epochs=2", "optimizer.lr=1e-2")
    plain = trains("plain", *shared)
    found = trains(
        "a", *shared, "dataset.validation_split=validation", "train.validate_steps=4",
        "train.checkpoint_steps=4",
    )  # fmt: skip
    assert found["weights"]["digest"] == plain["weights"]["digest"]
    assert [{**row, "validation_loss": None} for row in history("a")] == history("plain")
    assert list(losses("a")) == [4, 6]
    assert losses("a")[4] == pytest.approx(mean_loss(Path("a.steps/step-00000004")), rel=1e-5)
    assert losses("a")[6] == pytest.approx(mean_loss(Path("a")), rel=1e-5)
    record = found["training"]["validation"]
    assert (record["split"], record["rows"], record["every"]) == ("validation", 5, 4)
    assert record["last_loss"] == losses("a")[6]
    assert plain["training"]["validation"] is None


def test_rows_and_steps_to_validate_on_are_chosen(trains: Callable[..., Any], cli: Cli) -> None:
    """By default at each tenth of the run; the first rows are those of a split of these alone."""
    found = trains(
        "a", "dataset.validation_split=validation", "dataset.max_validation_examples=2",
        "train.epochs=7",
    )  # fmt: skip
    assert found["training"]["validation"]["rows"] == 2
    assert list(losses("a")) == [3, 6, 9, 12, 15, 18, 21]
    rows = Path("datasets/colours/v1/validation.jsonl").read_text().splitlines()[:2]
    add_split("two", list(map(json.loads, rows)))
    trains("b", "dataset.validation_split=two", "train.epochs=7")
    assert losses("a") == losses("b")


def test_a_split_to_validate_on_is_named_where_nobody_uses_it(cli: Cli, validated: Path) -> None:
    done = cli("train", validated, "-o", "a")
    assert "dataset.validation_split: validation measures its loss" in done.err
    assert losses("a") == {}


def test_the_best_weights_are_kept_and_the_run_says_that_the_losses_parted(
    trains: Callable[..., Any], cli: Cli
) -> None:
    found = trains("a", *BEST, "train.checkpoint_steps=2")["training"]
    best = min(losses("a"), key=losses("a").__getitem__)
    assert best < found["steps"] == 30
    assert found["kept_step"] == found["validation"]["best_step"] == best
    assert losses("a")[best] == pytest.approx(mean_loss(Path("a")), rel=1e-5)
    weights = [load_file(Path(f, "model.safetensors")) for f in ("a", f"a.steps/step-{best:08d}")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not Path("a.state").exists()
    last = trains("last", *BEST, "train.keep=last")
    assert last["weights"]["digest"] != manifest("a")["weights"]["digest"]
    assert history("a") == history("last")
    assert found["validation"]["parted_after"] == best
    drawn = Path("a/history.svg").read_text()
    assert f"the weights are those of step {best}" in drawn


def test_weights_that_an_optimizer_means_to_be_kept_are_validated_and_kept(
    trains: Callable[..., Any],
) -> None:
    """Schedule-free, it trains with others (https://github.com/facebookresearch/schedule_free)."""
    free = "optimizer={name: custom, path: 'pytorch_optimizer:ScheduleFreeAdamW', lr: 3e-2}"
    settings = ("schedule.name=constant", "train.epochs=4", free)
    found = trains("a", *settings, *VALIDATE, "train.keep=best", "train.checkpoint_steps=4")
    trains("plain", *settings)
    assert [{**row, "validation_loss": None} for row in history("a")] == history("plain")
    assert losses("a")[4] == pytest.approx(mean_loss(Path("a.steps/step-00000004")), rel=1e-5)
    best = found["training"]["kept_step"]
    assert best < 12
    assert losses("a")[best] == pytest.approx(mean_loss(Path("a")), rel=1e-5)


@pytest.mark.parametrize(
    ("stops", "lora"), [((3, 9), "null"), pytest.param((5, 6), "{r: 2}", marks=pytest.mark.slow)]
)
def test_a_resumed_run_keeps_the_same_best(
    stops: Sequence[int], lora: str, trains: Callable[..., Any], validated: Path
) -> None:
    overrides = (
        *BEST, "train.save_steps=4", "train.checkpoint_steps=3", "train.patience=5", f"lora={lora}"
    )  # fmt: skip
    whole = trains("whole", *overrides)
    if lora == "null":
        assert whole["training"]["kept_step"] < whole["training"]["steps"] < 30
    interrupt(validated, *overrides, after=stops[0])
    interrupt(validated, *overrides, after=stops[1], resume=True)
    shutil.rmtree(f"a.state/step-{stops[1]:08d}")  # an earlier one is left
    written = {path: path.stat().st_mtime_ns for path in Path("a.steps").glob("*/ftreg.json")}
    resumed = trains("a", *overrides, more=["--resume"])
    assert resumed["identity"] == whole["identity"]
    assert history("a") == history("whole")
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    names = sorted(path.name for path in Path("a.steps").iterdir())
    assert names == sorted(path.name for path in Path("whole.steps").iterdir())
    for name in names:
        assert (
            manifest(f"a.steps/{name}")["identity"] == manifest(f"whole.steps/{name}")["identity"]
        )


def test_best_weights_that_are_gone_or_changed_are_refused(
    trains: Callable[..., Any], cli: Cli, validated: Path
) -> None:
    interrupt(validated, *BEST, after=5)
    (file,) = Path("a.state").glob("best-*/model.safetensors")
    whole = file.read_bytes()
    given = [part for item in BEST for part in ("-s", item)]
    for content in (whole[:-1] + bytes([whole[-1] ^ 1]), None):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        done = cli("train", validated, *given, "-o", "a", "--resume")
        assert done.code == 2, done
        assert "without its best weights so far" in done.err
    file.write_bytes(whole)
    trains("a", *BEST, more=["--resume"])


def test_patience_ends_the_run_which_is_said_and_reproduced(
    trains: Callable[..., Any], cli: Cli, validated: Path
) -> None:
    given = [part for item in (*BEST, "train.patience=3") for part in ("-s", item)]
    done = cli("train", validated, *given, "-o", "a")
    assert done.code == 0, done
    found = manifest("a")["training"]
    best = found["kept_step"]
    assert found["stopped_early"]
    assert found["steps"] == best + 3 * 2
    assert list(losses("a"))[-4] == best
    assert f"stopping early, after step {found['steps']} of 30: 3 validations" in done.err
    assert "stopped early, 30 steps were asked for" in " ".join(done.out.split())
    done = cli("reproduce", "a", "--json")
    assert done.code == 0, done
    assert done.json["outcome"] == "reproduced"
    assert done.json["first_loss_difference"] is None


def test_checkpoints_on_the_way_are_ordinary_and_limited(
    trains: Callable[..., Any], cli: Cli, workspace: Path
) -> None:
    settings = (
        *VALIDATE, "train.epochs=3", "train.checkpoint_steps=2", "train.checkpoint_total_limit=3"
    )  # fmt: skip
    whole = trains("checkpoints/a", *settings)
    assert whole["weights"]["digest"] == trains("b", "train.epochs=3")["weights"]["digest"]
    names = [f"a.steps/step-{step:08d}" for step in (4, 6, 8)]
    listed = cli("checkpoints", "list", "--json").json["checkpoints"]
    assert [item["name"] for item in listed] == ["a", *names]
    for name in names:
        assert cli("checkpoints", "show", f"checkpoints/{name}").code == 0
    assert manifest(f"checkpoints/{names[0]}")["training"]["steps"] == 4
    assert len(history(f"checkpoints/{names[0]}")) == 4
    done = cli("eval", names[0], "--no-gate", "-q", "--json")
    assert done.code == 0, done
    (page,) = Path("evaluations").glob("*/report.html")
    assert "The history of a.steps" not in page.read_text()
    assert "Loss per token, in nats" in page.read_text()
    assert "candidate, validation: <bdi>" in page.read_text()
    assert f"validation loss {losses('checkpoints/a')[4]:.3f} after step 4" in page.read_text()
    done = cli("reproduce", f"checkpoints/{names[0]}")
    assert done.code == 2
    assert "only complete runs are reproduced" in done.err
    # They stay when the checkpoint goes, and are not written over.
    shutil.rmtree("checkpoints/a")
    done = cli("train", "run.yaml", "-o", "checkpoints/a")
    assert done.code == 2
    assert "checkpoints/a.steps holds checkpoints of another run" in done.err


def test_checkpoints_of_a_recipe_that_was_changed_are_not_taken_for_the_runs(
    trains: Callable[..., Any], cli: Cli, validated: Path
) -> None:
    settings = ("train.epochs=3", "train.checkpoint_steps=2", "train.save_steps=3")
    interrupt(validated, *settings, after=5)
    shutil.rmtree("a.state/step-00000005")  # the state of step 3 is left, and a checkpoint of 4
    given = [part for item in settings for part in ("-s", item)]
    changed = ("-s", "optimizer.lr=2e-3", "--allow-change", "optimizer.lr")
    done = cli("train", validated, *given, *changed, "-o", "a", "--resume")
    assert done.code == 2
    assert "a.steps/step-00000004 comes from another recipe" in done.err
    shutil.rmtree("a.steps/step-00000004")
    trains("a", *settings, "optimizer.lr=2e-3", more=["--resume", *changed[2:]])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["dataset.validation_split=eval"], "biased in its favour"),
        (["dataset.validation_split=train"], "training rows always falls"),
        (["dataset.validation_split=nowhere"], "has no split 'nowhere'; it has copy, eval, train"),
        (["dataset.validation_split=copy"], "the rows of 'copy' are those of 'eval'"),
        (["dataset.max_validation_examples=3"], "needs validation_split"),
        (["train.keep=best"], "train.keep needs a validation loss"),
        (["train.patience=2"], "train.patience needs a validation loss"),
        (["train.validate_steps=2"], "train.validate_steps needs a validation loss"),
        (["train.checkpoint_total_limit=2"], "needs checkpoint_steps"),
        ([*VALIDATE, "train.patience=0"], "train.patience"),
    ],
)  # fmt: skip
def test_what_cannot_be_validated_ends_with_2(
    overrides: Sequence[str], said: str, cli: Cli, validated: Path
) -> None:
    add_split("copy", rows_of(8))
    given = [part for item in overrides for part in ("-s", item)]
    done = cli("train", validated, *given, "-o", "a")
    assert done.code == 2, done
    assert said in " ".join(done.err.split())
    assert not Path("a").exists()


def test_a_checkpoint_is_not_judged_by_the_rows_that_chose_it(
    trains: Callable[..., Any], cli: Cli
) -> None:
    trains("a", *VALIDATE)
    done = cli("eval", "a", "--no-gate", "-s", "dataset.eval_split=validation")
    assert done.code == 2
    assert "cannot judge it" in done.err


def test_rows_that_are_evaluated_too_are_named(cli: Cli, validated: Path) -> None:
    add_split("mixed", [*rows_of(2), *rows_of(12)[10:]])
    done = cli("train", validated, "-s", "dataset.validation_split=mixed", "-o", "a")
    assert done.code == 0, done
    assert "of the split 'eval', 2 of 8 rows (25.0 %) repeat one" in done.err
    assert re.search(r"training 3/3  loss \d\.\d+  validation \d\.\d+  ", done.err)


def test_what_was_validated_on_cannot_change_on_the_way(cli: Cli, validated: Path) -> None:
    interrupt(validated, *VALIDATE, after=2)
    add_split("other", rows_of(12)[9:])
    for key, value in (("dataset.validation_split", "other"), ("train.keep", "best")):
        given = [part for item in (*VALIDATE, f"{key}={value}") for part in ("-s", item)]
        done = cli("train", validated, *given, "-o", "a", "--resume", "--allow-change", key)
        assert done.code == 2
        assert "this state cannot be continued with" in done.err


def test_a_run_may_begin_to_validate_on_the_way(
    trains: Callable[..., Any], validated: Path
) -> None:
    interrupt(validated, after=2)
    found = trains(
        "a", *VALIDATE, "train.patience=5",
        more=["--resume", "--allow-change", "dataset", "--allow-change", "train"],
    )  # fmt: skip
    assert losses("a").keys() == {3}
    assert found["training"]["resumed"][0]["after_step"] == 2


def test_a_validation_loss_that_is_not_finite_ends_with_1(
    trains: Callable[..., Any], cli: Cli, validated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are finite, and their logits on these rows are not."""
    from ftreg.training import validation

    monkeypatch.setattr(validation.Validation, "measure", lambda *given: float("nan"))
    given = [part for item in VALIDATE for part in ("-s", item)]
    done = cli("train", validated, *given, "-o", "a")
    assert done.code == 1, done
    assert "training diverged at step 2: the validation loss after it is nan" in done.err
    assert history("a.failed")[-1]["validation_loss"] == "nan"
    assert not Path("a").exists()


def test_each_replica_keeps_its_own_best(trains: Callable[..., Any], cli: Cli) -> None:
    settings = (*BEST, "train.epochs=3", "train.checkpoint_steps=4")
    given = [part for item in settings for part in ("-s", item)]
    done = cli("train", "run.yaml", *given, "-s", "train.seeds=[1, 2]", "-o", "checkpoints/g")
    assert done.code == 0, done
    for seed in (1, 2):
        found = manifest(f"checkpoints/g/seed-{seed}")["training"]
        assert found["kept_step"] == found["validation"]["best_step"]
        assert len(list(Path(f"checkpoints/g/seed-{seed}.steps").iterdir())) == 2
    assert cli("eval", "g", "--no-gate", "-q").code == 0


def record(step: int, loss: float, validation: float | None) -> StepRecord:
    return StepRecord(
        step=step, loss=loss, lr=0, grad_norm=0, step_size=0, examples=0, tokens=0,
        loss_tokens=0, tokens_per_second=0, validation_loss=validation,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("validation", "training", "expected"),
    [
        ([2.0, 1.5, 1.6, 1.7, 1.8], [2.0, 1.8, 1.6, 1.4, 1.2], 2),
        ([2.0, 1.5, 1.6, 1.7], [2.0, 1.8, 1.6, 1.4], None),  # two say too little
        ([2.0, 1.5, 1.6, 1.505, 1.8], [2.0, 1.8, 1.6, 1.4, 1.2], None),  # one is nearly as low
        ([2.0, 1.5, 1.504, 1.503, 1.505], [2.0, 1.8, 1.6, 1.4, 1.2], None),  # a plateau
        ([2.0, 1.5, 1.6, 1.7, 1.8], [1.0, 1.2, 1.4, 1.6, 1.8], None),  # both rise
        ([2.0, 1.5, 1.9, 1.4, 1.3], [2.0, 1.8, 1.6, 1.4, 1.2], None),  # one noisy point
        ([2.0, 1.5, None, 1.6, None, 1.7, 1.8], [2.0, 1.8, 1.7, 1.6, 1.5, 1.4, 1.2], 2),
        ([None, None], [1.0, 0.9], None),
    ],
)
def test_when_two_losses_part(
    validation: Sequence[float | None], training: Sequence[float], expected: int | None
) -> None:
    rows = [
        record(step, loss, value)
        for step, (loss, value) in enumerate(zip(training, validation, strict=True), start=1)
    ]
    assert parted_after(rows) == expected
