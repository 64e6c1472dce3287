"""Whether an output calls the same functions as the reference, with the same arguments."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from ftreg.errors import UsageError, shown
from ftreg.records.samples import Sample, Score
from ftreg.scoring.samplewise import UncheckableError
from ftreg.scoring.structured import (
    MOST_PROBLEMS,
    CheckedSchema,
    Fields,
    StructuredScorer,
    Text,
    UnreadableError,
    compare_fields,
    decoded,
    given,
    unfenced,
)

# What closes the last one may be where generation stopped, which no text shows.
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ToolCallOptions:
    """How calls are compared with those of the reference; see `ToolCall`."""

    tools: Any
    tools_in: str | None
    any_order: bool
    text: Text
    fenced: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function's name, and its arguments."""

    name: str
    arguments: Mapping[str, Any]


def read_calls(text: str) -> list[Call]:
    """Return the calls of a text, in order; none if it is an answer in words.

    A call is `{"name": ..., "arguments": ...}` (an object, or JSON in a text; `parameters` is the
    same), `{"function": call}`, a list of these, `{"tool_calls": [...]}`, or any of them in
    `<tool_call>` tags, with words around the tags.

    Raises:
        UnreadableError: it begins like a call and is not one.
    """
    tagged = _TAGGED.findall(text)
    if not tagged and not text.lstrip().startswith(("{", "[")):
        return []
    items: list[Any] = []
    for part in tagged or [text]:
        value = decoded(part)
        inner = value.get("tool_calls") if isinstance(value, dict) else value
        items.extend(inner if isinstance(inner, list) else [value])
    return [_call(item) for item in items]


def _call(item: Any) -> Call:
    whole = item
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise UnreadableError(f"this is not a call because it has no name: {shown(whole)}")
    given_as = item.get("arguments", item.get("parameters"))
    arguments = decoded(given_as) if isinstance(given_as, str) and given_as.strip() else given_as
    if not isinstance(arguments or {}, dict):
        raise UnreadableError(
            f"the arguments of {item['name']} are not an object: {shown(arguments)}"
        )
    return Call(item["name"], arguments or {})


class Tool:
    """A function that may be called: the schema of its arguments, and their defaults.

    Args:
        definition: `{"name": ..., "parameters": schema}`, or that as OpenAI's `function`.
        place: what it is, for messages.

    Raises:
        UsageError: it is neither, or its schema is malformed.
    """

    def __init__(self, definition: Any, *, place: str) -> None:
        inner = definition.get("function", definition) if isinstance(definition, dict) else {}
        name = inner.get("name") if isinstance(inner, dict) else None
        if not isinstance(name, str):
            raise UsageError(
                f"{place}: a tool needs a name, and may have parameters; found {shown(definition)}"
            )
        self.name = name
        parameters = inner.get("parameters", inner.get("input_schema")) or {}
        self.schema = CheckedSchema(parameters, place=f"{place}: {name}: parameters")
        properties = parameters.get("properties", {}) if isinstance(parameters, dict) else {}
        self.defaults = {
            key: item["default"]
            for key, item in properties.items()
            if isinstance(item, dict) and "default" in item
        }


@dataclass(frozen=True, slots=True)
class _Match:
    """A call of the output, one of the reference, and how far they agree; either may be missing."""

    wanted: Call | None
    call: Call | None
    grade: float = 0.0
    problems: Sequence[str] = ()
    arguments: Fields | None = None

    def evidence(self) -> dict[str, Any]:
        return {
            "call": self.wanted.name if self.wanted else None,
            "found": self.call.name if self.call else None,
            "support": self.grade,
            "problems": list(self.problems[:MOST_PROBLEMS]),
            **(self.arguments.evidence() if self.arguments else {}),
        }


