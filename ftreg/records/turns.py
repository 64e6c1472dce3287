"""The turns of a chat: which of them form the request, and the text of each.

A turn is a mapping as in chat templates and OpenAI's API: `role`, `content`, for an assistant
`tool_calls`, for a tool `tool_call_id` and `name`. The first turn may declare tools,
`{"role": "tools", "tools": [...]}`, so that one list holds the complete request.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Turn = Mapping[str, Any]
TOOLS = "tools"
"""Role of the turn that declares tools; templates do not know it, and `apart` removes it."""
SYSTEM_ROLES = ("system", "developer")


def before_answer(messages: Sequence[Turn]) -> Sequence[Turn]:
    """Return the turns before the last answer; all if there is no answer yet."""
    return messages[:-1] if answer_turn(messages) is not None else messages


def answer_turn(messages: Sequence[Turn]) -> Turn | None:
    """Return the assistant's turn at the end of a chat, if there is one."""
    return messages[-1] if messages and messages[-1]["role"] == "assistant" else None


def asked_in(messages: Sequence[Turn]) -> list[str]:
    """Return the user's messages before the last answer, in order."""
    return [turn["content"] for turn in before_answer(messages) if turn["role"] == "user"]


def apart(messages: Sequence[Turn]) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """Return the turns without the one that declares tools, and these tools (None if none)."""
    if messages and messages[0]["role"] == TOOLS:
        return [dict(turn) for turn in messages[1:]], list(messages[0]["tools"])
    return [dict(turn) for turn in messages], None


def as_request(messages: Sequence[Turn]) -> dict[str, Any]:
    """Return a chat as a request for OpenAI's API: `messages`, and `tools` if it declares any."""
    turns, tools = apart(messages)
    return {"messages": [_sent(turn) for turn in turns], **({"tools": tools} if tools else {})}


def from_request(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the chat of a request, in the form that chat templates expect."""
    turns = [dict(turn) for turn in request["messages"]]
    for turn in turns:
        for call in turn.get("tool_calls") or ():
            call["function"] = {
                **call["function"],
                "arguments": json.loads(call["function"]["arguments"]),
            }
    tools = request.get("tools")
    return [{"role": TOOLS, "tools": tools}, *turns] if tools else turns


def _sent(turn: dict[str, Any]) -> dict[str, Any]:
    """Return a turn in OpenAI's form: the arguments of a call are a JSON string."""
    if "tool_calls" not in turn:
        return turn
    calls = []
    for number, call in enumerate(turn["tool_calls"]):
        function = call["function"]
        arguments = json.dumps(function["arguments"], ensure_ascii=False)
        named = {"id": f"call_{number}", **call}
        calls.append({**named, "function": {**function, "arguments": arguments}})
    return {**turn, "content": turn["content"] or None, "tool_calls": calls}


def said(turn: Turn) -> str:
    """Return the text of a turn: its content, and each call as JSON in `<tool_call>` tags.

    Most models write calls like this, and the scorer `tool_call` reads them.
    """
    calls = (call["function"] for call in turn.get("tool_calls") or ())
    texts = [call_text(call["name"], call["arguments"]) for call in calls]
    return "\n".join([*([turn["content"]] if turn.get("content") else []), *texts])


def call_text(name: str, arguments: Any) -> str:
    """Return a call of a function as a text."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def chat_text(messages: Iterable[Turn]) -> str:
    """Return turns as readable text, each prefixed with its role."""
    return "\n\n".join(f"{turn['role']}: {said(turn)}" for turn in messages)
