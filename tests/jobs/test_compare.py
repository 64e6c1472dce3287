"""`ftreg compare` over stored evaluations, and `ftreg train` with several configurations."""

import importlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator
from scipy import stats
from syrupy.assertion import SnapshotAssertion

from ftreg.config.policy import GatePolicy
from ftreg.gate.mean import mean_interval
from ftreg.records.evaluation.rows import Run
from ftreg.records.evaluation.stored import write_evaluation
from ftreg.records.samples import Example, Output, Score
from tests.conftest import Cli
from tests.drawn import unpadded

ROOT = Path(__file__).parents[2]
Column = Sequence[float | None]


def store(
    name: str,
    scores: Mapping[str, Column | Mapping[int, Column]],
    *,
    optimizer: str = "adamw",
    lr: float = 1e-4,
    digest: str = "1" * 64,
    precision: str = "fp32",
    version: int = 1,
    clusters: int | None = None,
    first: int = 0,
) -> None:
    """Store an evaluation whose examples are easy and hard by turns; scores may be by seed."""
    some = next(iter(scores.values()))
    seeds = list(some) if isinstance(some, Mapping) else [None]
    count = len(next(iter(some.values())) if isinstance(some, Mapping) else some)
    examples = [
        Example(
            id=f"e{index:04d}",
            input=f"Question {index}?",
            references=("Answer.",),
            tags={
                "difficulty": "hard" if index % 2 else "easy",
                "group": f"g{index // (clusters or 1)}",
            },
        )
        for index in range(first, first + count)
    ]

    def column(scorer: str, seed: int | None) -> list[Score]:
        found: Any = scores[scorer] if seed is None else scores[scorer][seed]  # type: ignore[call-overload]
        return [Score(None, "no claims") if value is None else Score(value) for value in found]

    outputs = [Output(id=row.id, text="Answer.", tokens=2, finish="stop") for row in examples]
    of_seeds = {} if seeds == [None] else {"seeds": seeds}
    write_evaluation(
        Path("evaluations") / name,
        header={
            "created": f"2026-01-01T00:00:00.000+00:00 {name}",
            "ftreg": "0.1.0",
            "checkpoint": {
                "name": f"of-{name}",
                "identity": name.ljust(64, "0"),
                "optimizer": optimizer,
                "lr": lr,
                "last_loss": 1.5,
                "recipe": {"optimizer.name": optimizer, "optimizer.lr": lr},
                **of_seeds,
            },
            "dataset": {
                "name": "desk",
                "version": "desk@1",
                "digest": digest,
                "split": "eval",
                "rows": count,
                "rows_digest": f"{first} {count}",
            },
            "generation": {
                "engine": "transformers",
                "decoding": "greedy",
                "max_new_tokens": 64,
                "precision": precision,
                "batch_size": 32,
                "cut_off": 0,
            },
            "policy": {"margin": 0.02, "resamples": 999},
            "leakage": {},
            "scorers": {scorer: {"name": scorer, "version": version} for scorer in scores},
        },
        examples=examples,
        runs={seed: Run(outputs, {name: column(name, seed) for name in scores}) for seed in seeds},
        cohort_tags={row.id: {"difficulty": row.tags["difficulty"]} for row in examples},
        cluster="group" if clusters else None,
    )


def graded(seed: int, *, shift: float = 0.0, hard: float = 0.0, count: int = 120) -> list[float]:
    """Scores around 0.7 that share most of their noise; those of hard rows move by `hard` too."""
    shared = np.random.default_rng(0).uniform(0.5, 0.85, count)
    own = np.random.default_rng(seed).uniform(-0.03, 0.03, count)
    moved = shared + own + shift + np.where(np.arange(count) % 2, hard, 0.0)
    return [round(float(value), 4) for value in moved]


def binary(seed: int, *, share: float, count: int = 120) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).random(count) < share]


def tournament() -> None:
    """Lion is better in hard rows, AdaGrad is worse, Adam equals AdamW."""
    flags = binary(9, share=0.7)
    store("a-adamw", {"faithfulness": graded(1), "equals": flags})
    store("b-lion", {"faithfulness": graded(2, hard=0.06), "equals": flags}, optimizer="lion")
    store("c-adagrad", {"faithfulness": graded(3, shift=-0.04), "equals": flags},
          optimizer="adagrad", lr=1e-2)  # fmt: skip
    store("d-adam", {"faithfulness": graded(4), "equals": flags}, optimizer="adam")


