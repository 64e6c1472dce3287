"""`ftreg data import --from otel`: production calls become a dataset version."""

import functools
import json
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftreg.data.sources.spans import span_rows
from ftreg.errors import UsageError
from tests.conftest import Cli


def attribute(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": name, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": name, "value": {"intValue": str(value)}}
    if isinstance(value, list):
        return {
            "key": name,
            "value": {"arrayValue": {"values": [{"stringValue": item} for item in value]}},
        }
    return {"key": name, "value": {"stringValue": value}}


def span(name: str, trace: str = "t1", events: Any = (), **attributes: Any) -> dict[str, Any]:
    return {
        "traceId": trace,
        "spanId": name,
        "name": name,
        "attributes": [attribute(key.replace("__", "."), item) for key, item in attributes.items()],
        "events": list(events),
    }


def export(*spans: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [attribute("service.name", "desk")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


# The same call in each convention.
GEN_AI = span(
    "a1",
    gen_ai__operation__name="chat",
    gen_ai__request__model="small-1",
    gen_ai__system_instructions=json.dumps([{"type": "text", "content": "Be brief."}]),
    gen_ai__input__messages=json.dumps(
        [{"role": "user", "parts": [{"type": "text", "content": "When does it sail? ✓"}]}]
    ),
    gen_ai__output__messages=json.dumps(
        [{"role": "assistant", "parts": [{"type": "text", "content": "At noon."}]}]
    ),
    app__difficulty="easy",
    gen_ai__usage__input_tokens=12,
)
OPENINFERENCE = span(
    "a2",
    trace="t2",
    openinference__span__kind="LLM",
    llm__input_messages__0__message__role="system",
    llm__input_messages__0__message__content="Be brief.",
    llm__input_messages__1__message__role="user",
    llm__input_messages__1__message__contents__0__message_content__text="When does it sail? ✓",
    llm__output_messages__0__message__role="assistant",
    llm__output_messages__0__message__content="At noon.",
    metadata=json.dumps({"app.difficulty": "hard"}),
    tag__tags=["beta"],
)
RETRIEVER = span(
    "r2",
    trace="t2",
    openinference__span__kind="RETRIEVER",
    retrieval__documents__1__document__content="No ferry on Sundays.",
    retrieval__documents__0__document__content="The ferry sails at noon.",
)
TRACEAI = span(
    "a3",
    trace="t3",
    fi__span__kind="LLM",
    input__value="When does it sail? ✓",
    output__value="At noon.",
)
EVENTS = span(
    "a4",
    trace="t4",
    gen_ai__operation__name="chat",
    events=[
        {
            "name": "gen_ai.client.inference.operation.details",
            "attributes": [
                attribute(
                    "gen_ai.input.messages",
                    json.dumps([{"role": "user", "content": "When does it sail? ✓"}]),
                )
            ],
        }
    ],
)
CHAIN = span("c1", openinference__span__kind="CHAIN", input__value="not a call of a model")


def rows(folder: str, split: str = "eval") -> dict[str, dict[str, Any]]:
    lines = Path("sample_datasets", folder, f"{split}.jsonl").read_text("utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def imported(cli: Cli, path: Path, *more: str) -> Any:
    return cli(
        "data", "import", "desk", "--from", "otel", "--eval", path,
        "--license", "LicenseRef-ours", *more,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["lines", "indented"])
def test_each_convention_gives_the_same_row(cli: Cli, workspace: Path, form: str) -> None:
    path = workspace / "spans.json"
    batches = [export(GEN_AI, CHAIN), export(OPENINFERENCE, RETRIEVER, TRACEAI), export(EVENTS)]
    if form == "lines":
        path.write_text("".join(json.dumps(batch) + "\n" for batch in batches), "utf-8")
    else:
        whole = {"resourceSpans": [group for batch in batches for group in batch["resourceSpans"]]}
        path.write_text(json.dumps(whole, indent=2), "utf-8")
    done = imported(cli, path, "--cohort", "app.difficulty", "--map", "reference=output")
    assert done.code == 0, done
    found = rows("desk/v1")
    assert set(found) == {"a1", "a2", "a3", "a4"}
    assert {row["input"] for row in found.values()} == {"When does it sail? ✓"}
    assert [found[name].get("reference") for name in ("a1", "a2", "a3")] == ["At noon."] * 3
    assert found["a2"]["context"] == "The ferry sails at noon.\n\nNo ferry on Sundays."
    assert "context" not in found["a1"]
    assert found["a1"]["tags"] == {
        "service.name": "desk",
        "gen_ai.request.model": "small-1",
        "app.difficulty": "easy",
    }
    assert found["a2"]["tags"] == {
        "service.name": "desk",
        "app.difficulty": "hard",
        "beta": "true",
    }
    shown = cli("data", "show", "desk@1", "--json").json
    assert "app.difficulty=hard" in json.dumps(shown)


def test_without_a_mapping_the_answers_of_production_are_no_references(
    cli: Cli, workspace: Path
) -> None:
    path = workspace / "spans.json"
    path.write_text(json.dumps(export(GEN_AI)))
    done = imported(cli, path, "--json")
    assert done.code == 0, done
    assert "reference" not in rows("desk/v1")["a1"]
    assert set(done.json["ignored_columns"]["eval"]) == {"output", "system"}


def test_several_turns_become_a_chat(cli: Cli, workspace: Path) -> None:
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": [{"type": "text", "text": "When?"}]},
    ]
    path = workspace / "spans.json"
    messages = json.dumps(turns)
    path.write_text(
        json.dumps(
            export(span("a", gen_ai__operation__name="chat", gen_ai__input__messages=messages))
        )
    )
    assert imported(cli, path).code == 0
    assert rows("desk/v1")["a"]["messages"] == [*turns[:2], {**turns[2], "content": "When?"}]


ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "When?"},
]
SAILS = {"role": "assistant", "content": "At noon."}


