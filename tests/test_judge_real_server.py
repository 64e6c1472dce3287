"""The judge against a real OpenAI-compatible server that runs the packaged model."""

import json
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.real_server import serve

pytestmark = pytest.mark.slow


@pytest.mark.timeout(900)
def test_the_judge_and_a_rubric_talk_to_a_real_server(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model this small writes no verdict that holds: null is the honest score, and not free."""
    from ftreg.models.packaged import packaged_folder

    cache = Path("cache").absolute()
    monkeypatch.delenv("FTREG_CACHE")
    model = packaged_folder("smollm2-135m-instruct")
    monkeypatch.setenv("FTREG_CACHE", str(cache))
    monkeypatch.setenv("no_proxy", "*")
    row = {"id": "a", "input": "How many lanes?", "output": "It has eight lanes.",
           "context": "The bridge has eight lanes."}  # fmt: skip
    Path("outputs.jsonl").write_text(json.dumps(row) + "\n")
    with serve(model) as url:
        options = {
            "base_url": url,
            "model": str(model),
            "max_tokens": 12,
            "timeout": 600,
            "max_retries": 0,
        }
        judge = {"name": "faithfulness", "backend": "judge", "options": options}
        rubric = {"name": "rubric:tone", "options": {**options, "criteria": "It is polite."}}
        scorers = ["--scorer", json.dumps(judge), "--scorer", json.dumps(rubric)]
        done = cli("score", "outputs.jsonl", *scorers, "-o", "s.jsonl")
        assert done.code == 0, done
        wrong = json.dumps({**judge, "options": {**options, "model": "gpt-99"}})
        refused = cli("score", "outputs.jsonl", "--scorer", wrong)
    rows = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert [row["scorer"] for row in rows] == ["faithfulness", "rubric:tone"]
    for found in rows:
        # What the model wrote was read: a score, or the reason why it is none.
        cost = found["evidence"][0]["judge"]
        assert cost["prompt_tokens"] > 100
        assert 0 < cost["completion_tokens"] <= 24
        if found["score"] is None:
            assert "of no use" in found["reason"] or "cut off" in found["reason"]
    assert "; the judge read " in done.out
    assert refused.code == 2
    assert "'gpt-99' a model of this server" in refused.err.replace("\n", " ")
    assert str(model) in refused.err.replace("\n", "")