NAMES = ("a-adamw", "b-lion", "c-adagrad", "d-adam")


def contest(value: Any, scorer: str, cohort: str = "all") -> Any:
    (found,) = [
        item for item in value["contests"] if (item["scorer"], item["cohort"]) == (scorer, cohort)
    ]
    return found


def pair(found: Any, first: str, second: str) -> Any:
    (only,) = [
        item for item in found["pairs"] if {item["first"], item["second"]} == {first, second}
    ]
    assert (only["first"], only["second"]) == (first, second)
    return only


def fits(name: str, value: Any) -> None:
    published = json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text())
    Draft202012Validator(published).validate(value)


# -- what is shown ---------------------------------------------------------------------------


def test_the_tables(cli: Cli, snapshot: SnapshotAssertion) -> None:
    tournament()
    done = cli("compare", *NAMES)
    assert done.code == 0, done
    assert max(map(len, done.out.splitlines())) <= 80
    assert unpadded(done.out) == snapshot


def test_many_evaluations_still_fit_the_terminal(cli: Cli) -> None:
    names = [f"e{number}" for number in range(9)]
    for number, name in enumerate(names):
        store(name, {"answer_relevancy": graded(number)}, lr=2.5e-5, optimizer="mine:Optimizer")
    done = cli("compare", *names)
    assert done.code == 0, done
    assert max(map(len, done.out.splitlines())) <= 80
    for name in names:  # nine of one recipe are told apart by their checkpoints' names
        assert f"of-{name}" in done.out


def test_ranks_winners_and_the_pareto_front(cli: Cli) -> None:
    tournament()
    value = cli("compare", *NAMES, "--json").json
    fits("comparison", value)
    labels = [item["label"] for item in value["evaluations"]]
    assert labels == ["AdamW 1e-4", "Lion 1e-4", "AdaGrad 1e-2", "Adam 1e-4"]
    found = contest(value, "faithfulness")
    assert [mean["ranks"] for mean in found["means"]] == [[2, 3], [1, 1], [4, 4], [2, 3]]
    assert found["winner"] == "b-lion"
    # One column for all: nothing is told apart, every rank is possible.
    same = contest(value, "equals")
    assert same["winner"] is None
    assert {tuple(mean["ranks"]) for mean in same["means"]} == {(1, 4)}
    assert contest(value, "faithfulness", "difficulty=hard")["winner"] == "b-lion"
    assert contest(value, "faithfulness", "difficulty=easy")["winner"] is None
    front = value["pareto"]
    assert front["front"] == ["b-lion"]
    by_lion = {
        item["evaluation"]: item["told_apart"]
        for item in front["dominated"]
        if item["by"] == "b-lion"
    }
    assert by_lion == {name: ["faithfulness"] for name in NAMES if name != "b-lion"}


def test_a_front_of_several(cli: Cli) -> None:
    store("a", {"one": graded(1), "two": graded(2, shift=0.05)})
    store("b", {"one": graded(3, shift=0.05), "two": graded(4)}, optimizer="lion")
    store("c", {"one": graded(5, shift=-0.05), "two": graded(6, shift=-0.05)}, optimizer="sgd")
    front = cli("compare", "a", "b", "c", "--json").json["pareto"]
    assert front["front"] == ["a", "b"]
    assert {item["evaluation"] for item in front["dominated"]} == {"c"}


def test_neither_order_of_the_arguments_nor_a_name_changes_a_number(cli: Cli) -> None:
    tournament()
    forward = cli("compare", *NAMES, "--json").json
    backward = cli("compare", *reversed(NAMES), "--against", "a-adamw", "--json").json
    for key in ("contests", "pareto", "against", "policy"):
        assert forward[key] == backward[key]
    assert [item["id"] for item in backward["evaluations"]] == list(reversed(NAMES))
    # In another alphabetical order a pair turns round, and so do its numbers.
    store("z", {"faithfulness": graded(1)})
    store("y", {"faithfulness": graded(2, hard=0.06)}, optimizer="lion")
    turned = pair(contest(cli("compare", "y", "z", "--json").json, "faithfulness"), "y", "z")
    two = cli("compare", "a-adamw", "b-lion", "--json").json
    plain = pair(contest(two, "faithfulness"), "a-adamw", "b-lion")
    assert turned["delta"] == pytest.approx(-plain["delta"])
    assert turned["p_value"] == pytest.approx(plain["p_value"], abs=1e-3)
    low, high = plain["interval"]
    assert turned["interval"] == pytest.approx([-high, -low], abs=1e-3)


