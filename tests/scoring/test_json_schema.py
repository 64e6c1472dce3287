"""The scorer of JSON answers: what is valid, which fields are right, and whose mistake is whose."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftreg.errors import UsageError
from ftreg.scoring import Sample, Score, get_scorer
from ftreg.scoring.structured import compare_fields
from tests.conftest import Cli

ORDER = {
    "type": "object",
    "properties": {
        "dish": {"type": "string"},
        "count": {"type": "integer", "minimum": 1},
        "extras": {"type": "array", "items": {"type": "string"}},
        "table": {"$ref": "#/$defs/table"},
    },
    "required": ["dish", "count"],
    "$defs": {"table": {"type": "object", "properties": {"no": {"type": "number"}}}},
}
RIGHT = '{"dish": "soup", "count": 2, "extras": ["bread", "salt"], "table": {"no": 7}}'


def score(
    output: str,
    reference: Any = RIGHT,
    *,
    context: str | None = None,
    **options: Any,
) -> Score:
    if "schema_in" not in options and options.get("part") != "fields":
        options.setdefault("schema", ORDER)
    sample = Sample(id="1", input="", output=output, reference=reference, context=context)
    (found,) = get_scorer("json_schema", **options).score([sample])
    return found


@pytest.mark.parametrize(
    ("output", "value", "both", "fields"),
    [
        (RIGHT, 1.0, 1.0, 1.0),
        (
            '{"table": {"no": 7.0}, "extras": ["bread", "salt"], "count": 2, "dish": "soup"}',
            1,
            1,
            1,
        ),
        (
            '{"dish": "soup", "count": 3, "extras": ["bread", "salt"], "table": {"no": 7}}',
            1,
            0.8,
            0.8,
        ),
        # Not valid: the count is a text.
        (
            '{"dish": "soup", "count": "2", "extras": ["bread", "salt"], "table": {"no": 7}}',
            0,
            0,
            0.8,
        ),
        # Two of five are there; and one that the reference lacks is a sixth.
        ('{"dish": "soup", "count": 2}', 1, 0.4, 0.4),
        ('{"dish": "soup", "count": 2, "tip": 5}', 1, round(2 / 6, 6), round(2 / 6, 6)),
        ('{"dish": "soup", "count": 2, "extras": [], "table": {}}', 1, 0.4, 0.4),
        ("[]", 0, 0, 0),
        ("Soup, twice.", 0, 0, 0),
        ("", 0, 0, 0),
        ('{"dish": "soup", "count": NaN}', 0, 0, 0),
        ('{"dish": "soup", "count": 2, "count": 3}', 0, 0, 0),
        (f"Here you are: {RIGHT}", 0, 0, 0),
    ],
)
def test_valid_and_the_share_of_fields(
    output: str, value: float, both: float, fields: float
) -> None:
    assert score(output, part="valid").value == value
    assert score(output).value == both
    assert score(output, part="fields").value == fields


def test_the_evidence_names_what_is_wrong() -> None:
    output = '{"dish": "stew", "count": 0, "extras": ["bread"], "tip": {"in": [5]}}'
    (found,) = score(output).evidence
    assert found["valid"] is False
    assert found["problems"] == ["$.count: 0 is less than the minimum of 1"]
    assert (found["fields"], found["same"]) == (6, 1)
    assert found["missing"] == ["$.extras[1]", "$.table.no"]
    assert found["extra"] == ["$.tip.in[0]"]
    assert found["different"] == [
        {"field": "$.dish", "expected": "soup", "found": "stew"},
        {"field": "$.count", "expected": 2, "found": 0},
    ]
    (found,) = score("{'dish': 1}").evidence
    assert found == {"valid": False, "problems": [found["problems"][0]]}
    assert "broken JSON" in found["problems"][0] and "column" in found["problems"][0]
    many = json.dumps({"dish": "soup", "count": 2} | {f"more{n}": n for n in range(50)})
    assert len(score(many).evidence[0]["extra"]) == 20


def test_values_are_compared_as_json_has_them() -> None:
    def alike(one: str, other: str, **options: Any) -> float | None:
        return score(one, other, part="fields", **options).value

    assert alike("[1.50, 1e2, -0.0]", "[1.5, 100, 0]") == 1
    assert alike("[true, 1, null]", "[1, true, 0]") == 0
    assert alike('"5"', "5") == 0
    assert alike('{"a": null}', "{}") == 0
    assert alike("{}", "{}") == 1
    assert alike('{"a": {}}', '{"a": []}') == 0
    assert alike('{"a": "The Old Mill."}', '{"a": "old mill"}') == 0
    assert alike('{"a": "The Old Mill."}', '{"a": "old mill"}', text="normalized") == 1
    assert alike('{"a": "Old Inn"}', '{"a": "old mill"}', text="normalized") == 0
    # 1.0 is an integer of JSON Schema, true is none.
    assert score('{"dish": "soup", "count": 2.0}', part="valid").value == 1
    assert score('{"dish": "soup", "count": true}', part="valid").value == 0


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"pattern": "^(a|a)*$"}}},
        {"patternProperties": {"^(a|a)*$": {"type": "string"}}},
        {"additionalProperties": False, "patternProperties": {"^(a|a)*$": {}}},
        {"unevaluatedProperties": False, "patternProperties": {"^(a|a)*$": {}}},
    ],
)
def test_a_pattern_that_backtracks_endlessly_makes_the_score_null(schema: dict[str, Any]) -> None:
    """Public reports of such patterns: https://owasp.org/www-community/attacks/ReDoS."""
    slow = "a" * 40 + "!"
    found = score(json.dumps({"a": slow, slow: slow}), part="valid", schema=schema)
    assert found.value is None and "takes longer than 1 s" in str(found.reason)


