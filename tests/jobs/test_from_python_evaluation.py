"""Jobs about evaluations and verdicts, each called once from Python."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ftreg.errors import ExitCode, UndecidedError, UsageError
from ftreg.jobs.compare import compare_evaluations
from ftreg.jobs.evaluate_and_gate import Evaluated, GateEvents, evaluate_and_gate
from ftreg.jobs.gate import find_baselines, gate
from ftreg.jobs.gate_and_report import gate_and_report
from ftreg.jobs.gate_files import gate_files
from ftreg.jobs.gate_result import Reports
from ftreg.jobs.power import power
from ftreg.jobs.promote import promote, promotions
from ftreg.jobs.report import write_html
from ftreg.jobs.score import score_file
from ftreg.records.evaluation.stored import Evaluation, read_evaluation
from ftreg.records.workspace import Workspace
from tests.conftest import Cli


class Heard(GateEvents):
    """Keeps which results it was told of, in order."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def evaluated(self, evaluation: Evaluation) -> None:
        self.results.append(evaluation.id)

    def gated(self, found: Evaluated) -> None:
        self.results.append(found)


@pytest.fixture
def here(cli: Cli, config: Path) -> Workspace:
    """A workspace with one checkpoint, `a`."""
    assert cli("train", config, "-s", "train.max_steps=1", "-o", "checkpoints/a").code == 0
    return Workspace(Path())


def test_one_call_evaluates_and_gates(here: Workspace) -> None:
    first = evaluate_and_gate("a", workspace=here, against=None)
    assert (first.gate, first.reasons, first.exit_code) == (None, (), ExitCode.OK)
    promote(first.evaluation, workspace=here, anchor=True, why="first")
    heard = Heard()
    reports = Reports(junit=Path("v.xml"), comment=Path("c.md"), summary=Path("s.md"))
    found = evaluate_and_gate(
        "a", workspace=here, overrides=["gate.allow_undecided=true"], reports=reports, events=heard
    )
    assert heard.results == [found.evaluation.id, found]
    assert found.gate is not None and found.gate.report is not None and found.gate.html is not None
    assert found.gate.verdict.policy["allow_undecided"] is True
    assert found.exit_code == found.gate.exit_code == ExitCode.OK
    assert found.gate.baseline["id"] == first.evaluation.id
    assert found.gate.baseline_file == Path("baselines/colours.json")
    text = found.gate.report.read_text("utf-8")
    assert Path("c.md").read_text("utf-8") == text
    assert Path("s.md").read_text("utf-8") == f"{text}\n"
    assert Path("v.xml").is_file() and found.gate.html.is_file()
    again = gate_and_report(found.evaluation, "anchor", workspace=here, reports=Reports(html=False))
    assert again.html is None
    assert again.verdict.rows == tuple(
        row for row in found.gate.verdict.rows if row.against == "baseline"
    )


def test_without_a_verdict_the_evaluation_is_kept_and_the_error_is_told(here: Workspace) -> None:
    found = evaluate_and_gate("a", workspace=here, reports=Reports(html=False))
    assert found.html is None and found.gate is None
    assert isinstance(found.error, UndecidedError)
    assert found.exit_code == ExitCode.UNDECIDED
    assert found.reasons[0].startswith("baselines/colours.json: there is no baseline yet")
    assert read_evaluation(found.evaluation.folder).header == found.evaluation.header
    with pytest.raises(UndecidedError, match="there is no baseline yet"):
        gate_and_report(found.evaluation, workspace=here)
    first = evaluate_and_gate("a", workspace=here, bootstrap=True)
    assert (first.error, first.exit_code, len(first.reasons)) == (None, ExitCode.OK, 1)
    count = len(list(here.evaluations.iterdir()))
    for mistake in ({"against": "nothing"}, {"overrides": ["train.seed=1"]}, {"dataset": "x@9"}):
        with pytest.raises(UsageError):
            evaluate_and_gate("a", workspace=here, **mistake)  # type: ignore[arg-type]
    assert len(list(here.evaluations.iterdir())) == count


def test_what_follows_an_evaluation(here: Workspace) -> None:
    first, second = (
        evaluate_and_gate("a", workspace=here, against=None, reports=Reports(html=False)).evaluation
        for _ in range(2)
    )
    assert promote(first, workspace=here).file == Path("baselines/colours.json")
    known = promotions("colours", workspace=here)
    assert [item["evaluation"] for item in known.history] == [first.id]
    with pytest.raises(UsageError, match="has not been gated"):
        promote(second, workspace=here)
    gate_and_report(second, workspace=here)
    (needed, *_) = power(second, margin=0.5, workspace=here).scorers
    assert needed.have == 8
    page = write_html(second, workspace=here, path=Path("r.html")).report
    assert page.read_text("utf-8").startswith("<!doctype html>")
    routes, table = Path("routes.yaml"), Path("compare.md")
    found = compare_evaluations(
        [first.id, second.id], workspace=here, routes=routes, markdown=table
    )
    assert [item.id for item in found.evaluations] == [first.id, second.id]
    assert found.routes is not None and found.routes.default.evaluation == found.against == first.id
    assert routes.is_file() and table.is_file()


def test_an_evaluation_that_is_removed_while_it_is_gated_stays_removed(here: Workspace) -> None:
    evaluated = evaluate_and_gate("a", workspace=here, against=None).evaluation
    promote(evaluated, workspace=here, why="first")
    evaluation = read_evaluation(evaluated.folder)
    baseline, _ = find_baselines("baseline", "colours", workspace=here)
    shutil.rmtree(evaluation.folder)
    with pytest.raises(UsageError, match=r"cannot write .*gate\.json"):
        gate(evaluation, baseline)
    with pytest.raises(UsageError, match=r"cannot write .*report\.html"):
        write_html(evaluation, workspace=here)
    assert not evaluation.folder.exists()


def test_outputs_made_elsewhere_are_scored_and_gated(workspace: Path) -> None:
    for name, word in (("old", "red"), ("new", "blue")):
        rows = [{"id": f"e{number}", "output": word, "reference": "red"} for number in range(100)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = score_file(
            Path(f"{name}.jsonl"), scorers=["equals"], output=Path(f"{name}-scores.jsonl")
        )
        assert (done.scores, done.missing, done.rows) == (100, 0, None)
    result = gate_files(Path("old-scores.jsonl"), Path("new-scores.jsonl"))
    assert (result.verdict.outcome, result.exit_code) == ("regression", ExitCode.REGRESSION)
    assert result.report is None and result.printed.html is None