# -- numbers against other ways to reckon them -------------------------------------------------


def test_binary_scores_against_scipy(cli: Cli) -> None:
    columns = {name: binary(number, share=0.5 + number / 10) for number, name in enumerate("abc")}
    for name, column in columns.items():
        store(name, {"equals": column})
    found = contest(cli("compare", *"abc", "--json").json, "equals")
    expected = []
    for first, second in (("a", "b"), ("a", "c"), ("b", "c")):
        one, other = np.array(columns[first]), np.array(columns[second])
        changed = int((one != other).sum())
        p_value = stats.binomtest(int((other > one).sum()), changed, 0.5).pvalue
        shown = pair(found, first, second)
        assert shown["delta"] == pytest.approx(other.mean() - one.mean())
        # The interval's own, if larger, which knows of no symmetry.
        assert p_value * (1 - 1e-6) <= shown["p_value"] <= 1.1 * p_value
        expected.append((shown["p_value"], shown))
    running = 0.0
    for rank, (p_value, shown) in enumerate(sorted(expected, key=lambda item: item[0])):
        running = max(running, min(1.0, (3 - rank) * p_value))  # Holm's correction, by hand
        assert shown["p_adjusted"] == pytest.approx(running)
        assert shown["told_apart"] == (running <= 0.05)
    for mean in found["means"]:
        column = columns[mean["evaluation"]]
        assert mean["mean"] == pytest.approx(np.mean(column))
        low, high = stats.binomtest(int(sum(column)), 120).proportion_ci(method="exact")
        assert mean["interval"] == pytest.approx([low, high], abs=0.01)
        assert mean["interval"][0] <= low + 1e-3
        assert mean["interval"][1] >= high - 1e-3


def test_graded_scores_against_scipy(cli: Cli) -> None:
    count = 400
    before, after = graded(1, count=count), graded(2, shift=0.003, count=count)
    store("a", {"faithfulness": before})
    store("b", {"faithfulness": after})
    found = contest(cli("compare", "a", "b", "--json").json, "faithfulness")
    shown = pair(found, "a", "b")
    tested = stats.ttest_rel(after, before)
    assert shown["p_value"] == pytest.approx(tested.pvalue, abs=0.01)
    low, high = tested.confidence_interval()
    assert shown["interval"] == pytest.approx([low, high], abs=4e-4)
    for mean, column in zip(found["means"], (before, after), strict=True):
        error = np.std(column, ddof=1) / np.sqrt(count)
        ends = np.mean(column) + error * np.array([-1.96, 1.96])
        assert mean["interval"] == pytest.approx(ends, abs=3e-3)


def test_clusters_count_as_one(cli: Cli) -> None:
    values = np.repeat(np.random.default_rng(5).uniform(0.1, 0.9, 200), 3)
    rows = [round(float(value), 3) for value in values]
    store("a", {"faithfulness": rows}, clusters=3)
    store("b", {"faithfulness": graded(1, count=600)}, clusters=3)
    found = contest(cli("compare", "a", "b", "--json").json, "faithfulness")["means"][0]
    means = np.array(rows).reshape(200, 3).mean(axis=1)
    half = stats.t.ppf(0.975, 199) * means.std(ddof=1) / np.sqrt(200)
    low, high = found["interval"]
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)


def test_seeds_of_replicas_are_in_the_intervals(cli: Cli) -> None:
    shifts = {1: -0.03, 2: 0.0, 3: 0.03}
    by_seed = {seed: graded(seed, shift=shift, count=300) for seed, shift in shifts.items()}
    store("a", {"faithfulness": by_seed}, optimizer="lion")
    store("b", {"faithfulness": graded(8, shift=0.02, count=300)})
    value = cli("compare", "a", "b", "--json").json
    found = contest(value, "faithfulness")
    first, second = found["means"]
    assert (first["seeds"], second["seeds"]) == (3, 1)
    means = [np.mean(column) for column in by_seed.values()]
    reach = stats.t.ppf(0.975, 2) * np.std(means, ddof=1) / np.sqrt(3)
    rows = np.mean(list(by_seed.values()), axis=0)
    half = np.hypot(reach, 1.96 * rows.std(ddof=1) / np.sqrt(300))
    low, high = first["interval"]
    assert (high - low) / 2 == pytest.approx(half, rel=0.03)
    # 300 examples alone would tell them apart; seeds that lie so far apart do not.
    shown = pair(found, "a", "b")
    assert stats.ttest_rel(rows, graded(8, shift=0.02, count=300)).pvalue < 1e-6
    assert not shown["told_apart"]
    assert value["notes"] == [
        "one training seed of AdamW 1e-4: the noise of another seed is not covered"
    ]


