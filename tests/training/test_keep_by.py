"""The checkpoint that a scorer chooses: which it is, and that nothing on the way changes it."""

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftreg.config.load import load_config
from ftreg.errors import InterruptedRunError
from ftreg.training.run import train
from tests.conftest import Cli, Result, add_split, rows_of

LENGTH = "tests.fakes:length_scorer"
KEEP_BY = (
    "dataset.validation_split=validation",
    "train.keep=best",
    f"train.keep_by={LENGTH}",
    "train.checkpoint_steps=4",
    "train.epochs=5",
    "optimizer.lr=1e-2",
    "schedule.name=constant",
)


@pytest.fixture
def chooses(cli: Cli, talking_config: Path) -> Callable[..., Result]:
    """Train the talking model, by default into `a`, with a scorer that chooses."""
    add_split("validation", rows_of(6, "v"))

    def run(*overrides: str, folder: str = "a", more: Sequence[str] = ()) -> Result:
        given = [part for item in (*KEEP_BY, *overrides) for part in ("-s", item)]
        return cli("train", talking_config, *given, "-o", folder, *more)

    return run


def manifest(folder: str | Path) -> Any:
    return json.loads(Path(folder, "ftreg.json").read_text())


def weights(folder: str | Path) -> str:
    return str(manifest(folder)["weights"]["digest"])


