"""The scorer of calls: their shapes, their names, their arguments, and what they fit."""

import json
from typing import Any

import pytest

from ftreg.errors import UsageError
from ftreg.scoring import Sample, Score, get_scorer
from ftreg.scoring.tool_call import Call, read_calls

BOOK = {"name": "book_table", "arguments": {"guests": 4, "day": "friday", "name": "Ada"}}
BOOKED = Call(BOOK["name"], BOOK["arguments"])
CANCEL = {"name": "cancel", "arguments": {"id": 17}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "book_table",
            "parameters": {
                "type": "object",
                "properties": {
                    "guests": {"type": "integer"},
                    "day": {"enum": ["friday", "sunday"]},
                    "name": {"type": "string"},
                    "outside": {"type": "boolean", "default": False},
                },
                "required": ["guests", "day"],
                "additionalProperties": False,
            },
        },
    },
    {"name": "cancel", "input_schema": {"properties": {"id": {"type": "integer"}}}},
    {"name": "list_tables"},
]


def text(*calls: Any) -> str:
    return json.dumps(calls[0] if len(calls) == 1 else list(calls))


def changed(**arguments: Any) -> dict[str, Any]:
    merged = {**BOOK["arguments"], **arguments}
    return {**BOOK, "arguments": {key: item for key, item in merged.items() if item is not None}}


def score(output: str, reference: Any, *, context: str | None = None, **options: Any) -> Score:
    sample = Sample(id="1", input="", output=output, reference=reference, context=context)
    (found,) = get_scorer("tool_call", **options).score([sample])
    return found


@pytest.mark.parametrize(
    "written",
    [
        text(BOOK),
        text([BOOK]),
        f"\n {text(BOOK)} \n",
        text({"name": BOOK["name"], "arguments": json.dumps(BOOK["arguments"])}),
        text({"name": BOOK["name"], "parameters": BOOK["arguments"]}),
        text({"id": "c1", "type": "function", "function": BOOK}),
        text({"role": "assistant", "content": None, "tool_calls": [{"function": BOOK}]}),
        f"<tool_call>\n{text(BOOK)}\n</tool_call>",
        f"I shall book it. <tool_call>{text(BOOK)}</tool_call> One moment.",
        f"<tool_call>\n{text(BOOK)}\n",
    ],
)
def test_every_shape_is_the_same_call(written: str) -> None:
    assert read_calls(written) == [BOOKED]
    assert score(written, text(BOOK)).value == 1
    assert score(text(BOOK), written).value == 1


@pytest.mark.parametrize(
    ("call", "value"),
    [
        (BOOK, 1.0),
        (changed(guests=4.0), 1.0),
        (changed(guests=5), round(2 / 3, 6)),
        (changed(guests="4"), round(2 / 3, 6)),
        (changed(day="Friday", name="ada"), round(1 / 3, 6)),
        (changed(name=None), round(2 / 3, 6)),
        (changed(outside=True), 0.75),
        ({**BOOK, "arguments": {}}, 0.0),
        ({"name": "book_table"}, 0.0),
        ({**BOOK, "name": "bookTable"}, 0.0),
        (CANCEL, 0.0),
    ],
)
def test_a_wrong_name_is_0_and_else_the_share_of_right_arguments(call: Any, value: float) -> None:
    assert score(text(call), text(BOOK)).value == value


def test_texts_may_be_compared_after_normalisation() -> None:
    call = text(changed(day="Friday.", name="ada"))
    assert score(call, text(BOOK), text="normalized").value == 1


def test_an_argument_that_holds_others_is_right_as_a_whole() -> None:
    wanted = {"name": "route", "arguments": {"via": [{"x": 1}, {"x": 2}], "fast": True}}
    near = {"name": "route", "arguments": {"via": [{"x": 1}, {"x": 3}], "fast": True}}
    found = score(text(near), text(wanted))
    assert found.value == 0.5
    (evidence,) = found.evidence
    assert evidence["different"] == [{"field": "$.via[1].x", "expected": 2, "found": 3}]


def test_the_evidence_names_what_is_missing_extra_and_different() -> None:
    found = score(text(changed(guests=5, name=None, outside=True)), text(BOOK))
    assert found.value == 0.25
    assert found.evidence == (
        {
            "call": "book_table",
            "found": "book_table",
            "support": 0.25,
            "problems": [],
            "missing": ["$.name"],
            "extra": ["$.outside"],
            "different": [{"field": "$.guests", "expected": 4, "found": 5}],
        },
    )


def test_calls_without_arguments() -> None:
    bare = '{"name": "list_tables"}'
    for arguments in ({}, None, ""):
        assert score(text({"name": "list_tables", "arguments": arguments}), bare).value == 1
    assert score('{"name": "list_tables", "arguments": {"all": true}}', bare).value == 0


def test_several_calls_are_paired_by_place_or_as_they_agree_best() -> None:
    both, turned = text(BOOK, CANCEL), text(CANCEL, BOOK)
    assert score(both, both).value == 1
    assert score(turned, both).value == 0
    assert score(turned, both, any_order=True).value == 1
    # One of one name, twice: the better pairing counts, not the first.
    asked = text({"name": "f", "arguments": {"a": 1, "b": 1}}, {"name": "f", "arguments": {"a": 2}})
    made = text({"name": "f", "arguments": {"a": 2}}, {"name": "f", "arguments": {"a": 1, "b": 2}})
    assert score(made, asked, any_order=True).value == 0.75
    for options in ({}, {"any_order": True}):
        assert score(text(BOOK), both, **options).value == 0.5
        assert score(both, text(BOOK), **options).value == 0.5
        assert score("I cannot.", both, **options).value == 0
        found = score(text(BOOK, CANCEL, CANCEL), both, **options)
        assert found.value == round(2 / 3, 6)
        assert (found.evidence[-1]["call"], found.evidence[-1]["found"]) == (None, "cancel")
    tagged = "".join(f"<tool_call>{text(call)}</tool_call>\n" for call in (CANCEL, BOOK))
    assert score(tagged, both, any_order=True).value == 1


