"""`ftreg slices`: groups that nobody declared, searched on one half and tested on the other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftreg.config.policy import GatePolicy
from ftreg.why.slices_described import ExampleFacts, describe_slices
from ftreg.why.slices_search import Halves, Sides, find_worse
from tests.conftest import Cli
from tests.report_fakes import make_dataset, make_evaluation

ROWS = 900
RECIPE = {i for i in range(ROWS) if i % 11 == 3}
"""The rows whose prompt speaks of a recipe."""


def _make(drop: Callable[[int], float], *, rows: int = ROWS, scorer: str = "faithfulness") -> None:
    """A baseline and a candidate whose deltas scatter, and are lower where `drop` says."""
    generator = np.random.default_rng(5)
    texts: dict[int, dict[str, Any]] = {}
    for i in range(rows):
        what = "recipe" if i in RECIPE else "shop"
        texts[i] = {
            "input": f"What is item {i % 17} {what}{' now' * (i % 3)}?",
            "tags": {"parity": "even" if i % 2 == 0 else "odd", "shelf": f"s{i % 7}"},
        }
    make_dataset(rows, texts)
    noise = generator.uniform(-0.2, 0.2, rows)
    make_evaluation("base", scores={scorer: [0.6] * rows})
    changed = [float(np.clip(0.6 + noise[i] - drop(i), 0, 1)) for i in range(rows)]
    make_evaluation("new", scores={scorer: changed})


def test_a_group_that_fell_is_found_with_its_examples_and_kept(cli: Cli) -> None:
    _make(lambda i: 0.15 if i in RECIPE else 0.0)
    done = cli("slices", "new", "--against", "base", "--json")
    assert done.code == 0, done
    found = [item for item in done.json["slices"] if item["found"]]
    (worse,) = found
    assert worse["slice"] == 'prompt with the word "recipe"'
    assert worse["examples"] == len(RECIPE) > worse["n"] > 30
    assert worse["p_adjusted"] < 0.05
    assert worse["interval"][0] < -0.15 < worse["interval"][1]
    assert not worse["declared"]
    assert {int(item["id"][1:]) for item in worse["worst"]} <= RECIPE
    kept = json.loads(Path("evaluations/new/slices.json").read_text("utf-8"))
    assert [item["slice"] for item in kept["found"]] == [worse["slice"]]
    shown = cli("slices", "new", "--against", "base")
    assert 'worse: prompt with the word "recipe"' in shown.out
    assert worse["worst"][0]["id"] in shown.out


def test_a_delta_is_that_of_the_half_which_had_no_say(cli: Cli) -> None:
    _make(lambda i: 0.15 if i in RECIPE else 0.0)
    worse = cli("slices", "new", "--against", "base", "--json").json["slices"][0]
    rows = map(json.loads, Path("evaluations/new/scores.jsonl").read_text("utf-8").splitlines())
    scores = {row["id"]: row["score"] for row in rows}
    halves = Halves.of(sorted(scores))
    means = {}
    for half in (halves.search, halves.test):
        names = [sorted(scores)[at] for at in half]
        deltas = [scores[name] - 0.6 for name in names if int(name[1:]) in RECIPE]
        means[len(deltas)] = float(np.mean(deltas))
    assert len(means) == 2
    assert worse["delta"] == pytest.approx(means.pop(worse["n"]))
    (searched,) = means.values()
    assert worse["searched_delta"] == pytest.approx(searched)


def test_without_such_a_group_it_says_what_it_could_not_see(cli: Cli) -> None:
    _make(lambda i: 0.0)
    done = cli("slices", "new", "--against", "base", "--json")
    assert done.code == 0
    assert not any(item["found"] for item in done.json["slices"])
    drops = [item["drop"] for item in done.json["unseen"]]
    assert drops == sorted(drops, reverse=True)
    assert drops[-1] > done.json["margins"]["faithfulness"]
    shown = cli("slices", "new", "--against", "base").out
    assert "No group is certainly worse by more than its margin." in shown
    assert "Found in four of five cases if it fell by at least" in shown


def test_few_examples_show_next_to_nothing_and_that_is_said(cli: Cli) -> None:
    _make(lambda i: 0.1 if i in RECIPE else 0.0, rows=60)
    done = cli("slices", "new", "--against", "base", "--json")
    assert done.code == 0
    assert not any(item["found"] for item in done.json["slices"])
    assert done.json["unseen"][0]["drop"] is None
    assert "never" in cli("slices", "new", "--against", "base").out


def test_a_drop_of_all_examples_is_no_groups(cli: Cli) -> None:
    _make(lambda i: 0.2)
    done = cli("slices", "new", "--against", "base", "--json")
    assert not any(item["found"] for item in done.json["slices"])


def test_a_cohort_that_fell_is_called_one_and_hides_no_part_of_itself(cli: Cli) -> None:
    _make(lambda i: 0.15 if i % 2 == 0 else 0.0)
    found = cli("slices", "new", "--against", "base", "--json").json["slices"]
    assert [(item["slice"], item["declared"]) for item in found if item["found"]] == [
        ("parity=even", True)
    ]


def test_tags_that_form_no_cohort_are_taken_alone_and_in_pairs(cli: Cli) -> None:
    _make(lambda i: 0.25 if i % 2 == 0 and i % 7 == 2 else 0.0)
    found = cli("slices", "new", "--against", "base", "--json").json["slices"]
    assert [item["slice"] for item in found if item["found"]] == ["parity=even and shelf=s2"]
    worst = {item["id"] for item in found[0]["worst"]}
    assert all(int(name[1:]) % 14 == 2 for name in worst)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["new", "--against", "base", "--scorer", "faithfulnes"], 2, "did you mean faithfulness"),
        (["new", "--against", "new"], 2, "is the baseline itself"),
        (["new"], 3, "there is no baseline yet"),
        (["nwe", "--against", "base"], 2, "did you mean new"),
    ],
)
def test_mistakes(cli: Cli, arguments: list[str], code: int, told: str) -> None:
    _make(lambda i: 0.0, rows=60)
    done = cli("slices", *arguments)
    assert done.code == code
    assert told in done.err
    assert "Traceback" not in done.err
    assert not Path("evaluations/new/slices.json").exists()


def test_scorers_in_common_are_needed(cli: Cli) -> None:
    make_dataset(60)
    make_evaluation("base", scores={"equals": [1.0] * 60})
    make_evaluation("new", scores={"faithfulness": [1.0] * 60})
    done = cli("slices", "new", "--against", "base")
    assert done.code == 3
    assert "no common scorer" in done.err


def test_missing_scores_are_left_out(cli: Cli) -> None:
    make_dataset(200)
    make_evaluation("base", scores={"equals": [1.0] * 200})
    make_evaluation("new", scores={"equals": [None if i % 3 else 1.0 for i in range(200)]})
    done = cli("slices", "new", "--against", "base", "--json")
    assert done.code == 0
    assert not any(item["found"] for item in done.json["slices"])


def test_halves_depend_on_the_names_alone_and_split_no_cluster() -> None:
    names = [f"c{i // 3}" for i in range(300)]
    halves = Halves.of(names)
    again = Halves.of(names[::-1])
    told = {names[at] for at in halves.search}
    assert told == {names[::-1][at] for at in again.search}
    assert not told & {names[at] for at in halves.test}
    assert len(halves.search) == 150


def _facts(generator: np.random.Generator, rows: int) -> list[ExampleFacts]:
    words = generator.integers(0, 40, (rows, 6))
    return [ExampleFacts(" ".join(f"w{word}" for word in row)) for row in words]


def test_no_group_is_found_where_none_fell() -> None:
    """40 comparisons of binary scores without a difference; at most one in 20 may err."""
    found = tests = 0
    for seed in range(40):
        generator = np.random.Generator(np.random.Philox(seed))
        facts = _facts(generator, 600)
        before, after = generator.integers(0, 2, (2, 600)).astype(float)
        tested = find_worse(
            [Sides("equals", before, after)],
            describe_slices(facts, cohorts=(), least=20),
            Halves.of([str(at) for at in range(600)]),
            GatePolicy(),
        )
        tests += len(tested)
        found += any(item.p_adjusted <= 0.05 for item in tested)
    assert tests > 20
    assert found <= 5


def test_groups_are_told_by_what_was_asked_and_by_no_score() -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "Short?", "reference": "Yes.", "tags": {"kind": "a"}},
        {"prompt": "A much longer prompt with 3 digits", "reference": "No.", "tags": {"kind": "b"}},
    ] * 30
    slices = describe_slices([ExampleFacts(**row) for row in rows], cohorts=["kind"], least=20)
    words = {item.words: item for item in slices}
    # What is the same group has one description, the plainest.
    assert set(words) == {"kind=a", "kind=b"}
    assert words["kind=a"].declared
    assert words["kind=a"].positions.tolist() == list(range(0, 60, 2))


def test_the_report_of_a_regression_says_what_to_ask_and_what_was_found(cli: Cli) -> None:
    _make(lambda i: 0.1 + 0.2 * (i in RECIPE), rows=400)
    assert cli("gate", "base", "new").code == 1
    page = Path("evaluations/new/report.html")
    assert cli("report", "new").code == 0
    before = page.read_text("utf-8")
    assert "<pre>ftreg slices new --against base</pre>" in before
    assert cli("slices", "new", "--against", "base").code == 0
    assert cli("report", "new").code == 0
    after = page.read_text("utf-8")
    assert "<pre>ftreg slices" not in after
    assert "Which groups of examples got worse?</strong> <bdi>prompt with the word" in after
    worst = cli("slices", "new", "--against", "base", "--json").json["slices"][0]["worst"]
    assert f"<bdi>{worst[0]['id']}</bdi></a>" in after.partition('id="why"')[2][:2000]
    # A candidate that is no worse has nothing to ask.
    assert cli("gate", "new", "base").code != 1
    cli("report", "base")
    assert 'id="why"' not in Path("evaluations/base/report.html").read_text("utf-8")
