"""What scorers see of a chat: its question, what its answer may rest on, and all of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ftreg.records.samples import Sample
from ftreg.scoring import get_scorer
from ftreg.scoring.protocol import Inquiry, Relation, Support
from tests.conftest import Cli
from tests.judge_server import completion, serving

CALL = {"type": "function", "function": {"name": "track", "arguments": {"parcel": 7}}}
TRACKED = [
    {"role": "system", "content": "You are a help desk. Parcels are free."},
    {"role": "user", "content": "Where is my parcel?"},
    {"role": "assistant", "content": "What number has it?"},
    {"role": "user", "content": "Number 7, please."},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": '{"parcel": 7, "gate": 3}'},
]
OUTPUT = "Parcel 7 is at gate 3."


class Recorder:
    """A backend that keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Inquiry] = []

    def describe(self) -> dict[str, Any]:
        return {"name": "recorder"}

    def judge(self, relation: Relation, inquiries: Sequence[Inquiry]) -> list[list[Support]]:
        self.asked += inquiries
        return [[Support(1.0) for _ in inquiry.points] for inquiry in inquiries]


def asked(scorer: str, sample: Sample, **options: Any) -> Inquiry:
    backend = Recorder()
    get_scorer(scorer, backend=backend, **options).score([sample])
    (inquiry,) = backend.asked
    return inquiry


def chat(messages: list[dict[str, Any]], **fields: Any) -> Sample:
    said = [turn["content"] for turn in messages if turn["role"] == "user"]
    given = {"id": "a", "input": said[-1], "output": OUTPUT, "messages": messages}
    return Sample(**(given | fields))


def turns(*said: str) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]


@pytest.mark.parametrize(
    ("said", "question"),
    [
        (("When does it sail?", "At noon.", "And on Sundays?"), "And on Sundays?"),
        (("Where is it?", "In which town?", "Molde"), "Where is it?\nMolde"),
        (
            ("Is it open?", "Which pool?", "The big one", "At what time?", "At eight"),
            "Is it open?\nThe big one\nAt eight",
        ),
        (("I have a fever.", "Since when?", "For three days."), "I have a fever.\nFor three days."),
        (
            ("When?", "At noon.", "Translate what I write next: the boat sails at noon today"),
            "Translate what I write next: the boat sails at noon today",
        ),
        (("Molde",), "Molde"),
    ],
)
def test_a_reply_is_read_with_the_question_it_goes_on_with(
    said: tuple[str, ...], question: str
) -> None:
    assert asked("answer_relevancy", chat(turns(*said))).text == question


def test_what_tools_answered_is_evidence_and_what_was_said_is_not() -> None:
    inquiry = asked("faithfulness", chat(TRACKED))
    assert inquiry.text == '{"parcel": 7, "gate": 3}'
    assert inquiry.question == "Where is my parcel?"
    both = asked("faithfulness", chat(TRACKED, context="Gates open at six."))
    assert both.text == 'Gates open at six.\n\n{"parcel": 7, "gate": 3}'
    covered = asked("completeness", chat(TRACKED), source="context")
    assert covered.question == "Where is my parcel?"
    (score,) = get_scorer("faithfulness", backend=Recorder()).score([chat(turns("Where?"))])
    assert score.value is None


def test_a_judge_by_criteria_sees_the_chat(workspace: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server:
        server.script = lambda chat: completion(json.dumps({"explanation": "Fine.", "score": 4}))
        options = {"base_url": server.url, "model": "m", "max_retries": 0, "criteria": "Polite."}
        get_scorer("rubric", **options).score([chat(TRACKED)])
        told = server.chats[0].body["messages"][-1]["content"]
    for says in ("user: Where is my parcel?", "assistant: What number has it?", "track", "gate"):
        assert says in told


def test_a_file_of_outputs_may_have_chats(cli: Cli, workspace: Path) -> None:
    path = workspace / "outputs.jsonl"
    answered = [*TRACKED, {"role": "assistant", "content": OUTPUT}]
    rows = [{"id": str(at), "output": OUTPUT, "messages": answered} for at in range(2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = cli("score", path, "--scorer", "tests.scoring.test_conversation:Seen")
    assert done.code == 0, done
    seen = json.loads(done.out.splitlines()[0])["evidence"][0]
    assert (seen["input"], seen["turns"]) == ("Number 7, please.", 6)
    path.write_text(json.dumps({**rows[0], "messages": [{"role": "user"}]}))
    refused = cli("score", path, "--scorer", "equals")
    assert refused.code == 2
    assert "outputs.jsonl:1: messages[0]" in refused.err.replace("\n", " ")


class Seen:
    """A scorer of a user's own that says what it was shown."""

    name, version = "seen", 1

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version}

    def score(self, samples: Sequence[Sample]) -> list[Any]:
        from ftreg.scoring import Score

        return [
            Score(1.0, evidence=({"input": one.input, "turns": len(one.messages)},))
            for one in samples
        ]


@pytest.mark.slow
def test_the_packaged_models_tell_answers_in_a_chat_apart() -> None:
    relevancy, faithfulness = get_scorer("answer_relevancy"), get_scorer("faithfulness")
    lost = turns("Where is my parcel?", "What number has it?", "Number 7")
    stale = turns("When does the boat sail?", "At 22:15.", "May I take my dog on board?")
    answers = [
        chat(lost, output="Your parcel is at gate 3."),
        chat(lost, output="The cafe serves soup."),
        chat(stale, output="Yes, dogs may come on board."),
        chat(stale, output="The boat sails at 22:15."),
    ]
    right, off, fresh, old = (score.value or 0.0 for score in relevancy.score(answers))
    assert (right > 0.7, off < 0.3, fresh > 0.7, old < 0.3) == (True,) * 4
    true, false = faithfulness.score([chat(TRACKED), chat(TRACKED, output="It is at gate 5.")])
    assert (true.value or 0.0) > 0.7 > 0.3 > (false.value or 0.0)