def test_patterns_of_names_decide_as_the_standard_says() -> None:
    schema = {
        "properties": {"id": {"type": "string"}},
        "patternProperties": {"^n_": {"type": "integer"}},
        "additionalProperties": False,
    }

    def valid(output: dict[str, Any]) -> float | None:
        return score(json.dumps(output), part="valid", schema=schema).value

    assert valid({"id": "x", "n_rows": 3}) == 1
    assert valid({"id": "x", "n_rows": "3"}) == 0
    assert valid({"id": "x", "rows": 3}) == 0


def test_the_best_of_several_references_counts() -> None:
    found = score('{"dish": "pie", "count": 1}', [RIGHT, '{"dish": "pie", "count": 1}'])
    assert found.value == 1
    assert found.evidence[0]["closest"] == '{"dish": "pie", "count": 1}'


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (None, "no reference"),
        ("soup", "the reference: broken JSON"),
        ([RIGHT, "{"], "the reference: broken JSON"),
        ('{"dish": "soup"}', "the reference does not fit the schema: $: 'count' is a required"),
    ],
)
def test_a_reference_that_cannot_be_used_is_no_score(reference: Any, reason: str) -> None:
    for output in (RIGHT, "words"):
        found = score(output, reference)
        assert found.value is None and found.reason is not None
        assert found.reason.startswith(reason)
        assert score(output, reference, part="valid").value is not None


def test_a_fence_is_read_only_where_it_is_asked_for() -> None:
    fenced = f"Here it is:\n\n```json\n{RIGHT}\n```\nEnjoy!"
    assert score(fenced).value == 0
    assert score(fenced, fenced=True).value == 1
    assert score(RIGHT, fenced=True).value == 1
    assert score(f"{fenced}\n{fenced}", fenced=True).value == 0  # which one is meant?
    assert score(f"```\n{RIGHT}", fenced=True).value == 0