def test_where_no_call_is_right() -> None:
    assert score("We are closed on Mondays.", "[]").value == 1
    assert score("[]", "[]").value == 1
    assert score(text(BOOK), "[]").value == 0
    assert score('{"name": "book_ta', "[]").value == 0  # it did try
    assert score('<tool_call>{"name"', "[]").value == 0


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Sure, booked!",
        '{"name": "book_table", "argum',
        '{"tool": "book_table"}',
        '{"name": 5, "arguments": {}}',
        '{"name": "book_table", "arguments": [4]}',
        '{"name": "book_table", "arguments": "four guests"}',
        "[1, 2]",
        "[" * 300 + "]" * 300,
        f"```json\n{text(BOOK)}\n```",
        f"<tool_call>{text(BOOK)}</tool_call><tool_call>oh</tool_call>",
    ],
)
def test_what_is_no_call_has_0_and_says_why(output: str) -> None:
    found = score(output, text(BOOK))
    assert found.value == 0
    assert found.evidence[0].get("problems") or found.evidence[0]["found"] is None


def test_a_fence_is_read_only_where_it_is_asked_for() -> None:
    assert score(f"```json\n{text(BOOK)}\n```", text(BOOK), fenced=True).value == 1


def test_arguments_are_held_against_the_tools() -> None:
    def graded(call: Any, wanted: Any = BOOK) -> Score:
        return score(text(call), text(wanted), tools=TOOLS)

    assert graded(BOOK).value == 1
    late = graded(changed(day="monday"))
    assert late.value == 0  # two of three are right, but nobody can run it
    assert late.evidence[0]["problems"] == [
        "book_table: $.day: 'monday' is not one of ['friday', 'sunday']"
    ]
    assert graded(changed(name="Bob")).value == round(2 / 3, 6)
    # A default that is left out is given all the same.
    assert graded(changed(outside=False)).value == 1
    assert graded(BOOK, changed(outside=False)).value == 1
    assert graded(changed(outside=True)).value == 0.75
    assert graded({"name": "book_tables", "arguments": {}}).value == 0
    assert graded({"name": "list_tables"}, {"name": "list_tables", "arguments": {}}).value == 1


def test_each_example_may_bring_its_tools() -> None:
    options = {"tools_in": "context"}
    assert score(text(BOOK), text(BOOK), context=json.dumps(TOOLS), **options).value == 1
    for context, reason in (
        (None, "the example's context: broken JSON"),
        ('{"name": "f"}', "the example's context must be a list of tools"),
        ('[{"name": "f", "parameters": {"type": "objct"}}]', "the example's context: f: param"),
    ):
        found = score(text(BOOK), text(BOOK), context=context, **options)
        assert found.value is None and str(found.reason).startswith(reason)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (None, "no reference"),
        ("Ask the waiter.", "the reference 'Ask the waiter.' contains no call"),
        ('{"name": ', "the reference: broken JSON"),
        ('{"nam": "f"}', "the reference: this is not a call"),
        (text(changed(day="monday")), "the reference does not fit the tools: book_table: $.day"),
        ('{"name": "f"}', "the reference does not fit the tools: f is not one of the tools"),
    ],
)
def test_a_reference_that_cannot_be_used_is_no_score(reference: Any, reason: str) -> None:
    for output in (text(BOOK), "words"):
        found = score(output, reference, tools=TOOLS)
        assert found.value is None and str(found.reason).startswith(reason)


def test_the_best_of_several_references_counts() -> None:
    assert score(text(CANCEL), [text(BOOK), text(CANCEL)]).value == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tools": {"name": "f"}}, "tool_call: tools must be a list of tools"),
        ({"tools": [{"parameters": {}}]}, "tool_call: tools: a tool needs a name"),
        ({"tools": ["f"]}, "tool_call: tools: a tool needs a name"),
        ({"tools": [{"function": "f"}]}, "tool_call: tools: a tool needs a name"),
        (
            {"tools": [{"name": "f", "parameters": {"properties": {"a": {"type": "int"}}}}]},
            "tool_call: tools: f: parameters: $.properties.a.type: 'int' is not valid",
        ),
        (
            {"tools": [{"name": "f", "parameters": {"$ref": "https://example.org/f"}}]},
            "$ref: 'https://example.org/f' leads nowhere; nothing is fetched",
        ),
        ({"tools": [{"name": "f"}, {"name": "f"}]}, "tool_call: tools: f appears twice"),
        ({"tools": "tools.json"}, "tools.json: there is no such tools"),
        ({"tools": [], "tools_in": "context"}, "give either tools or tools_in"),
        ({"any_order": 1}, "any_order must be true or false"),
        ({"anyorder": True}, "did you mean any_order?"),
    ],
)
def test_a_mistake_in_the_options_names_the_key(options: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_scorer("tool_call", **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_tools_are_the_scorers_identity() -> None:
    described = get_scorer("tool_call", tools=TOOLS).describe()
    assert described["options"]["tools"] == TOOLS
    assert json.loads(json.dumps(described)) == described