def test_an_interval_of_a_mean_errs_no_more_often_than_it_says() -> None:
    chance = np.random.default_rng(0)
    misses = 0
    for _ in range(300):
        scores = np.where(chance.random(25) < 0.9, 1.0, chance.uniform(0, 1, 25))
        low, high = mean_interval(scores, confidence=0.95)
        misses += not low <= 0.95 <= high
    assert misses <= 24  # 15 expected; 24 are too many with a probability of 1 %


# -- what cannot be compared -------------------------------------------------------------------


def test_evaluations_that_were_not_made_alike(cli: Cli) -> None:
    scores = {"faithfulness": graded(1)}
    store("a", scores)
    store("b", scores, digest="2" * 64)
    done = cli("compare", "a", "b")
    assert done.code == 3
    assert f"dataset.digest: {'1' * 64} in a, {'2' * 64} in b" in done.err
    store("c", scores, precision="bf16")
    assert "generation.precision: fp32 in a, bf16 in c" in cli("compare", "a", "c").err
    store("d", scores, first=10)
    refused = cli("compare", "a", "d")
    assert refused.code == 3
    assert "rows in a only: e0000, e0001, e0002, e0003, e0004 and 5 more" in refused.err
    # Each pair is looked at, and not only those with the first.
    store("e", {"equals": graded(1)})
    store("f", {"equals": graded(1)}, version=2)
    refused = cli("compare", "a", "e", "f")
    assert refused.code == 3
    assert "scorers.equals.version: 1 in e, 2 in f" in refused.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a"], "a comparison needs two or more evaluations"),
        (["a", "a"], "a: a is named twice"),
        (["a", "latest"], "latest: b is named twice"),
        (
            ["a", "b", "--against", "c"],
            "--against c: it is not among the compared evaluations (a, b)",
        ),
        (["baseline"], "name a stored evaluation too"),
        (["a", "bb"], "did you mean b?"),
        (["a", "b", "--tag", "difficulty"], "--tag belongs to --routes"),
        (["a", "b", "--routes", "r.yaml", "--tag", "dificulty"], "did you mean difficulty?"),
    ],
)
def test_mistakes(arguments: list[str], expected: str, cli: Cli) -> None:
    store("a", {"faithfulness": graded(1)})
    store("b", {"faithfulness": graded(2)})
    if "latest" in arguments:
        arguments = ["b", "latest"]
        expected = expected.replace("a: a", "b: b")
    done = cli("compare", *arguments)
    assert done.code == 2, done
    assert expected in done.err
    assert not Path("r.yaml").exists()


def test_the_baseline_may_take_part(cli: Cli) -> None:
    tournament()
    assert cli("promote", "a-adamw", "--json").code == 0
    value = cli("compare", "baseline", "b-lion", "--json").json
    assert value["against"] == "a-adamw"
    assert pair(contest(value, "faithfulness"), "a-adamw", "b-lion")["told_apart"]
    assert "a-adamw is named twice" in cli("compare", "baseline", "a-adamw").err


def test_missing_scores_are_named_and_stop_only_their_own_pairs(cli: Cli) -> None:
    lacking: list[float | None] = [None, None, *graded(3, shift=-0.05)[2:]]
    store("a", {"faithfulness": graded(1)})
    store("b", {"faithfulness": graded(2, shift=0.05)}, optimizer="lion")
    store("c", {"faithfulness": lacking, "equals": graded(1)}, optimizer="sgd")
    done = cli("compare", *"abc", "--json")
    found = contest(done.json, "faithfulness")
    assert found["n"] == 118
    assert [mean["missing"] for mean in found["means"]] == [0, 0, 2]
    assert found["means"][0]["mean"] == pytest.approx(np.mean(graded(1)[2:]))
    only = pair(found, "a", "b")
    assert (only["n"], only["told_apart"]) == (120, True)
    assert len(found["pairs"]) == 1
    assert found["winner"] is None  # b may yet be no better than c
    assert [mean["evaluation"] for mean in contest(done.json, "equals")["means"]] == ["c"]
    text = re.sub(r"\s+", " ", cli("compare", *"abc").out)
    assert "faithfulness: of 120 scores SGD 1e-4 lacks 2" in text
    assert "2 of 3 pairs are not compared: more examples lack a score than max_missing 0" in text
    assert "equals: no such scorer in AdamW 1e-4, Lion 1e-4" in text
    Path("policy.yaml").write_text("max_missing: 0.05\nresamples: 999\n")
    allowed = cli("compare", *"abc", "--policy", "policy.yaml", "--json").json
    assert contest(allowed, "faithfulness")["winner"] == "b"
    assert pair(contest(allowed, "faithfulness"), "a", "c")["n"] == 118