def mean_length(folder: Path) -> float:
    """The mean of LENGTH on the validation rows, by transformers alone, a row at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for line in Path("datasets/colours/v1/validation.jsonl").read_text().splitlines():
        row = json.loads(line)
        asked = [{"role": "user", "content": f"{row['context']}\n{row['input']}"}]
        given = tokenizer.apply_chat_template(
            asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = model.generate(**given, max_new_tokens=4, do_sample=False)[0]
        written = tokenizer.decode(ids[given["input_ids"].shape[1] :], skip_special_tokens=True)
        found.append(min(1.0, len(written.strip()) / 40))
    return sum(found) / len(found)


def test_the_checkpoint_with_the_highest_mean_is_kept_and_reproduced(
    chooses: Callable[..., Result], cli: Cli
) -> None:
    done = chooses()
    assert done.code == 0, done
    found = manifest("a")["training"]
    steps = {step: Path(f"a.steps/step-{step:08d}") for step in (4, 8, 12, 15)}
    expected = {str(step): mean_length(folder) for step, folder in steps.items()}
    assert found["kept_by"]["means"] == pytest.approx(expected)
    assert (found["kept_by"]["scorer"], found["kept_by"]["rows"]) == (LENGTH, 6)
    best = found["kept_step"]
    assert expected[str(best)] == max(expected.values()) > min(expected.values())
    assert best != found["validation"]["best_step"]
    assert weights("a") == weights(steps[best]) != weights(steps[15])
    assert found["steps"] == len(Path("a/history.jsonl").read_text().splitlines()) == 15
    assert f"the weights are those of step {best}, by {LENGTH}" in " ".join(done.out.split())
    assert not Path("a.state").exists()
    done = cli("reproduce", "a", "--json", "-o", "again")
    assert done.code == 0, done
    assert done.json["outcome"] == "reproduced"
    assert manifest("again")["training"]["kept_by"] == found["kept_by"]
    # Its configuration evaluates it with other scorers too.
    done = cli("eval", "a", "--no-gate", "-q", "-s", "eval.scorers=[equals]", "-s",
               "gate.constant=[]")  # fmt: skip
    assert done.code == 0, done


def test_of_equal_means_the_earliest_is_kept_and_a_missing_score_counts_0(
    chooses: Callable[..., Result], talking_config: Path
) -> None:
    scores: list[list[float | None]] = [[0.5] * 6, [None, None, None, 1.0, 1.0, 1.0]]
    shorter = ("train.checkpoint_steps=2", "train.epochs=1")
    made = train(
        load_config(talking_config, overrides=(*KEEP_BY, *shorter)),
        output=Path("a"), judge=lambda *given: scores.pop(0),
    )  # fmt: skip
    found = made.manifest.training.kept_by
    assert found is not None
    assert (found.means, found.missing) == ({2: 0.5, 3: 0.5}, {2: 0, 3: 3})
    assert made.manifest.training.kept_step == 2


def test_a_choice_that_is_interrupted_goes_on(
    chooses: Callable[..., Result], talking_config: Path
) -> None:
    """In a run that patience has ended, after a step whose checkpoint is not due."""
    early = (
        "train.validate_steps=3", "train.patience=1", "optimizer.lr=5e-2", "train.epochs=10",
    )  # fmt: skip
    done = chooses(*early, folder="whole")
    assert done.code == 0, done
    whole = manifest("whole")
    last = whole["training"]["steps"]
    assert whole["training"]["stopped_early"]
    assert last % 4

    def judge(*given: Any) -> list[float]:
        os.kill(os.getpid(), signal.SIGINT)
        return [1.0] * 6

    with pytest.raises(InterruptedRunError, match="all steps are taken"):
        train(
            load_config(talking_config, overrides=(*KEEP_BY, *early)),
            output=Path("a"), judge=judge,
        )  # fmt: skip
    assert not Path("a").exists()
    for change in ("eval.max_new_tokens=5", "train.checkpoint_steps=3"):
        done = chooses(*early, change, more=["--resume", "--allow-change", "train"])
        assert done.code == 2
        assert change.split("=")[0] in done.err
    gone = Path("a.steps/step-00000004")
    gone.rename("aside")
    done = chooses(*early, more=["--resume"])
    assert done.code == 2
    assert str(gone) in done.err
    assert "All steps are taken" in done.err
    Path("aside").rename(gone)
    written = {path: path.stat().st_mtime_ns for path in Path("a.steps").glob("*/ftreg.json")}
    done = chooses(*early, more=["--resume"])
    assert done.code == 0, done
    assert manifest("a")["identity"] == whole["identity"]
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    assert manifest("a")["training"]["resumed"][0]["after_step"] == last


def test_each_replica_of_adapters_keeps_its_own(chooses: Callable[..., Result]) -> None:
    shorter = ("train.checkpoint_steps=2", "train.epochs=1")
    done = chooses("train.seeds=[1, 2]", "lora={r: 2}", *shorter, folder="g")
    assert done.code == 0, done
    for seed in (1, 2):
        found = manifest(f"g/seed-{seed}")["training"]
        assert found["kept_by"]["means"].keys() == {"2", "3"}
        chosen = f"g/seed-{seed}.steps/step-{found['kept_step']:08d}"
        assert weights(f"g/seed-{seed}") == weights(chosen)


def test_a_scorer_that_scores_nothing_chooses_nothing(
    chooses: Callable[..., Result],
) -> None:
    broken = "tests.fakes:broken_scorer"
    done = chooses(
        f"train.keep_by={broken}", f"eval.scorers=[{broken}]", "gate.constant=[]", "train.epochs=1"
    )
    assert done.code == 2
    assert f"the scorer {broken} failed on the row" in done.err
    assert not Path("a").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.keep_by=faithfulness"], "not in eval.scorers (equals, "),
        (["train.keep_by=validation_loss"], "null keeps by the validation loss"),
        (["train.keep=last"], "keep_by needs keep: best, which is last"),
        (["train.checkpoint_steps=null"], "so it needs checkpoint_steps"),
        (["train.checkpoint_total_limit=2"], "checkpoint_total_limit deletes them earlier"),
        (["dataset.validation_split=null"], "train.keep needs a validation loss"),
        (["dataset.validation_split=empty"], "empty"),
        (["eval.engine={name: openai, base_url: 'http://h/v1', model: m}"], "a server with"),
        (["eval.scorers=[{name: equals, options: {nonsense: 1}}]", "train.keep_by=equals",
          "gate.constant=[]"], "nonsense"),
    ],
)  # fmt: skip
def test_what_cannot_choose_ends_with_2_before_training(
    overrides: Sequence[str], said: str, chooses: Callable[..., Result]
) -> None:
    if said == "empty":
        add_split("empty", [])
    done = chooses(*overrides)
    assert done.code == 2, done
    assert said in " ".join(done.err.split())
    assert not Path("a.steps").exists()
