"""`ftreg blame`: training rows ranked by gradients, and proven by training without them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from ftreg.models.assistant_turn import RenderedExample
from ftreg.records.checkpoint import read_checkpoint
from ftreg.why.blame_proof import choose_suspects, gain_of_leaving_out, random_rows
from ftreg.why.influence import Contrast, harm_of_rows, load_with_gradients
from tests.conftest import Cli

LENGTH = "tests.fakes:length_scorer"


def _two(cli: Cli, config: Path, *more: str) -> None:
    """A baseline and a candidate of another learning rate, both evaluated."""
    for name, lr in (("base", "1e-3"), ("new", "3e-2")):
        trained = cli(
            "train", config, "-o", f"checkpoints/{name}", "-s", f"optimizer.lr={lr}", *more
        )
        assert trained.code == 0, trained
        assert cli("eval", name, "--no-gate", "--no-report").code == 0
    made = sorted(Path("evaluations").iterdir(), key=lambda folder: folder.stat().st_mtime)
    for folder, name in zip(made, ("base", "new"), strict=True):
        folder.rename(Path("evaluations") / name)
        header = Path("evaluations") / name / "evaluation.json"
        assert json.loads(header.read_text("utf-8"))["checkpoint"]["name"] == name


ASKED = ("--against", "evaluations/base", "--scorer", LENGTH, "--example", "e0", "--example", "e1")


def test_each_arm_is_trained_without_its_rows_and_compared(cli: Cli, talking_config: Path) -> None:
    _two(cli, talking_config)
    done = cli("blame", "evaluations/new", *ASKED, "--suspects", "2", "--seeds", "2", "--json")
    assert done.code == 0, done
    found = done.json
    assert found["examples"] == ["e0", "e1"]
    assert (found["rows"], found["states"], len(found["suspects"])) == (12, 1, 2)
    harms = [item["harm"] for item in found["suspects"]]
    assert harms == sorted(harms, reverse=True)
    names = {item["id"] for item in found["suspects"]}
    assert set(found["named"]) == (names if found["outcome"] == "confirmed" else set())
    (runs,) = (path for path in Path("checkpoints/new.blame").iterdir() if path.is_dir())
    for seed in (1, 2):
        kept = _trained_on(runs, f"without-suspects-seed-{seed}")
        assert {f"t{i}" for i in range(12)} - kept == names
        others = {f"t{i}" for i in range(12)} - _trained_on(runs, f"without-random-seed-{seed}")
        assert len(others) == 2
        assert not others & names
    # The delta is that of the kept evaluations, read by themselves.
    deltas = [
        _mean(runs / "evaluations" / f"without-suspects-seed-{seed}")
        - _mean(Path("evaluations/base"))
        for seed in (1, 2)
    ]
    assert found["proof"]["without_suspects"]["by_seed"] == pytest.approx(deltas)
    gain = found["proof"]["without_suspects"]["delta"] - found["proof"]["without_random"]["delta"]
    assert found["proof"]["gain"] == pytest.approx(gain)
    # What is there is taken as it is, and none of it is listed among the checkpoints.
    times = {path: path.stat().st_mtime_ns for path in runs.rglob("ftreg.json")}
    assert len(times) == 4
    again = cli("blame", "evaluations/new", *ASKED, "--suspects", "2", "--seeds", "2", "--json")
    assert again.json == found
    assert times == {path: path.stat().st_mtime_ns for path in runs.rglob("ftreg.json")}
    listed = cli("checkpoints", "list", "--json").json["checkpoints"]
    assert [item["name"] for item in listed] == ["base", "new"]
    kept = json.loads(Path("evaluations/new/blame.json").read_text("utf-8"))
    assert kept["outcome"] == found["outcome"]


def _trained_on(runs: Path, name: str) -> set[str]:
    checkpoint = read_checkpoint(runs / "checkpoints" / name)
    assert checkpoint.manifest.dataset.rows == 10
    assert checkpoint.manifest.training.seed == int(name[-1])
    path = runs / "datasets" / name / "colours" / "v1" / "train.jsonl"
    return {json.loads(line)["id"] for line in path.read_text("utf-8").splitlines()}


def _mean(folder: Path) -> float:
    rows = map(json.loads, (folder / "scores.jsonl").read_text("utf-8").splitlines())
    wanted = [row for row in rows if row["scorer"] == LENGTH and row["id"] in ("e0", "e1")]
    return sum(row["score"] for row in wanted) / len(wanted)


def test_where_nothing_is_worse_for_certain_nothing_is_trained(
    cli: Cli, talking_config: Path
) -> None:
    _two(cli, talking_config)
    against = ("--against", "evaluations/base", "--json")
    done = cli("blame", "evaluations/new", "--scorer", "equals", *against)
    assert done.code == 0
    assert (done.json["outcome"], done.json["named"], done.json["proof"]) == ("not worse", [], None)
    assert not Path("checkpoints/new.blame").exists()
    # A ranking alone is called what it is; adapters or not, it trains nothing either.
    ranked = cli("blame", "evaluations/new", *ASKED, "--no-proof")
    assert ranked.code == 0
    assert "not proven" in ranked.out
    for arguments, code, told in (
        (["evaluations/new", "--example", "e99"], 2, "it has no score on both sides"),
        (["evaluations/new", "--scorer", "equal"], 2, "did you mean equals"),
        (["evaluations/new", "--against", "baseline"], 3, "there is no baseline yet"),
    ):
        wrong = cli("blame", *arguments[:1], "--against", "evaluations/base", *arguments[1:])
        assert wrong.code == code
        assert told in wrong.err
    Path("checkpoints/new").rename("elsewhere")
    gone = cli("blame", "evaluations/new", *ASKED)
    assert gone.code == 3
    assert "its gradients are needed" in gone.err


def test_of_adapters_only_they_take_gradients(cli: Cli, talking_config: Path) -> None:
    lora = ("-s", "lora={r: 2}", "-s", "train.checkpoint_steps=1")
    _two(cli, talking_config, *lora)
    model = load_with_gradients(read_checkpoint(Path("checkpoints/new")))
    trained = {name for name, part in model.named_parameters() if part.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if "lora_" in name}
    assert trained
    done = cli("blame", "evaluations/new", *ASKED, "--no-proof", "--json")
    assert done.code == 0, done
    # Every state of the run that is at hand is asked.
    midway = len(list(Path("checkpoints/new.steps").iterdir()))
    assert done.json["states"] == midway + 1 - _same_as_last()


def _same_as_last() -> int:
    last = read_checkpoint(Path("checkpoints/new")).manifest.weights.digest
    return sum(
        read_checkpoint(path).manifest.weights.digest == last
        for path in Path("checkpoints/new.steps").iterdir()
    )


def _mean_loss(model: Any, example: RenderedExample) -> torch.Tensor:
    ids = torch.tensor([[*example.prompt, *example.answer]])
    labels = torch.full_like(ids, -100)
    for begin, end in [*example.earlier, (len(example.prompt), ids.shape[1])]:
        labels[0, begin:end] = ids[0, begin:end]
    return functional.cross_entropy(model(input_ids=ids).logits[0, :-1], labels[0, 1:])


def test_the_harm_is_what_a_small_step_on_the_row_does(talking_model: Path) -> None:
    """Held against finite differences in float64: the step itself, and both answers' losses."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(talking_model).double().eval()
    worse, better = RenderedExample([5, 9], [7, 8, 2]), RenderedExample([5, 9], [11, 2])
    chat = RenderedExample([5, 9, 33, 2, 41], [70, 2], earlier=((2, 4),))
    rows = [worse, better, RenderedExample([5, 9, 41], [70, 2]), chat]
    found = harm_of_rows(model, rows, [Contrast(worse, better)])

    def parameters() -> list[torch.Tensor]:
        return [part for part in model.parameters() if part.requires_grad]

    def moved(example: RenderedExample, size: float) -> float:
        """How far a step of a length moves the loss of the better answer from the worse one's."""
        step = torch.autograd.grad(_mean_loss(model, example), parameters())
        norm = torch.sqrt(sum((part**2).sum() for part in step))
        with torch.no_grad():
            for part, gradient in zip(parameters(), step, strict=True):
                part -= size / norm * gradient
            after = float(_mean_loss(model, better) - _mean_loss(model, worse))
            for part, gradient in zip(parameters(), step, strict=True):
                part += size / norm * gradient
        return after

    pull = torch.autograd.grad(_mean_loss(model, worse) - _mean_loss(model, better), parameters())
    length = float(torch.sqrt(sum((part**2).sum() for part in pull)))
    for row, harm in zip(rows, found, strict=True):
        slope = (moved(row, 1e-3) - moved(row, -1e-3)) / 2e-3
        assert harm == pytest.approx(slope / length, abs=0.01)  # norms are float32
    assert found[0] > 0 > found[1]