def test_small_cohorts_have_no_winner(cli: Cli) -> None:
    store("a", {"faithfulness": graded(1, count=30)})
    store("b", {"faithfulness": graded(2, shift=0.1, count=30)}, optimizer="lion")
    value = cli("compare", "a", "b", "--json").json
    assert contest(value, "faithfulness")["winner"] == "b"
    small = contest(value, "faithfulness", "difficulty=hard")
    assert small["pairs"] == []
    assert small["note"] == "too small: 15 examples, fewer than min_cohort 20"


# -- routes ------------------------------------------------------------------------------------


def test_routes_send_a_cohort_to_whoever_is_better_at_it(cli: Cli) -> None:
    tournament()
    done = cli("compare", *NAMES, "--routes", "routes.yaml")
    assert done.code == 0, done
    routes = yaml.safe_load(Path("routes.yaml").read_text())
    fits("routes", routes)
    assert (routes["dataset"], routes["tag"]) == ("desk@1", "difficulty")
    assert routes["default"]["checkpoint"] == "of-a-adamw"
    assert routes["default"]["identity"] == "a-adamw".ljust(64, "0")
    hard, easy = routes["routes"]["hard"], routes["routes"]["easy"]
    assert (hard["checkpoint"], hard["optimizer"]) == ("of-b-lion", "lion")
    assert (hard["better"], hard["better_by"], hard["examples"]) == (True, ["faithfulness"], 60)
    odd = np.arange(120) % 2 == 1
    assert hard["scores"]["faithfulness"] == pytest.approx(
        np.array(graded(2, hard=0.06))[odd].mean(), abs=1e-6
    )
    assert hard["default_scores"]["faithfulness"] == pytest.approx(
        np.array(graded(1))[odd].mean(), abs=1e-6
    )
    # Not told apart: the default serves it.
    assert (easy["checkpoint"], easy["better"], easy["better_by"]) == ("of-a-adamw", False, [])


def test_better_by_one_scorer_does_not_outweigh_a_loss_by_another(cli: Cli) -> None:
    flags = binary(9, share=0.7)
    lost = [index for index, value in enumerate(flags) if value and index % 2][:4]
    fewer = [0.0 if index in lost else value for index, value in enumerate(flags)]
    store("a", {"faithfulness": graded(1), "equals": flags})
    store("b", {"faithfulness": graded(2, hard=0.06), "equals": fewer}, optimizer="lion")
    value = cli("compare", "a", "b", "--routes", "routes.yaml", "--json").json
    assert contest(value, "faithfulness", "difficulty=hard")["winner"] == "b"
    assert value["routes"]["routes"]["hard"]["checkpoint"] == "of-a"
    fits("comparison", value)
    # Where the policy allows such a drop, it is no loss.
    Path("policy.yaml").write_text("margins: {equals: 0.2}\nresamples: 999\n")
    value = cli("compare", "a", "b", "--routes", "r.yaml", "--policy", "policy.yaml", "--json").json
    assert value["routes"]["routes"]["hard"]["checkpoint"] == "of-b"


def test_markdown(cli: Cli) -> None:
    tournament()
    assert cli("compare", *NAMES, "--markdown", "compare.md").code == 0
    text = Path("compare.md").read_text()
    assert text.startswith("# Comparison on desk@1\n")
    assert "| scorer | AdamW 1e-4 | Lion 1e-4 | AdaGrad 1e-2 | Adam 1e-4 |" in text
    assert "- faithfulness: Lion 1e-4 wins" in text


# -- training several --------------------------------------------------------------------------