def event(name: str, **attributes: Any) -> dict[str, Any]:
    found = [attribute(key.replace("__", "."), item) for key, item in attributes.items()]
    return {"name": name, "attributes": found}


# The same chat as each library records it.
OPENLLMETRY = span(
    "openllmetry",
    llm__request__type="chat",
    gen_ai__completion__0__content="At noon.",
    **{
        f"gen_ai__prompt__{number}__{key}": value
        for number, turn in enumerate(ASKED)
        for key, value in turn.items()
    },
)
VERCEL = span(
    "vercel",
    ai__operationId="ai.streamText.doStream",
    ai__prompt__messages=json.dumps(
        [
            ASKED[0],
            *(
                {**turn, "content": [{"type": "text", "text": turn["content"]}]}
                for turn in ASKED[1:]
            ),
        ]
    ),
    ai__response__text="At noon.",
    ai__telemetry__metadata__topic="ferry",
)
LANGFUSE = span(
    "langfuse",
    langfuse__observation__type="generation",
    langfuse__observation__input=json.dumps({"messages": ASKED}),
    langfuse__observation__output=json.dumps(SAILS),
    langfuse__observation__metadata__topic="ferry",
)
MLFLOW = span(
    "mlflow",
    mlflow__spanType=json.dumps("CHAT_MODEL"),
    mlflow__spanInputs=json.dumps({"model": "m", "messages": ASKED}),
    mlflow__spanOutputs=json.dumps({"choices": [{"message": SAILS}]}),
)
LANGCHAIN = span(
    "langchain",
    mlflow__spanType=json.dumps("CHAT_MODEL"),
    mlflow__spanInputs=json.dumps(
        [[{"type": {"user": "human", "assistant": "ai"}.get(turn["role"], turn["role"]),
           "content": turn["content"]} for turn in ASKED]]
    ),
    mlflow__spanOutputs=json.dumps({"generations": [[{"text": "At noon."}]]}),
)  # fmt: skip
MESSAGE_EVENTS = span(
    "events",
    gen_ai__system="openai",
    events=[
        *(event(f"gen_ai.{turn['role']}.message", content=turn["content"]) for turn in ASKED[:3]),
        event("gen_ai.user.message", gen_ai__event__content=json.dumps({"content": "When?"})),
        event("gen_ai.choice", message=json.dumps(SAILS), index=0),
    ],
)
TWO_EVENTS = span(
    "two",
    events=[
        event("gen_ai.content.prompt", gen_ai__prompt=json.dumps(ASKED[:2])),
        event("gen_ai.content.prompt", gen_ai__prompt=json.dumps(ASKED[2:])),
        event("gen_ai.content.completion", gen_ai__completion=json.dumps([SAILS])),
    ],
)
GROWING = span(
    "growing",
    gen_ai__operation__name="chat",
    events=[
        event("details", gen_ai__input__messages=json.dumps(ASKED[:2])),
        event("details", gen_ai__input__messages=json.dumps(ASKED)),
        event("details", gen_ai__output__messages=json.dumps([SAILS])),
    ],
)
WORKFLOW = span("w", traceloop__span__kind="workflow", traceloop__entity__input="no call")
OUTER = span("o", ai__operationId="ai.streamText", ai__prompt=json.dumps({"prompt": "no call"}))