def test_the_most_harmful_twentieth_is_suspected() -> None:
    harms = [0.01 * (i % 7) for i in range(140)]
    for at in (3, 50, 120, 121, 139):
        harms[at] = 0.8 + at / 10_000
    assert choose_suspects(harms)[:5] == [139, 121, 120, 50, 3]
    assert len(choose_suspects(harms)) == 7
    assert choose_suspects(harms, count=2) == [139, 121]
    assert choose_suspects([0.2, 0.3, 0.1]) == [1, 0]


def test_random_rows_are_others_and_the_seeds() -> None:
    suspects = list(range(20))
    drawn = random_rows(100, without=suspects, count=20, seed=1)
    assert drawn == random_rows(100, without=suspects, count=20, seed=1)
    assert drawn != random_rows(100, without=suspects, count=20, seed=2)
    assert len(set(drawn)) == 20
    assert not set(drawn) & set(suspects)
    assert len(random_rows(30, without=suspects, count=20, seed=1)) == 10


def test_a_gain_counts_beyond_margin_and_noise_of_seeds() -> None:
    ids = [f"e{i}" for i in range(30)]
    low = {name: [0.1, 0.1, 0.2] for name in ids}
    high = {name: [0.9, 0.8, 0.9] for name in ids}
    effect = gain_of_leaving_out(low, high, margin=0.05, confidence=0.95)
    assert effect is not None
    assert effect.gain == pytest.approx(2.6 / 3 - 0.4 / 3)
    assert effect.interval.low < effect.gain < effect.interval.high
    assert effect.p_value < 0.01
    noisy = {name: [0.9, 0.1, 0.2] for name in ids}
    unsure = gain_of_leaving_out(low, noisy, margin=0.05, confidence=0.95)
    assert unsure is not None
    assert unsure.p_value > 0.05
    assert gain_of_leaving_out({}, {}, margin=0.05, confidence=0.95) is None
