"""`ftreg agree`: exit codes, counts, and what it prints; by scorers that need no model."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ftreg.gate.agreement import auroc
from ftreg.gate.trust import TrustBars
from ftreg.jobs.agree import agree
from ftreg.scoring import Sample
from ftreg.scoring.token_overlap import plain_overlap, token_overlap, tokens
from tests.conftest import Cli

EXACT = ("--scorer", "equals", "--option", "mode=exact")
WORDS = ["ferry", "pier", "noon", "ticket", "cabin", "dog", "fare", "storm", "north", "deck"]


def write(rows: list[dict[str, Any]], name: str = "rows.jsonl") -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def labelled(n: int = 120, *, seed: int = 0, right: float = 0.95) -> list[dict[str, Any]]:
    """Rows of which a good one is the reference, and a bad one the same words in another order."""
    draw = random.Random(seed)
    found = []
    for number in range(n):
        words = draw.sample(WORDS, 4)
        good = draw.random() < 0.5
        same = good if draw.random() < right else not good
        found.append(
            {
                "id": str(number),
                "input": "Which words?",
                "output": " ".join(words if same else reversed(words)),
                "reference": " ".join(words),
                "good": good,
                "page": f"p{number // 3}",
            }
        )
    return found


def test_a_scorer_that_agrees_is_trusted(cli: Cli, workspace: Path) -> None:
    rows = labelled()
    done = cli("agree", write(rows), "--label", "good", *EXACT, "--json")
    assert done.code == 0, done
    found = done.json
    assert (found["trust"], found["exit_code"]) == ("trusted", 0)
    assert (found["rows"], found["unlabelled"], found["missing"]) == (120, 0, 0)
    assert found["scorer"]["options"]["mode"] == "exact"
    # The words are the same in any order: only the scorer tells them apart.
    assert (found["overlap_with"], found["agreement"]["overlap"]["value"]) == ("reference", 0.5)
    good = [row["good"] for row in rows]
    same = [float(row["output"] == row["reference"]) for row in rows]
    import numpy as np

    assert found["agreement"]["auroc"]["value"] == auroc(np.array(same), np.array(good))
    assert found["agreement"]["good"] == sum(good)
    assert [item["finding"] for item in found["criteria"]] == ["met"] * 3
    low, high = found["agreement"]["kappa"]["interval"]
    assert low <= found["agreement"]["kappa"]["value"] <= high
    first, last = found["agreement"]["reliability"]
    assert first["rows"] + last["rows"] == 120
    assert (first["score"], last["score"]) == (0, 1)


def test_what_a_person_sees_fits_80_columns(cli: Cli, workspace: Path) -> None:
    rows = labelled()
    del rows[3]["reference"]
    rows[4]["good"] = None
    file = write(rows)
    done = cli("agree", file, "--label", "good", *EXACT, "--max-missing", "0.1")
    assert done.code == 0, done
    assert max(map(len, done.out.splitlines())) <= 80
    for line in (
        "equals held against good of rows.jsonl",
        "1 more have no label",
        "1 more have a label and no score:",
        "  1 x no reference",
        "TRUSTED The scorer may be trusted for gating on rows like these.",
        "  - labelled rows without a score: 0.8 %, no more than the 10 % allowed",
    ):
        assert line in done.out, line
    (bar,) = [line for line in done.out.splitlines() if line.startswith("0.9-1.0")]
    assert bar.count("|") == 2 and "o" in bar and "x" in bar
    done = cli("agree", file, "--label", "good", *EXACT)
    assert done.code == 3
    assert "NOT TRUSTED" in done.out
    assert "labelled rows without a score: 0.8 %, more than the 0 % allowed" in done.out


def test_a_scorer_that_does_not_agree_is_not_trusted(cli: Cli, workspace: Path) -> None:
    file = write(labelled(right=0.5))
    done = cli("agree", file, "--label", "good", *EXACT, "--json")
    assert (done.code, done.json["trust"]) == (3, "not trusted")
    assert {item["name"]: item["finding"] for item in done.json["criteria"]}["auroc"] == "not met"
    # Nor one that is no better than the words shared, unless nobody asks for that.
    shared = ("--scorer", "{name: equals, options: {mode: overlap}}", "--json")
    rows = [row | {"output": row["output"] if row["good"] else "deck dog"} for row in labelled()]
    file = write(rows, "words.jsonl")
    done = cli("agree", file, "--label", "good", *shared)
    assert (done.code, done.json["agreement"]["auroc"]["value"] > 0.9) == (3, True)
    assert {item["name"]: item["finding"] for item in done.json["criteria"]}["gain"] != "met"
    done = cli("agree", file, "--label", "good", *shared, "--min-gain", "-1")
    assert (done.code, [item["name"] for item in done.json["criteria"]]) == (
        0,
        ["auroc", "missing"],
    )


def test_too_few_rows_are_said_to_be_too_few(cli: Cli, workspace: Path) -> None:
    file = write(labelled(9, right=0.9, seed=1))
    done = cli("agree", file, "--label", "good", *EXACT)
    assert done.code == 3
    assert "UNDECIDED There are too few rows to tell" in done.out
    assert "such rows" in " ".join(done.out.split())
    # No figure at all, where all but a few scores are missing.
    rows = labelled(20)
    for row in rows[1:]:
        del row["reference"]
    done = cli("agree", write(rows), "--label", "good", *EXACT)
    assert (done.code, done.out) == (3, "")
    assert "19 of 20 labelled rows have no score: no reference" in done.err


def test_clusters_widen_the_interval(cli: Cli, workspace: Path) -> None:
    rows = [row for row in labelled(40, right=0.8) for _ in range(4)]
    rows = [row | {"id": str(number)} for number, row in enumerate(rows)]
    file = write(rows)
    alone = cli("agree", file, "--label", "good", *EXACT, "--json").json
    whole = cli("agree", file, "--label", "good", *EXACT, "--cluster", "page", "--json").json
    assert (alone["agreement"]["clusters"], whole["agreement"]["clusters"]) == (None, 14)
    assert whole["agreement"]["auroc"]["value"] == alone["agreement"]["auroc"]["value"]
    for figure in ("auroc", "spearman", "kappa", "gain"):
        narrow, wide = (side["agreement"][figure]["interval"] for side in (alone, whole))
        assert wide[0] < narrow[0] and wide[1] >= narrow[1] - 1e-9, figure


@pytest.mark.parametrize(
    ("good", "bad"),
    [(1, 0), (1.0, 0.0), (True, False), ("yes", "no"), ("True", " FALSE "), (0.8, 0.2)],
)
def test_the_forms_of_a_label(good: Any, bad: Any, workspace: Path) -> None:
    rows = [row | {"good": good if row["good"] else bad} for row in labelled(40)]
    found = agree(Path(write(rows)), label="good", scorer="equals", options={"mode": "exact"})
    assert found.agreement.good == sum(row["good"] for row in labelled(40))


def test_graded_labels_are_good_from_a_label_on(cli: Cli, workspace: Path) -> None:
    rows = labelled(60)
    for number, row in enumerate(rows):
        row["grade"] = (0.7 if row["good"] else 0.4) + 0.01 * (number % 7)
    file, args = write(rows), ("--label", "grade", *EXACT, "--json")
    halves = cli("agree", file, *args).json["agreement"]
    assert halves["good"] == sum(row["good"] for row in rows)
    done = cli("agree", file, *args, "--good-from", "0.74")
    assert done.json["agreement"]["good"] == sum(row["grade"] >= 0.74 for row in rows)
    # Spearman is over the grades, whatever is good.
    assert done.json["agreement"]["spearman"] == halves["spearman"]


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, ("--label", "godo"), "no row has the key 'godo'; did you mean good? (keys: id, input"),
        ({}, ("--label", "good", "--cluster", "pgae"), "no row has the key 'pgae'; did you mean"),
        ({"good": "maybe"}, ("--label", "good"), "rows.jsonl:1: good: 'maybe' is not a label"),
        (
            {"good": 5},
            ("--label", "good"),
            "rows.jsonl:1: good: 5 is not a label; a label is a",
        ),
        ({"good": [1]}, ("--label", "good"), "rows.jsonl:1: good: [1] is not a label"),
        ({"page": None}, ("--label", "good", "--cluster", "page"), "rows.jsonl:1: 'page', the"),
        ({}, ("--label", "good", "--option", "mode"), "--option 'mode': write an option as"),
        ({}, ("--label", "good", "--option", "mood=exact"), "no option 'mood'; did you mean mode?"),
        ({}, ("--label", "good", "--plot", "a.png"), "--plot a.png: name a file that ends in .svg"),
        ({}, ("--label", "good", "--plot", "rows.svg"), "rows.svg already exists"),
        ({"output": 5}, ("--label", "good"), "rows.jsonl:1: 'output' must be a string"),
    ],
)
def test_a_mistake_is_one_message(
    change: dict[str, Any], arguments: tuple[str, ...], message: str, cli: Cli, workspace: Path
) -> None:
    rows = labelled(20)
    file = write([rows[0] | change, *rows[1:]])
    Path("rows.svg").touch()
    done = cli("agree", file, "--scorer", "equals", *arguments)
    assert (done.code, done.out) == (2, ""), done
    assert message in done.err
    assert done.err.count("\n") == 1


def test_rows_of_one_kind_are_a_mistake(cli: Cli, workspace: Path) -> None:
    for value, kind in ((1, "good"), (False, "bad")):
        file = write([row | {"good": value} for row in labelled(20)])
        done = cli("agree", file, "--label", "good", *EXACT)
        assert (done.code, f"all 20 rows are {kind}" in done.err) == (2, True)
    file = write([row | {"good": None} for row in labelled(20)])
    done = cli("agree", file, "--label", "good", *EXACT)
    assert (done.code, "'good' is null in all of them" in done.err) == (2, True)


def test_the_picture(workspace: Path) -> None:
    found = agree(
        Path(write(labelled())),
        label="good",
        scorer="equals",
        options={"mode": "exact"},
        bars=TrustBars(min_auroc=0.5),
        plot=Path("rows.svg"),
    )
    drawn = Path("rows.svg").read_text()
    assert drawn.startswith("<svg") and "equals held against good" in drawn
    # A bar and a dot for each stretch of scores.
    (good,) = [part for part in drawn.split("<g class=") if part.startswith('"good"')]
    bars, dots = (part.partition('d="')[2].partition('"')[0] for part in good.split("<path")[1:3])
    assert bars.count("L") == len(found.agreement.reliability)
    assert dots.count("M") == len(found.agreement.reliability)


def test_code_of_others_is_refused_where_it_is_forbidden(cli: Cli, workspace: Path) -> None:
    file = write(labelled(20))
    done = cli("agree", file, "--label", "good", "--scorer", "mine:Tone", "--no-custom-code")
    assert (done.code, "mine:Tone" in done.err) == (2, True)


# -- the overlap of words --------------------------------------------------------------------


def test_the_overlap_is_a_share_of_the_wanted_words() -> None:
    assert tokens("Pier 7, NOON!") == ["pier", "7", "noon"]
    assert token_overlap("the pier at noon", "At the pier.") == 0.75
    assert token_overlap("no no", "no") == 0.5
    assert token_overlap("", "words") == 0


@pytest.mark.parametrize(
    ("scorer", "source", "part", "value"),
    [
        ("faithfulness", None, "context", 0.5),  # "red boat" of which the context has "boat"
        ("faithfulness", "input", "input", 0.5),
        ("answer_relevancy", None, "input", 1 / 3),
        ("completeness", "context", "context", 0.25),
        ("equals", None, "reference", 1.0),
        ("mine:Tone", None, "reference", 1.0),
    ],
)
def test_what_outputs_are_held_against(
    scorer: str, source: str | None, part: str, value: float
) -> None:
    sample = Sample(
        id="1",
        input="Which is red?",
        output="red boat",
        reference=("green", "red"),
        context="The boat was green.",
    )
    found = plain_overlap([sample], scorer=scorer, source=source)
    assert found == (part, [pytest.approx(value)])
    bare = Sample(id="2", input="", output="red boat")
    assert plain_overlap([sample, bare], scorer=scorer, source=source) is None
