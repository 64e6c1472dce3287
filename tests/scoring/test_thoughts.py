"""Thoughts are not the answer: no scorer sees them, unless that is asked for."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftreg.records.thought_tags import answer_of
from ftreg.scoring import SCORERS, Sample, get_scorer
from ftreg.scoring.factory import PROBES
from tests.conftest import Cli
from tests.judge_server import Chat, Server, completion, gullible, serving
from tests.scoring.test_evaluate_adapter import SHARE, write_metric

ANSWER = "The kiln reaches 1,240 degrees."
THOUGHTS = "The kiln is cold.\nWait, 900 degrees? No."


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as running:
        running.reads = lambda body: body
        running.script = lambda body: completion(ANSWER)
        yield running


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"<think>{THOUGHTS}</think>\n\n{ANSWER}\n", ANSWER),
        (f"<think>\n\n</think>\n\n{ANSWER}", ANSWER),
        (f"{THOUGHTS}\n</think>{ANSWER}", ANSWER),
        (f"<THINKING>{THOUGHTS}</Thinking> {ANSWER}", ANSWER),
        (f"[THINK]{THOUGHTS}[/THINK]{ANSWER}", ANSWER),
        (f"<|begin_of_thought|>{THOUGHTS}<|end_of_thought|>\n{ANSWER}", ANSWER),
        (f"◁think▷{THOUGHTS}◁/think▷{ANSWER}", ANSWER),
        # A tag within the thoughts, and thoughts in several places.
        (f"<think>Is <think> a tag? {THOUGHTS}</think>{ANSWER}", ANSWER),
        (f"<think>It ends with </think>, so.\n</think>{ANSWER}", ANSWER),
        ("<think>a</think>Half. <think>b</think>Whole.", "Half. Whole."),
        # Cut off: no answer, or only what stands before.
        (f"<think>{THOUGHTS}", ""),
        (f"\n <think>{THOUGHTS}", ""),
        ("<think>", ""),
        (f"{ANSWER}\n<think>{THOUGHTS}", ANSWER),
        (f"<think>a</think>{ANSWER}\n<think>b", ANSWER),
        # No thoughts: left as it is, blanks too.
        (f"  {ANSWER}\n", f"  {ANSWER}\n"),
        ("", ""),
        (" `<think>` and `</think>` ", " `<think>` and `</think>` "),
        ("The tag <think> begins it.", "The tag <think> begins it."),
        ("a < think > b", "a < think > b"),
        # The tags of one model do not close those of another.
        ("<think>a</thinking>b", ""),
    ],
)  # fmt: skip
def test_what_is_left_of_a_text(text: str, answer: str) -> None:
    assert answer_of(text) == answer
    assert answer_of(answer) == answer


def judging(chat: Chat) -> dict[str, Any]:
    """Grade an output by whether it has the thoughts' number, and judge a point by its words."""
    if "OUTPUT" in chat.parts and not chat.points:
        grade = 1 if "900" in chat.parts["OUTPUT"] else 4
        return completion(json.dumps({"explanation": "I read it.", "score": grade}))
    return gullible(chat)


CALL = '{"name": "fire", "arguments": {"degrees": 1240}}'
OPTIONS: dict[str, dict[str, Any]] = {
    "rubric": {"criteria": "It is short."},
    "evaluate": {"key": "share"},
    "json_schema": {"schema": {"type": "object"}},
    "tool_call": {"tools": [{"name": "fire", "parameters": {"type": "object"}}]},
    "tests.fakes:length_scorer": {"limit": 400},
}
"""What a scorer needs; those that think do so with a judge."""
ANSWERS = {"json_schema": CALL, "tool_call": CALL}
"""A right answer, where it is no sentence."""


APART = ("json_schema", "tool_call", *PROBES)
"""Scorers of texts of their own form, and those that see no output of the dataset."""


@pytest.mark.parametrize(
    "name", [*(name for name in SCORERS if name not in APART), "tests.fakes:length_scorer"]
)
def test_no_scorer_sees_thoughts_by_default(name: str, cli: Cli, server: Server) -> None:
    """Each that ftreg has, and one of a user's own, scores as if the answer stood alone."""
    server.reads, server.script = Chat, judging
    named: dict[str, Any] = {"name": write_metric(SHARE) if name == "evaluate" else name}
    options = OPTIONS.get(name, {})
    answer = ANSWERS.get(name, ANSWER)
    if "backend" in inspect.signature(SCORERS.load(name)).parameters:
        named["backend"] = "judge"
        options = {**options, "base_url": server.url, "model": "m"}
    scorer = json.dumps({**named, "options": options})
    texts = {
        "alone": answer,
        "thought": f"<think>{THOUGHTS}</think>\n{answer}",
        "prompted": f"{THOUGHTS}</think>{answer}",
        "none": "",
        "cut": f"<think>{THOUGHTS} {answer} Or",
    }
    row = {"input": f"How hot? {answer}", "context": answer, "reference": answer}
    rows = [{"id": key, "output": text, **row} for key, text in texts.items()]
    Path("o.jsonl").write_text("".join(json.dumps(item) + "\n" for item in rows))

    def found(*more: str) -> dict[str, Any]:
        done = cli("score", "o.jsonl", "--scorer", scorer, "--json", *more)
        assert done.code == 0, done
        return {item["id"]: (item["score"], item["reason"]) for item in done.json["rows"]}

    stripped, kept = found(), found("--thoughts", "keep")
    assert stripped["alone"][0]
    assert stripped["thought"] == stripped["prompted"] == stripped["alone"]
    assert stripped["cut"] == stripped["none"]
    assert (kept["alone"], kept["none"]) == (stripped["alone"], stripped["none"])
    assert kept != stripped, "it would not have noticed"