class ToolCall(StructuredScorer):
    """The mean grade of the calls: 0 for a wrong name, otherwise the share of correct arguments.

    Missing and extra calls have 0. Needs no model.

    Args:
        tools: the functions that may be called, with the schemas of their arguments: a list as in
            OpenAI's `tools`, or the path of a JSON file with one. A call that does not fit has 0.
        tools_in: `context` or `input`, if each example has its own tools there, as JSON.
        any_order: pair several calls so that they agree best, not by position.
        text: how texts are compared: `exact`, or `normalized` as in `equals`.
        fenced: read the output's only Markdown fence, if it has one.

    Raises:
        UsageError: a tool is malformed, or an option's value is invalid.
    """

    name = "tool_call"
    version = 1

    def __init__(
        self,
        *,
        tools: str | Sequence[Any] | None = None,
        tools_in: str | None = None,
        any_order: bool = False,
        text: Text = "exact",
        fenced: bool = False,
    ) -> None:
        place = f"{self.name}: tools"
        read = None if tools is None else given(tools, place=place)
        super().__init__(ToolCallOptions(read, tools_in, any_order, text, fenced))
        if not isinstance(any_order, bool):
            raise UsageError(f"{self.name}: any_order must be true or false, found {any_order!r}")
        self._choose_source("tools", fixed=tools, source=tools_in)
        where = tools if isinstance(tools, str) else place
        self._tools = None if tools is None else _toolbox(read, place=where)

    def _score_one(self, sample: Sample) -> Score:
        tools = self._tools_of(sample)
        references = self._references(sample, tools)
        try:
            calls = read_calls(unfenced(sample.output) if self.options.fenced else sample.output)
        except UnreadableError as error:
            return Score(0.0, evidence=({"support": 0.0, "problems": [str(error)]},))
        pairings = [self._paired(calls, wanted, tools) for wanted in references]
        matches = max(pairings, key=_mean_grade)
        evidence = tuple(match.evidence() for match in matches)
        return Score(round(_mean_grade(matches), 6), evidence=evidence)

    def _tools_of(self, sample: Sample) -> Mapping[str, Tool] | None:
        source = self.options.tools_in
        if source is None:
            return self._tools
        try:
            return _toolbox(self._of_example(sample, source), place=f"the example's {source}")
        except UsageError as error:
            raise UncheckableError(str(error)) from error

    def _references(self, sample: Sample, tools: Mapping[str, Tool] | None) -> list[list[Call]]:
        if not sample.references:
            raise UncheckableError("no reference")
        found = []
        for text in dict.fromkeys(sample.references):
            try:
                calls = read_calls(text)
            except UnreadableError as error:
                raise UncheckableError(f"the reference: {error}") from error
            if not calls and text.strip() != "[]":
                raise UncheckableError(
                    f"the reference {shown(text)} contains no call; if no call is right, write []"
                )
            for call in calls:
                if problems := _problems(call, tools):
                    raise UncheckableError(f"the reference does not fit the tools: {problems[0]}")
            found.append(calls)
        return found

    def _paired(
        self, calls: Sequence[Call], wanted: Sequence[Call], tools: Mapping[str, Tool] | None
    ) -> list[_Match]:
        if not self.options.any_order:
            return [self._match(*pair, tools) for pair in zip_longest(calls, wanted)]
        from scipy.optimize import linear_sum_assignment

        table = [[self._match(call, one, tools) for one in wanted] for call in calls]
        grades = [[match.grade for match in row] for row in table]
        rows, columns = linear_sum_assignment(grades, maximize=True) if grades else ((), ())
        found = {int(column): table[row][column] for row, column in zip(rows, columns, strict=True)}
        left = [call for row, call in enumerate(calls) if row not in set(rows)]
        return [
            *(found.get(number) or _Match(one, None) for number, one in enumerate(wanted)),
            *(_Match(None, call) for call in left),
        ]

    def _match(
        self, call: Call | None, wanted: Call | None, tools: Mapping[str, Tool] | None
    ) -> _Match:
        if call is None or wanted is None or call.name != wanted.name:
            return _Match(wanted, call)
        problems = _problems(call, tools)
        defaults = tools[call.name].defaults if tools and call.name in tools else {}
        names = {*wanted.arguments, *call.arguments}
        usual = {key: value for key, value in defaults.items() if key in names}
        arguments = compare_fields(
            {**usual, **call.arguments}, {**usual, **wanted.arguments}, text=self.options.text
        )
        places = (*arguments.missing, *arguments.extra, *(one[0] for one in arguments.different))
        wrong = {place[0] for place in places}
        grade = 1 - len(wrong) / len(names) if names else 1.0
        return _Match(wanted, call, 0.0 if problems else round(grade, 6), problems, arguments)


def _mean_grade(matches: Sequence[_Match]) -> float:
    """If no call is expected and there is none, the grade is 1."""
    return sum(match.grade for match in matches) / len(matches) if matches else 1.0


def _toolbox(definitions: Any, *, place: str) -> dict[str, Tool]:
    if not isinstance(definitions, list):
        raise UsageError(f"{place} must be a list of tools, found {shown(definitions)}")
    found: dict[str, Tool] = {}
    for definition in definitions:
        tool = Tool(definition, place=place)
        if tool.name in found:
            raise UsageError(f"{place}: {tool.name} appears twice")
        found[tool.name] = tool
    return found


def _problems(call: Call, tools: Mapping[str, Tool] | None) -> list[str]:
    if tools is None:
        return []
    if call.name not in tools:
        return [f"{call.name} is not one of the tools"]
    return [f"{call.name}: {it}" for it in tools[call.name].schema.problems(call.arguments)]