def test_each_library_gives_the_same_chat(cli: Cli, workspace: Path) -> None:
    path = workspace / "spans.json"
    calls = [OPENLLMETRY, VERCEL, LANGFUSE, MLFLOW, LANGCHAIN, MESSAGE_EVENTS, TWO_EVENTS, GROWING]
    silent = span("silent", langfuse__observation__type="generation")
    path.write_text(json.dumps(export(*calls, WORKFLOW, OUTER, silent)), "utf-8")
    done = imported(cli, path, "--map", "reference=output")
    assert done.code == 0, done
    found = rows("desk/v1")
    assert set(found) == {call["spanId"] for call in calls}
    for name, row in found.items():
        assert row["messages"] == ASKED, name
        assert row["reference"] == "At noon.", name
    tags = {name: set(row.get("tags", ())) - {"service.name"} for name, row in found.items()}
    assert {name: own for name, own in tags.items() if own} == {
        "vercel": {"ai.telemetry.metadata.topic"},
        "langfuse": {"langfuse.observation.metadata.topic"},
    }
    said = done.err.replace("\n", " ")
    assert "1 calls without a recorded input were left out: silent" in said


def test_calls_of_tools_and_their_results_are_turns(cli: Cli, workspace: Path) -> None:
    parts = [
        {"role": "user", "parts": [{"type": "text", "content": "When?"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "tool_call", "id": "c", "name": "find", "arguments": {"to": "Molde"}}
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "noon"}]},
    ]
    vercel = [
        {"role": "user", "content": [{"type": "text", "text": "When?"}]},
        {
            "role": "assistant",
            "content": [
                {
                    "type": "tool-call",
                    "toolCallId": "c",
                    "toolName": "find",
                    "args": {"to": "Molde"},
                }
            ],
        },
        {
            "role": "tool",
            "content": [{"type": "tool-result", "toolCallId": "c", "result": "noon"}],
        },
    ]
    tool = {"type": "function", "name": "find", "inputSchema": {"type": "object"}}
    path = workspace / "spans.json"
    calls = [
        span(
            "a",
            gen_ai__operation__name="chat",
            gen_ai__input__messages=json.dumps(parts),
            gen_ai__tool__definitions=json.dumps([tool]),
        ),
        span(
            "b",
            ai__operationId="ai.generateText.doGenerate",
            ai__prompt__messages=json.dumps(vercel),
            ai__prompt__tools=[json.dumps(tool)],
            ai__response__toolCalls=json.dumps([{"toolName": "find", "args": '{"to": "Oslo"}'}]),
        ),
    ]
    path.write_text(json.dumps(export(*calls)), "utf-8")
    done = imported(cli, path, "--map", "reference=output")
    assert done.code == 0, done
    found = rows("desk/v1")
    for row in found.values():
        function = {"name": "find", "arguments": {"to": "Molde"}}
        assert row["messages"] == [
            {"role": "user", "content": "When?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "c", "type": "function", "function": function}],
            },
            {"role": "tool", "content": "noon", "tool_call_id": "c"},
        ]
        assert row["tools"][0]["function"]["name"] == "find"
    called = found["b"]["reference"].removeprefix("<tool_call>").removesuffix("</tool_call>")
    assert json.loads(called) == {"name": "find", "arguments": {"to": "Oslo"}}


