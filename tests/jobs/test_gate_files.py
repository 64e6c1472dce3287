"""`ftreg gate` over two files of scores: outputs that were made elsewhere."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ftreg.gate import GatePolicy, compare
from ftreg.jobs.schemas import schema
from tests.conftest import Cli


def _write(name: str, values: list[Any], *, scorer: str = "equals") -> str:
    rows = [
        {"id": f"e{i}", "scorer": scorer, "score": value, "reason": None, "evidence": []}
        for i, value in enumerate(values)
    ]
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


@pytest.mark.parametrize(
    ("deltas", "code"), [([0.0] * 150, 0), ([-0.3] * 150, 1), ([0.0] * 50 + [-0.5] * 2, 3)]
)
def test_the_verdict_is_that_of_the_gate(
    deltas: list[float], code: int, cli: Cli, workspace: Path
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    old = [0.8 + 0.1 * (index % 2) for index in range(len(deltas))]
    candidate = [score + delta for score, delta in zip(old, deltas, strict=True)]
    files = _write("old.jsonl", old), _write("new.jsonl", candidate)
    done = cli("gate", *files, "--junit", "verdict.xml", "--json")
    assert done.code == code, done
    jsonschema.validate(done.json, schema("verdict"))
    sides = ({"equals": {f"e{i}": v for i, v in enumerate(side)}} for side in (old, candidate))
    expected = json.loads(json.dumps(compare(*sides, GatePolicy()).to_dict()))
    assert (expected.pop("looks"), expected.pop("level")) == (None, None)  # not printed
    assert expected.pop("costs") == []  # nor they
    assert {key: done.json[key] for key in expected} == expected
    assert (done.json["baseline"], done.json["exit_code"]) == ("old.jsonl", code)
    assert ElementTree.parse("verdict.xml").getroot().tag == "testsuites"
    shown = cli("gate", *files)
    assert shown.code == code
    assert "new.jsonl" in " ".join(shown.out.split())
    assert not Path("evaluations").exists()


def test_a_word_is_no_file(cli: Cli, workspace: Path) -> None:
    """A change that adds files called `baseline` and `latest` brings no verdict with it."""
    for name in ("baseline", "latest"):
        _write(name, [0.9, 0.7] * 75)
    done = cli("gate", "baseline", "latest")
    assert done.code == 2
    assert "there is no evaluation yet" in done.err
    assert cli("gate", "./baseline", "./latest").code == 0


def test_a_policy_file_counts(cli: Cli, workspace: Path) -> None:
    files = _write("old.jsonl", [0.9] * 100), _write("new.jsonl", [0.8] * 100)
    assert cli("gate", *files).code == 1
    Path("policy.yaml").write_text("margin: 0.2")
    assert cli("gate", *files, "--policy", "policy.yaml").code == 0
    Path("policy.yaml").write_text("cohorts: [topic]")
    assert cli("gate", *files, "--policy", "policy.yaml").code == 2


def test_what_only_one_side_has_makes_them_incomparable(cli: Cli, workspace: Path) -> None:
    old = _write("old.jsonl", [0.9] * 60)
    done = cli("gate", old, _write("fewer.jsonl", [0.9] * 59))
    assert done.code == 3
    assert "rows in old.jsonl only: e59" in done.err
    done = cli("gate", old, _write("other.jsonl", [0.9] * 60, scorer="tone"))
    assert done.code == 3
    assert "scorers in other.jsonl only: tone" in done.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "1", "output": "Yes."}', "bad.jsonl:1: 'scorer' must be a string"),
        ('{"id": "1", "scorer": "equals"}', "bad.jsonl:1: 'score' must be a number"),
        ('{"id": "1", "scorer": "equals", "score": true}', "'score' must be a number"),
        ('{"id": "1", "scorer": "equals", "score": 1.5}', "1.5 is not in [0, 1]"),
        (
            '{"id": "1", "scorer": "equals", "score": 1}\n' * 2,
            "bad.jsonl:2: equals scores '1' again",
        ),
        ("", "bad.jsonl: no rows"),
    ],
)
def test_what_is_no_file_of_scores_is_refused(
    line: str, message: str, cli: Cli, workspace: Path
) -> None:
    Path("bad.jsonl").write_text(line)
    done = cli("gate", _write("old.jsonl", [1.0]), "bad.jsonl")
    assert done.code == 2
    assert message in done.err


def test_a_file_is_not_held_against_an_evaluation(cli: Cli, workspace: Path) -> None:
    done = cli("gate", "baseline", _write("new.jsonl", [1.0]))
    assert done.code == 2
    assert "baseline: no such file" in done.err
    files = _write("old.jsonl", [1.0]), "new.jsonl"
    done = cli("gate", *files, "--markdown", "report.md")
    assert done.code == 2
    assert "--markdown" in done.err
