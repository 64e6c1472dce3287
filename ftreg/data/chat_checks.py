"""Check the turns of a chat, and the tools that may be called in it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ftreg.errors import UsageError, did_you_mean, shown
from ftreg.files.reading import parse_json
from ftreg.records.turns import SYSTEM_ROLES, Turn

ROLES = (*SYSTEM_ROLES, "user", "assistant", "tool")
# Keys that a turn may have besides its role and its content.
_MORE = {"assistant": ("tool_calls",), "tool": ("tool_call_id", "name"), "user": ("name",)}


def check_tools(tools: Any, *, place: str) -> tuple[dict[str, Any], ...]:
    """Return the tools of a chat in OpenAI's format; bare functions are wrapped.

    Raises:
        UsageError: it is not a list of functions with names, or a name is a duplicate.
    """
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise UsageError(f"{place}: 'tools' must be a list of functions, found {shown(tools)}")
    found: dict[str, dict[str, Any]] = {}
    for number, tool in enumerate(tools):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if function is None or not isinstance(name, str) or not name.strip():
            raise UsageError(
                f"{place}: tools[{number}] must be a function with a name, found {shown(tool)}"
            )
        if name in found:
            raise UsageError(f"{place}: tools[{number}]: {shown(name)} is a duplicate")
        _refuse_no_json(function, place=f"{place}: tools[{number}]")
        found[name] = {"type": "function", "function": dict(function)}
    return tuple(found.values())


def check_messages(
    messages: Any, tools: Sequence[Mapping[str, Any]], *, place: str
) -> tuple[Turn, ...]:
    """Return the turns of a chat, the arguments of its calls as mappings.

    The order is the one that all providers require: a system turn first, if there is one; then
    alternating user and assistant turns, with one tool turn per call after an assistant's calls.
    The last turn is the answer if it is an assistant turn.

    Args:
        messages: as they are in the row.
        tools: the tools that may be called; if empty, calls are not restricted.
        place: file and line, for the message.

    Raises:
        UsageError: a turn is malformed or out of order; gives file, line and turn.
    """
    if not isinstance(messages, list) or not messages:
        raise UsageError(
            f"{place}: 'messages' must be a list of turns, each with role and content, found "
            f"{shown(messages)}"
        )
    names = [tool["function"]["name"] for tool in tools]
    turns = [
        _turn(turn, names, place=f"{place}: messages[{number}]")
        for number, turn in enumerate(messages)
    ]
    _check_order(turns, place=place)
    return tuple(turns)


def _turn(turn: Any, tools: Sequence[str], *, place: str) -> dict[str, Any]:
    role = turn.get("role") if isinstance(turn, Mapping) else None
    if not isinstance(role, str):
        raise UsageError(f"{place} must be a mapping with a role, found {shown(turn)}")
    if role not in ROLES:
        raise UsageError(
            f"{place}: {shown(role)} is not a role{did_you_mean(role, ROLES)} "
            f"(roles: {', '.join(ROLES)})"
        )
    known = ("role", "content", *_MORE.get(role, ()))
    for key in turn:
        if key not in known:
            raise UsageError(
                f"{place}: {shown(key)} is not a key of a turn of {role}"
                f"{did_you_mean(str(key), known)} (keys: {', '.join(known)})"
            )
    calls = turn.get("tool_calls") or []
    content = turn.get("content")
    if content is None and calls:
        content = ""  # OpenAI writes null beside calls
    may_be_empty = bool(calls) or role == "tool"
    if not isinstance(content, str) or not (content.strip() or may_be_empty):
        found = "it is missing" if content is None else f"found {shown(content)}"
        raise UsageError(f"{place}: the content of {role} must be a non-empty string; {found}")
    checked: dict[str, Any] = {"role": role, "content": content}
    if calls:
        checked["tool_calls"] = _calls(calls, tools, place=place)
    for key in ("tool_call_id", "name"):
        if turn.get(key) is not None:
            if not isinstance(turn[key], str):
                raise UsageError(f"{place}: {key!r} must be a string, found {shown(turn[key])}")
            checked[key] = turn[key]
    return checked


def _calls(calls: Any, tools: Sequence[str], *, place: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise UsageError(f"{place}: 'tool_calls' must be a list, found {shown(calls)}")
    return [
        _call(call, tools, place=f"{place}.tool_calls[{number}]")
        for number, call in enumerate(calls)
    ]


def _call(call: Any, tools: Sequence[str], *, place: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if function is None or not isinstance(name, str) or not name.strip():
        raise UsageError(f"{place} must name its function, found {shown(call)}")
    if tools and name not in tools:
        raise UsageError(
            f"{place}: {shown(name)} is not one of the row's tools{did_you_mean(name, tools)} "
            f"({', '.join(tools)})"
        )
    arguments = function.get("arguments")
    if isinstance(arguments, str) and arguments.strip():
        arguments = parse_json(arguments, place=f"{place}: its arguments")
    if not isinstance(arguments or {}, Mapping):
        raise UsageError(f"{place}: its arguments are not a mapping: {shown(arguments)}")
    _refuse_no_json(arguments, place=place)
    number = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    made = {"name": name, "arguments": dict(arguments or {})}
    return {**number, "type": "function", "function": made}


def _refuse_no_json(value: Any, *, place: str) -> None:
    """Reject what a Parquet file can contain and a row cannot: bytes, dates, NaN."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{place}: it contains a value that JSON cannot represent: {error}"
        ) from error


def _check_order(turns: Sequence[Turn], *, place: str) -> None:
    """Check that each turn follows one that it may follow."""
    before = "nothing"
    open_calls: list[str | None] = []
    for number, turn in enumerate(turns):
        role, where = turn["role"], f"{place}: messages[{number}]"
        if role == "tool":
            if not open_calls:
                raise UsageError(f"{where}: a tool turn without a preceding call")
            _close(open_calls, turn.get("tool_call_id"), place=where)
            before = role
            continue
        if open_calls:
            raise UsageError(
                f"{where}: {len(open_calls)} of the preceding assistant calls have no tool turn"
            )
        _check_follows(role, before, place=where)
        open_calls = [call.get("id") for call in turn.get("tool_calls") or ()]
        before = role
    if not any(turn["role"] == "user" for turn in turns):
        raise UsageError(f"{place}: 'messages' has no user turn, so there is no question")
    if before in SYSTEM_ROLES:
        raise UsageError(f"{place}: 'messages' ends with the system turn")


def _check_follows(role: str, before: str, *, place: str) -> None:
    """Check a turn that is not a tool turn; all calls before it are answered."""
    if role in SYSTEM_ROLES and before != "nothing":
        raise UsageError(f"{place}: a {role} turn must be the first turn, but follows {before}")
    if role == "user" and before in ("user", "tool"):
        way_out = "merge them" if before == "user" else "the assistant answers a tool"
        raise UsageError(f"{place}: a user turn follows a {before} turn; {way_out}")
    if role == "assistant" and before not in ("user", "tool"):
        if before == "assistant":
            problem = "the assistant's turn follows another assistant turn; merge them"
        else:
            problem = "a chat must begin with a user turn, after the system turn if there is one"
        raise UsageError(f"{place}: {problem}")


def _close(open_calls: list[str | None], answers: str | None, *, place: str) -> None:
    """Remove the call that a tool turn answers from the open calls."""
    if answers is None or None in open_calls:
        open_calls.pop(0)
    elif answers in open_calls:
        open_calls.remove(answers)
    else:
        raise UsageError(
            f"{place}: tool_call_id {shown(answers)} matches none of the earlier calls "
            f"({', '.join(map(str, open_calls))})"
        )