def test_a_question_gets_the_retrieval_of_its_own_parent(cli: Cli, workspace: Path) -> None:
    """One trace: two questions with a retriever each, in its span or a step below, one without, and
    one that a model put anew before it searched."""

    def below(parent: str, made: dict[str, Any], start: int = 0) -> dict[str, Any]:
        return {**made, "parentSpanId": parent, "startTimeUnixNano": str(start)}

    def asking(name: str) -> dict[str, Any]:
        return span(name, gen_ai__operation__name="chat", gen_ai__prompt=f"{name}?")

    def finding(name: str, **attributes: str) -> dict[str, Any]:
        return span(name, **attributes)

    documents = json.dumps([{"page_content": "Second."}])
    spans = [
        span("session"),
        below("session", span("one")),
        below("one", finding("r1", retrieval__documents__0__document__content="First."), 1),
        below("one", asking("call1"), 2),
        below("one", finding("late", retrieval__documents__0__document__content="Too late."), 3),
        below("session", span("two")),
        below("two", span("search")),
        below(
            "search",
            finding("r2", mlflow__spanType='"RETRIEVER"', mlflow__spanOutputs=documents),
        ),
        below("two", span("answer")),
        below("answer", asking("call2")),
        below("session", span("three")),
        below("three", asking("call3")),
        below("session", span("four")),
        below("four", span("anew")),
        below("anew", asking("rewritten")),
        below(
            "anew",
            span("r4", events=[event("db.query.result", db__query__result__document="Fourth.")]),
        ),
        below("four", asking("call4")),
    ]
    path = workspace / "spans.json"
    path.write_text(json.dumps(export(*spans)), "utf-8")
    assert imported(cli, path, "--prompt-user", "{input}").code == 0
    found = {name: row.get("context") for name, row in rows("desk/v1").items()}
    assert found == {
        "call1": "First.",
        "call2": "Second.",
        "call3": None,
        "rewritten": "Fourth.",
        "call4": "Fourth.",
    }


