"""`ftreg eval --until-decided`: when it stops, what it says, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli, rewrite_rows, rows_of, write_dataset

ROWS = 200


@pytest.fixture
def checkpoint(cli: Cli, talking_config: Path) -> str:
    """A checkpoint with a dataset of 200 rows in clusters of two, of which the last is critical."""
    rows = rows_of(ROWS)
    rows[-1]["critical"] = True
    write_dataset(Path("datasets"), version=2, evaluation=rows, cluster="group")
    text = talking_config.read_text("utf-8").replace("colours@1", "colours@2")
    text = text.replace("margin: 0.35", "margin: 0.1")
    talking_config.write_text(text.replace("max_new_tokens: 4", "max_new_tokens: 2"))
    assert cli("train", talking_config, "-o", "checkpoints/a", "-s", "train.max_steps=1").code == 0
    return "checkpoints/a"


def _newest() -> Path:
    return max(path.parent for path in Path("evaluations").glob("*/evaluation.json"))


def _baseline(cli: Cli, change: Any = None) -> Path:
    assert cli("eval", "checkpoints/a", "--no-gate", "--no-report").code == 0
    folder = _newest()
    if change:
        rewrite_rows(folder / "scores.jsonl", lambda rows: [change(row) for row in rows])
    assert cli("promote", folder).code == 0
    return folder


def _ids(folder: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (folder / "outputs.jsonl").read_text().splitlines()]


def test_an_equal_checkpoint_passes_before_all_rows_are_evaluated(
    cli: Cli, checkpoint: str
) -> None:
    _baseline(cli)
    done = cli("eval", checkpoint, "--until-decided")
    assert done.code == 0, done
    folder = _newest()
    header = json.loads((folder / "evaluation.json").read_text())
    evaluated = header["sequence"]["evaluated"]
    assert evaluated < ROWS
    assert header["dataset"]["rows"] == ROWS
    ids = _ids(folder)
    assert len(ids) == evaluated
    assert f"e{ROWS - 1}" in ids  # critical
    groups = {int(name[1:]) // 2 for name in ids} - {(ROWS - 1) // 2}
    assert all({f"e{2 * group}", f"e{2 * group + 1}"} <= set(ids) for group in groups)
    said = f"stopped after {evaluated} of {ROWS} rows: decided"
    assert said in done.out
    for report in ("report.md", "report.html"):
        assert said in (folder / report).read_text()
    gate = json.loads((folder / "gate.json").read_text())
    assert {row["method"] for row in gate["verdict"]["rows"]} == {"betting"}


def test_whoever_gates_a_part_judges_it_as_a_part(cli: Cli, checkpoint: str) -> None:
    first = _baseline(cli)
    assert cli("eval", checkpoint, "--until-decided").code == 0
    part = _newest()
    before = json.loads((part / "gate.json").read_text())["verdict"]
    assert cli("gate", "baseline", part).code == 0
    assert json.loads((part / "gate.json").read_text())["verdict"] == before
    done = cli("rescore", part)
    assert done.code == 0, done
    again = _newest()
    assert again != part
    assert _ids(again) == _ids(part)
    assert cli("gate", "baseline", again).code == 0
    assert json.loads((again / "gate.json").read_text())["verdict"] == before
    for refused, code in (
        (("promote", part), 2),
        (("promote", part, "--force", "--why", "x"), 2),
        (("gate", part, first), 3),
        (("compare", first, part), 3),
        (("eval", checkpoint, "--until-decided", "--against", part), 3),
    ):
        done = cli(*refused)
        assert done.code == code, done
        assert "stopped after" in done.err
        assert "without --until-decided" in done.err.replace("\n", " ")


def test_a_clear_drop_is_found_after_the_first_block(cli: Cli, checkpoint: str) -> None:
    _baseline(cli, lambda row: {**row, "score": 1.0, "reason": None})
    done = cli("eval", checkpoint, "--until-decided", "--json")
    assert done.code == 1, done
    assert done.json["outcome"] == "regression"
    record = json.loads((_newest() / "evaluation.json").read_text())["sequence"]
    assert record["examples"] == 64
    assert record["largest_cluster"] == 2
    assert record["cohorts"] == {"parity=even": ROWS // 2, "parity=odd": ROWS // 2}


def test_a_critical_row_is_looked_at_first(cli: Cli, checkpoint: str) -> None:
    critical = f"e{ROWS - 1}"

    def change(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "score": 1.0, "reason": None} if row["id"] == critical else row

    _baseline(cli, change)
    done = cli("eval", checkpoint, "--until-decided")
    assert done.code == 1, done
    assert critical in done.out
    assert len(_ids(_newest())) in (64, 65)


def test_what_cannot_be_decided_ends_with_all_rows(cli: Cli, checkpoint: str) -> None:
    _baseline(cli)
    done = cli("eval", checkpoint, "--until-decided", "-s", "gate.margin=0.001")
    assert done.code == 3, done
    assert len(_ids(_newest())) == ROWS
    assert "stopped after" not in done.out
    assert cli("promote", _newest(), "--force", "--why", "all rows are there").code == 0


def test_it_refuses_before_anything_is_generated(cli: Cli, checkpoint: str) -> None:
    done = cli("eval", checkpoint, "--until-decided")
    assert done.code == 3
    assert "there is no baseline yet" in done.err
    _baseline(cli)
    before = _newest()
    for options, code, words in (
        (["--no-gate"], 2, "--no-gate"),
        (["-s", "gate.mode=threshold"], 2, "error rates"),
        (["-s", "eval.repeats=2"], 2, "eval.repeats"),
        (["-s", "eval.max_new_tokens=3"], 3, "generation.max_new_tokens: 2 in the baseline"),
    ):
        done = cli("eval", checkpoint, "--until-decided", *options)
        assert done.code == code, done
        assert words in done.err
        assert _newest() == before
    assert cli("eval", checkpoint, "--no-gate", "-s", "eval.max_new_tokens=3").code == 0
    assert json.loads((_newest() / "evaluation.json").read_text())["generation"]["taken"] == 0


def test_the_first_baseline_is_evaluated_whole(cli: Cli, checkpoint: str) -> None:
    assert cli("eval", checkpoint, "--until-decided", "--bootstrap").code == 0
    assert len(_ids(_newest())) == ROWS
