"""Mistakes of a scorer of a user's own: exit 2 with its name and the row, never 70."""

import json
from pathlib import Path

import pytest

from ftreg.errors import UsageError
from ftreg.scoring import Sample, get_scorer
from tests.conftest import Cli, write_dataset

_SCORER = """
import sys
from ftreg.scoring import Score

class Mine:
    name, version = "mine", 1
    def describe(self):
        return {"name": "mine", "version": 1}
    def score(self, samples):
        return [self.one(sample) for sample in samples]
    def one(self, sample):
        return Score(1.0)
"""


def _module(workspace: Path, name: str, body: str) -> str:
    (workspace / f"{name}.py").write_text(_SCORER + body, encoding="utf-8")
    return f"{name}:Mine"


@pytest.mark.parametrize(
    ("module", "body", "said"),
    [
        ("gives_floats", "    def one(self, sample): return 0.5", "for the row 'e0', 0.5 (float);"),
        ("gives_85", "    def one(self, sample): return 85.0", "for the row 'e0', 85.0 (float);"),
        ("scores_85", "    def one(self, sample): return Score(85.0 if sample.id == 'e2' else 1.0)",
         "failed on the row 'e2': ValueError: a score must lie in [0, 1], got 85.0"),
        ("too_few", "    def score(self, samples): return [Score(1.0)] * (len(samples) - 1)",
         "gave 3 scores for 4 samples; the first row without one is 'e3'"),
        ("too_many", "    def score(self, samples): return [Score(1.0)] * 9",
         "gave 9 scores for 4 samples;"),
        ("none", "    def score(self, samples): pass", "gave None for 4 samples, the first"),
        ("lazy", "    def score(self, samples):\n        yield from [Score(1.0)]\n        1 / 0",
         "failed on the row 'e0': ZeroDivisionError"),
        ("together", "    def score(self, samples): return [Score(1.0 / (4 - len(samples)))]",
         "failed on all rows: ZeroDivisionError"),
        ("exits", "    def one(self, sample): sys.exit(0)", "row 'e0': it called sys.exit(0)"),
        ("unmade", "    def __init__(self): sys.exit('no key')", "to be made: it called sys.exit"),
        ("leaves", "sys.exit(1)", "cannot import 'leaves:Mine': SystemExit: 1"),
        ("no_json", "    def one(self, sample): return Score(1.0, evidence=({'a': {1}},))",
         "for the row 'e0', data that is not JSON"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_name_and_row(
    module: str, body: str, said: str, cli: Cli, workspace: Path
) -> None:
    scorer = _module(workspace, module, body)
    rows = [{"id": f"e{i}", "input": "a", "output": "b"} for i in range(4)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = cli("score", "in.jsonl", "--scorer", scorer, "-o", "out.jsonl")
    assert done.code == 2, done
    assert said in " ".join(done.err.split())
    assert module in done.err
    assert "Traceback" not in done.err
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize(
    ("module", "body", "said"),
    [
        ("describes", "    def describe(self): return 1 / 0", "to describe itself: ZeroDivision"),
        ("nothing", "    def describe(self): pass", "describe() must return a dict"),
        ("leveled", "    def describe(self): return {'levels': 'two'}", "an integer or None"),
        ("halts", "    def one(self, sample): sys.exit(1)", "row 'e0': it called sys.exit(1)"),
    ],
)
def test_an_evaluation_ends_with_2_too(
    module: str, body: str, said: str, cli: Cli, workspace: Path
) -> None:
    write_dataset(workspace / "sample_datasets")
    Path("in.jsonl").write_text("".join(f'{{"id": "e{i}", "output": "b"}}\n' for i in range(8)))
    scorer = _module(workspace, module, body)
    done = cli("eval", "--outputs", "in.jsonl", "--name", "x", "--dataset", "colours@1",
               "--scorer", scorer)  # fmt: skip
    assert done.code == 2, done
    assert said in " ".join(done.err.split())
    assert module in done.err
    assert not list(Path().glob("evaluations/*/evaluation.json"))


def test_the_traceback_is_behind_debug(
    cli: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = _module(workspace, "raises", "    def one(self, sample): raise KeyError('key')")
    Path("in.jsonl").write_text('{"id": "1", "output": "b"}\n')
    assert "Traceback" not in cli("score", "in.jsonl", "--scorer", scorer).err
    for given in (["--debug"], []):
        done = cli("score", "in.jsonl", "--scorer", scorer, *given)
        assert done.code == 2
        assert "raises.py" in done.err
        assert "KeyError: 'key'" in done.err
        monkeypatch.setenv("FTREG_DEBUG", "1")


def test_from_python_the_cause_is_the_error_itself(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = _module(workspace, "fails", "    def one(self, sample): raise KeyError('key')")
    with pytest.raises(UsageError) as caught:
        get_scorer(scorer).score([Sample(id="1", input="", output="")])
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_scorer_without_mistakes_is_as_it_was(workspace: Path) -> None:
    scorer = get_scorer(_module(workspace, "sound", "    extra = 'mine'"))
    assert [score.value for score in scorer.score([Sample(id="1", input="", output="")] * 3)] == [
        1.0
    ] * 3
    assert scorer.score([]) == []
    assert scorer.extra == "mine"  # type: ignore[attr-defined]