def test_several_configurations_are_trained_in_turn(cli: Cli, config: Path) -> None:
    for name, optimizer in (
        ("adamw", "{name: adamw, lr: 1e-3}"),
        ("broken", "{name: sgd, lr: 1e38}"),
        ("lion", "{name: lion, lr: 1e-4}"),
    ):
        Path(f"{name}.yaml").write_text(f"extends: {config.name}\noptimizer: {optimizer}\n")
    configs = ("adamw.yaml", "broken.yaml", "lion.yaml")
    changes = ("-s", "train.max_grad_norm=null")
    done = cli("train", *configs, *changes, "-o", "checkpoints/all", "--json")
    assert done.code == 1, done  # one diverged, and is named; the others are there
    assert "1 of 3 configurations failed:\n" in done.err
    assert "  broken.yaml: training diverged at step" in done.err
    adamw, broken, lion = done.json["runs"]
    assert (adamw["checkpoint"], lion["checkpoint"]) == (
        "checkpoints/all/adamw",
        "checkpoints/all/lion",
    )
    assert (broken["file"], broken["exit_code"]) == ("broken.yaml", 1)
    # All of them read the tokens that the first one prepared.
    assert len(list(Path("cache/prepared").glob("*.arrow"))) == 1
    assert done.err.count("tokenising 12/12") == 1
    # As it would have become alone.
    assert cli("train", "lion.yaml", *changes, "-o", "checkpoints/alone").code == 0
    alone = json.loads(Path("checkpoints/alone/ftreg.json").read_text())
    assert alone["identity"] == lion["identity"]
    # What is complete is not trained again.
    again = cli("train", "adamw.yaml", "lion.yaml", *changes, "-o", "checkpoints/all", "--resume")
    assert again.code == 0, again
    assert again.err.count("is already complete") == 2
    occupied = cli("train", "adamw.yaml", "lion.yaml", *changes, "-o", "checkpoints/all")
    assert occupied.code == 2
    assert "checkpoints/all/adamw" in occupied.err
    twice = cli("train", "adamw.yaml", "adamw.yaml", "-o", "checkpoints/two")
    assert twice.code == 2
    assert "would also write to checkpoints/two/adamw" in twice.err


@pytest.mark.slow
def test_folders_that_nobody_named_are_found_again(cli: Cli, config: Path) -> None:
    Path("other.yaml").write_text(f"extends: {config.name}\ntrain: {{seeds: [1, 2]}}\n")
    both = (config.name, "other.yaml", "-s", "train.max_steps=1")
    first = cli("train", *both, "--json")
    assert first.code == 0, first
    folders = [Path(run["checkpoint"]) for run in first.json["runs"]]
    assert [folder.name.partition("-")[0] for folder in folders] == ["run", "other"]
    assert (folders[1] / "seed-2" / "ftreg.json").is_file()
    (folders[1] / "ftreg-replicas.json").unlink()
    again = cli("train", *both, "--resume", "--json")
    assert again.code == 0, again
    assert [Path(run["checkpoint"]) for run in again.json["runs"]] == folders
    assert (folders[1] / "ftreg-replicas.json").is_file()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of `make bench` that simulates comparisons of known truth."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("bench_compare")


def test_equal_evaluations_are_told_apart_in_at_most_one_family_of_twenty(bench: Any) -> None:
    generator, policy, trials = np.random.default_rng(7), GatePolicy(resamples=999), 40
    most = stats.binom.isf(1e-3, trials, 0.05)
    plan = bench.Plan(4, 60, cohorts=2)
    found: Counter[str] = Counter()
    for _ in range(trials):
        contests = bench.compare(
            bench.WORLDS[0], plan, gain=0.0, policy=policy, generator=generator
        )
        found.update(bench.judge(contests, gain=0.0))
        pairs = [pair for contest in contests for pair in contest.pairs]
        found["uncorrected"] += any(pair.p_value <= 0.05 for pair in pairs)
    assert all(found[name] <= most for name in bench.ERRORS)
    # Without the correction over the family the same comparisons would not hold the bound.
    assert found["uncorrected"] > most


def test_the_better_one_is_found_and_the_rest_are_not_told_apart(bench: Any) -> None:
    generator, policy, trials = np.random.default_rng(8), GatePolicy(resamples=999), 40
    most = stats.binom.isf(1e-3, trials, 0.05)
    plan = bench.Plan(4, 400)
    found: Counter[str] = Counter()
    for _ in range(trials):
        contests = bench.compare(
            bench.WORLDS[0], plan, gain=bench.GAIN, policy=policy, generator=generator
        )
        found.update(bench.judge(contests, gain=bench.GAIN))
    assert all(found[name] <= most for name in bench.ERRORS)
    # The normal curve supposes no more than that the spread is known.
    expected = bench.power(0.4 / 12**0.5, plan)
    assert found["told"] >= stats.binom.isf(1 - 1e-3, trials, 0.8 * expected)
    assert found["won"] <= found["told"]
