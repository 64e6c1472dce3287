"""The published JSON Schemas: what the code gives, and what the commands' own output fits."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ftreg.files import marked_yaml
from tests.conftest import Cli
from tests.jobs.test_printed import closed

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "schemas"
NAMES = sorted(path.stem for path in PUBLISHED.glob("*.json"))


def _errors(name: str, value: Any) -> list[str]:
    published = json.loads((PUBLISHED / f"{name}.json").read_text())
    # People may write what a file below completes; of what ftreg writes each key is described.
    told = published if name == "config" else closed(published)
    return [error.message for error in Draft202012Validator(told).iter_errors(value)]


@pytest.mark.parametrize("name", NAMES)
def test_the_published_schema_is_what_the_code_gives(name: str, cli: Cli) -> None:
    printed = cli("schema", name).json
    Draft202012Validator.check_schema(printed)
    assert printed["$id"].startswith(f"urn:ftreg:schema:{name}:")
    written = json.loads((PUBLISHED / f"{name}.json").read_text())
    assert written == printed, "run scripts/write_schemas.py"


def test_every_schema_is_published_and_named(cli: Cli) -> None:
    assert sorted(cli("schema").out.split()) == NAMES
    done = cli("schema", "verdct")
    assert done.code == 2
    assert "did you mean verdict?" in done.err


@pytest.mark.parametrize(
    "path",
    [*ROOT.glob("configs/*.yaml"), *ROOT.glob("docs/examples/*/configs/*.yaml")],
    ids=lambda path: path.stem,
)
def test_the_configurations_fit_the_schema(path: Path) -> None:
    assert _errors("config", marked_yaml.read(path).data) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"optimizer": {"name": "lion", "lerning_rate": 1}}, "'lerning_rate' was unexpected"),
        ({"optimizer": {"name": "liom"}}, "'liom' is not one of"),
        ({"optimizer": {"name": "lion", "lr": -1}}, "-1 is less than or equal to the minimum of 0"),
        ({"train": {"epochs": "many"}}, "'many' is not of type 'number'"),
        ({"eval": {"scorers": []}}, "[] should be non-empty"),
        ({"trian": {}}, "'trian' was unexpected"),
    ],
)
def test_an_editor_is_told_of_mistakes(value: dict[str, Any], expected: str) -> None:
    (message,) = _errors("config", value)
    assert expected in message


def test_what_an_editor_is_not_told_of() -> None:
    whole = {"dataset": {"version": "a@1"}, "optimizer": {"name": "lion", "lr": 1e-5}}
    assert _errors("config", {**whole, "eval": {"scorers": ["equals", {"name": "x"}]}}) == []
    # An optimizer's name, or anything else that is missing, may stand in the file below.
    assert _errors("config", {"extends": "base.yaml", "optimizer": {"lr": 1e-5}}) == []


def _rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_ftreg_writes_and_prints_fits(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    done = cli("eval", "checkpoints/a", "--no-gate", "--json")
    (first,) = Path("evaluations").iterdir()
    assert _errors("evaluation", done.json["evaluation"]) == []
    done = cli("promote", "latest", "--anchor", "--why", "first", "--json")
    assert done.json["baseline"] == first.name
    done = cli("eval", "checkpoints/a", "--json")
    assert _errors("verdict", done.json) == []
    assert done.json["exit_code"] == done.code
    gated = cli("gate", "baseline", "latest", "--json")
    assert _errors("verdict", gated.json) == []
    folder = Path("evaluations", gated.json["candidate"])
    assert folder != first
    for name in ("evaluation", "gate"):
        assert _errors(name, json.loads((folder / f"{name}.json").read_text())) == []
    for name in ("output", "score"):
        rows = _rows(folder / f"{name}s.jsonl")
        assert rows
        assert [error for row in rows for error in _errors(name, row)] == []
    assert _errors("baseline", json.loads(Path("baselines/colours.json").read_text())) == []
    assert _errors("checkpoint", json.loads(Path("checkpoints/a/ftreg.json").read_text())) == []
    # What they do not describe does not fit: the test above can fail.
    assert _errors("verdict", {**gated.json, "outcome": "fine"})
    assert _errors("score", {**rows[0], "score": "0.5"})