def test_each_example_may_bring_its_schema() -> None:
    own = json.dumps({"type": "array", "maxItems": 1})
    options = {"schema_in": "context", "part": "valid"}
    assert score("[1]", context=own, **options).value == 1
    assert score("[1, 2]", context=own, **options).value == 0
    for context, reason in (
        (None, "the example's context: broken JSON"),
        ('{"type": "arry"}', "the example's context: $.type: 'arry'"),
        ('{"$ref": "#/$defs/no"}', "the example's context: $ref: '#/$defs/no' leads nowhere"),
    ):
        found = score("[1]", context=context, **options)
        assert found.value is None and found.reason is not None
        assert found.reason.startswith(reason)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "json_schema needs the option schema"),
        ({"schema": {"type": "objekt"}}, "json_schema: schema: $.type: 'objekt' is not valid"),
        (
            {"schema": {"properties": {"age": {"minimum": "0"}}}},
            "json_schema: schema: $.properties.age.minimum: '0' is not of type 'number'",
        ),
        ({"schema": {"pattern": "("}}, "json_schema: schema: $.pattern: '(' is not a 'regex'"),
        ({"schema": [1]}, "json_schema: schema: $: [1] is not of type"),
        ({"schema": {"const": {1}}}, "json_schema: schema is not JSON"),
        ({"schema": {"$ref": "#/$defs/no"}}, "$ref: '#/$defs/no' leads nowhere"),
        ({"schema": {"$ref": "#"}}, "the schema refers to itself endlessly"),
        ({"schema": {"$schema": "https://example.org/mine"}}, "$schema: 'https://example.org/mine'"),
        ({"schema": ORDER, "schema_in": "context"}, "give either schema or schema_in"),
        ({"schema_in": "kontext"}, "schema_in cannot be 'kontext'; did you mean context?"),
        ({"schema": ORDER, "part": "feilds"}, "did you mean fields?"),
        ({"schema": ORDER, "text": "folded"}, "text cannot be 'folded'"),
        ({"schema": ORDER, "fenced": "yes"}, "fenced must be true or false"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_options_names_the_key(options: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_scorer("json_schema", **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_with_a_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("order.json").write_text(json.dumps(ORDER))
    assert score(RIGHT, schema="order.json").value == 1
    # What it says is the scorer's identity, wherever it stands.
    inline = get_scorer("json_schema", schema=ORDER).describe()
    assert get_scorer("json_schema", schema="order.json").describe() == inline
    assert inline["options"]["schema"] == ORDER
    for text, message in (
        ('{"type":\n "objekt"}', "order.json: $.type: 'objekt'"),
        ('{"type":\n object}', "order.json:2: broken JSON"),
    ):
        Path("order.json").write_text(text)
        with pytest.raises(UsageError, match="order") as caught:
            get_scorer("json_schema", schema="order.json")
        assert message in str(caught.value)
    with pytest.raises(UsageError, match=r"none\.json: there is no such schema"):
        get_scorer("json_schema", schema="none.json")


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for reference in (
        "http://127.0.0.1:9/schema.json",
        "https://json-schema.org/draft/2020-12/other",
        "other.json#/$defs/a",
        "file:///etc/hostname",
        "#/anyOf/first",
    ):
        for schema in (
            {"$ref": reference},
            {"properties": {"a": {"items": {"$ref": reference}}}},
            {"$id": "https://example.org/", "anyOf": [{"$ref": reference}, True]},
        ):
            with pytest.raises(UsageError, match="leads nowhere; nothing is fetched"):
                get_scorer("json_schema", schema=schema)


def test_references_within_a_schema_lead_somewhere() -> None:
    tree = {
        "$id": "https://example.org/tree",
        "$defs": {"node": {"$anchor": "node", "items": {"$ref": "#node"}, "type": "array"}},
        "$ref": "https://example.org/tree#/$defs/node",
    }
    assert score("[[], [[]]]", schema=tree, part="valid").value == 1
    assert score("[[], [[1]]]", schema=tree, part="valid").value == 0
    old = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"n": {"type": "number"}},
        "items": [{"$ref": "#/definitions/n"}],
    }
    assert score("[1]", schema=old, part="valid").value == 1
    assert score('["1"]', schema=old, part="valid").value == 0


def test_deep_nesting_and_huge_numbers_do_not_crash() -> None:
    tree = {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"type": "number"}]}}
    for depth in (10, 90, 99, 105, 5000, 200_000):
        output = "[" * depth + "]" * depth
        found = score(output, output, schema=tree)
        if depth > 100:
            assert found.value is None and found.reason is not None
            assert "nested" in found.reason
            (found,) = score(output, schema=tree, part="valid").evidence
            assert "nested more than 100 levels deep" in str(found)
        elif depth == 10:
            assert found.value == 1
        else:  # counted, or said to be beyond checking; never another score
            assert found.value == 1 or "cannot be checked" in str(found.reason)
    found = score("9" * 400, schema={"multipleOf": 0.5}, part="valid")
    assert found.value is None and "cannot be checked" in str(found.reason)
    assert score("9" * 5000, part="valid").value == 0


def test_format_is_not_checked_whatever_is_installed() -> None:
    assert score('"no date"', schema={"format": "date"}, part="valid").value == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON, JSON)
def test_fields_are_shared_alike_from_both_sides(one: Any, other: Any) -> None:
    assert compare_fields(one, one, text="exact").share == 1
    there, back = (compare_fields(*pair, text="exact") for pair in ((one, other), (other, one)))
    assert 0 <= there.share <= 1
    assert (there.share, there.missing, there.extra) == (back.share, back.extra, back.missing)


def test_on_the_command_line(cli: Cli, workspace: Path) -> None:
    row = {"id": "a", "input": "?", "output": RIGHT, "reference": RIGHT}
    Path("outputs.jsonl").write_text(json.dumps(row) + "\n")
    Path("order.json").write_text(json.dumps(ORDER))
    named = "{name: json_schema, options: {schema: order.json}}"
    assert json.loads(cli("score", "outputs.jsonl", "--scorer", named).out)["score"] == 1
    Path("order.json").write_text('{"type": "objekt"}')
    done = cli("score", "outputs.jsonl", "--scorer", named)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("ftreg: order.json: $.type: 'objekt'")
    assert done.err.count("\n") == 1