def test_spans_of_one_call_are_one_row(cli: Cli, workspace: Path) -> None:
    """A framework's span around a client's; the innermost with its input counts.

    Not where a tool or an agent stands between, nor of a wrapper's several questions one only.
    https://github.com/DataDog/dd-trace-js/issues/8936,
    https://github.com/braintrustdata/braintrust-sdk-javascript/issues/992
    """

    def below(parent: str, made: dict[str, Any]) -> dict[str, Any]:
        return {**made, "parentSpanId": parent}

    def asking(name: str, **more: str) -> dict[str, Any]:
        return span(name, gen_ai__operation__name="chat", gen_ai__prompt=f"{name}?", **more)

    def wrapping(name: str) -> dict[str, Any]:
        return span(
            name, mlflow__spanType='"CHAT_MODEL"', mlflow__spanInputs=f'"{name}?"', app__plan="pro"
        )

    found = span("r", retrieval__documents__0__document__content="Found.")
    spans = [
        # The client's span was written first, and the context is the wrapper's sibling's.
        span("rag"), below("langchain", asking("openai", app__plan="free", app__tier="1")),
        below("rag", span("look up")), below("look up", found),
        below("look up", asking("rewriting")), below("rag", wrapping("langchain")),
        # A client that does not record what it was asked.
        wrapping("recorded"), below("recorded", span("silent", gen_ai__operation__name="chat")),
        # Several steps, each of two libraries.
        wrapping("loop"), below("loop", asking("first")), below("loop", wrapping("second")),
        below("second", span("http")), below("http", asking("second inner")),
        # A tool of the first model asks another.
        wrapping("planner"), below("planner", span("tool", openinference__span__kind="TOOL")),
        below("tool", asking("helper")),
        below("planner", span("check", langfuse__observation__type="guardrail")),
        below("check", asking("guard")),
        # What is above itself is not the same call twice.
        below("ring b", asking("ring a")), below("ring a", asking("ring b")),
    ]  # fmt: skip
    path = workspace / "spans.json"
    path.write_text(json.dumps(export(*spans)), "utf-8")
    done = imported(cli, path, "--prompt-user", "{input}")
    assert done.code == 0, done
    assert "left out" not in done.err
    got = rows("desk/v1")
    calls = {
        "openai",
        "rewriting",
        "recorded",
        "first",
        "second inner",
        "planner",
        "helper",
        "guard",
    }
    assert set(got) - {"ring a", "ring b"} == calls
    assert len(got) == len(calls) + 1
    assert got["openai"]["context"] == "Found."
    tags = got["openai"]["tags"]
    assert (tags["app.plan"], tags["app.tier"]) == ("free", "1")
    assert got["second inner"]["tags"]["app.plan"] == "pro"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}\n", "no resourceSpans"),
        ("[]\n", "expected a JSON object"),
        ("{\n", "broken JSON"),
        (json.dumps(export(CHAIN)) + "\n", "1 spans, but none of them is a language-model call"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [3]}]}]}\n', "not OTLP JSON"),
        ('{"resourceSpans": 3}\n', "not OTLP JSON"),
    ],
)
def test_what_is_no_export_is_refused(cli: Cli, workspace: Path, text: str, says: str) -> None:
    path = workspace / "spans.json"
    path.write_text(text)
    done = imported(cli, path)
    assert done.code == 2
    assert says in done.err and "spans.json" in done.err
    assert not Path("sample_datasets/desk/v1").exists()


def _places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Every place within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from _places(item, *path, key)


def test_whatever_stands_anywhere_ends_with_rows_or_one_message(tmp_path: Path) -> None:
    text = json.dumps(export(GEN_AI, RETRIEVER))
    # Lists where a key is looked up, numbers that are none, half characters, JSON within JSON.
    odd = [
        None, 0, float("inf"), [], [1], {}, "9" * 5000, "\ud800",
        json.dumps([{"content": "\ud800"}]), {"intValue": float("inf")},
        {"arrayValue": {"values": 5}}, {"stringValue": [1]},
    ]  # fmt: skip
    path, refused = tmp_path / "spans.json", 0
    for *above, last in _places(json.loads(text)):
        for value in odd:
            document = json.loads(text)
            functools.reduce(operator.getitem, above, document)[last] = value
            indented = 1 if value is None or isinstance(value, str) else None
            path.write_text(json.dumps(document, indent=indented) + "\n")
            try:
                for _, row in span_rows(path):
                    json.dumps(row, ensure_ascii=False).encode()
                    assert isinstance(row["id"], str)
                    assert isinstance(row.get("input", ""), str)
            except UsageError as error:
                refused += 1
                assert str(error).startswith(str(path))
    assert refused > 100


def test_another_form_is_refused(cli: Cli, workspace: Path) -> None:
    path = workspace / "spans.json"
    path.write_text("{}")
    done = cli("data", "import", "desk", "--from", "otlp", "--eval", path, "--license", "MIT")
    assert done.code == 2
    assert "otel" in done.err