def test_a_reference_with_thoughts_is_its_answer_too() -> None:
    references: list[Any] = [
        f"<think>{THOUGHTS}</think>{ANSWER}",
        [f"perhaps</think>{ANSWER}", "b"],
    ]
    for reference in references:
        sample = Sample(id="1", input="", output=ANSWER, reference=reference)
        assert get_scorer("equals").score([sample])[0].value == 1.0
        assert get_scorer("equals", thoughts="keep").score([sample])[0].value == 0.0


def test_an_evaluation_keeps_the_thoughts_and_says_what_scorers_saw(
    cli: Cli, config: Path, server: Server
) -> None:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    engine = json.dumps({"name": "openai", "base_url": server.url, "model": "m"})

    def evaluate(text: str, *more: str) -> tuple[dict[str, Any], float, set[str]]:
        server.script = lambda body: completion(text)
        cli("clean", "outputs", "--all")
        done = cli("eval", "a", "--no-gate", "-s", f"eval.engine={engine}", *more, "--json")
        assert done.code == 0, done
        header = done.json["evaluation"]
        path = Path("evaluations") / header["id"] / "outputs.jsonl"
        outputs = {json.loads(line)["output"] for line in path.read_text().splitlines()}
        return header, header["summary"]["tests.fakes:length_scorer"]["mean"], outputs

    keep = ("-s", "eval.thoughts=keep")
    thinking = "<think>Mauve, or rather teal?</think>\nteal"
    stripped, short, outputs = evaluate(thinking)
    assert (stripped["thoughts"], stripped["thoughts_in"]) == ("strip", 8)
    assert outputs == {thinking}
    kept, long, outputs = evaluate(thinking, *keep)
    assert (kept["thoughts"], kept["thoughts_in"]) == ("keep", 8)
    assert outputs == {thinking}
    assert (short, long) == (pytest.approx(len("teal") / 40), 1.0)
    # With one setting the two are not held against each other with another; an output without
    # thoughts has the same scores either way.
    done = cli("gate", stripped["id"], kept["id"])
    assert done.code == 3
    assert "thoughts: strip in the baseline, keep in the candidate" in done.err
    plain, _, _ = evaluate("teal", *keep)
    assert plain["thoughts_in"] == 0
    for pair in ((plain["id"], stripped["id"]), (stripped["id"], plain["id"])):
        assert "thoughts:" not in cli("gate", *pair).err
    done = cli("eval", "a", "-s", "eval.thoughts=hide")
    assert (done.code, "eval.thoughts" in done.err) == (2, True)


def test_an_evaluation_of_before_kept_the_thoughts() -> None:
    from ftreg.records.evaluation.comparable import header_differences

    old: dict[str, Any] = {
        "checkpoint": {"identity": "a"},
        "generation": {"precision": "fp32"},
        "dataset": {},
        "scorers": {},
    }
    stripped = {**old, "thoughts": "strip", "thoughts_in": 1}
    assert header_differences(old, {**stripped, "thoughts": "keep"}) == []
    assert header_differences(old, {**stripped, "thoughts_in": 0}) == []
    (line,) = header_differences(old, stripped)
    assert line == "thoughts: keep in the baseline, strip in the candidate"


@pytest.mark.parametrize(
    ("name", "options", "answer"),
    [
        ("json_schema", {"part": "fields"}, '{"a": 1}'),
        ("tool_call", {}, '{"name": "look", "arguments": {"a": 1}}'),
    ],
)
def test_structured_answers_are_read_without_thoughts(
    name: str, options: dict[str, Any], answer: str
) -> None:
    thought = Sample(id="1", input="", output=f"<think>{{</think>{answer}", reference=answer)
    assert get_scorer(name, **options).score([thought])[0].value == 1.0
    assert get_scorer(name, thoughts="keep", **options).score([thought])[0].value == 0.0
