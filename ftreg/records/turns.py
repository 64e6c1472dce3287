"""The turns of a chat: which of them are asked, and what each says as a text.

A turn is a mapping as chat templates and OpenAI's API take it: `role`, `content`, of an assistant
`tool_calls`, of a tool `tool_call_id` and `name`. Before all others may stand one that declares
tools, `{"role": "tools", "tools": [...]}`, so that one list holds all that a model is asked with.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Turn = Mapping[str, Any]
TOOLS = "tools"
"""Role of the turn that declares tools; no template knows it, and `apart` takes it out."""
SYSTEM_ROLES = ("system", "developer")


def before_answer(messages: Sequence[Turn]) -> Sequence[Turn]:
    """Return the turns that the last answer is an answer to: all, where there is none yet."""
    return messages[:-1] if answer_turn(messages) is not None else messages


def answer_turn(messages: Sequence[Turn]) -> Turn | None:
    """Return the assistant's turn that a chat ends with, if it does."""
    return messages[-1] if messages and messages[-1]["role"] == "assistant" else None


def asked_in(messages: Sequence[Turn]) -> list[str]:
    """Return what the user said before the last answer, in order."""
    return [turn["content"] for turn in before_answer(messages) if turn["role"] == "user"]


def apart(messages: Sequence[Turn]) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """Return the turns without the one that declares tools, and these tools (None: no such)."""
    if messages and messages[0]["role"] == TOOLS:
        return [dict(turn) for turn in messages[1:]], list(messages[0]["tools"])
    return [dict(turn) for turn in messages], None


def as_request(messages: Sequence[Turn]) -> dict[str, Any]:
    """Return a chat as a request of OpenAI's API: `messages`, and `tools` where it declares any."""
    turns, tools = apart(messages)
    return {"messages": [_sent(turn) for turn in turns], **({"tools": tools} if tools else {})}


def from_request(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the chat that a server reads in a request, as chat templates take it."""
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
    """A turn as OpenAI's API has it: the arguments of a call are JSON in a text."""
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
    """Return what a turn says: its content, and each call as JSON in `<tool_call>` tags.

    This is how most models write calls, and what the scorer `tool_call` reads.
    """
    calls = (call["function"] for call in turn.get("tool_calls") or ())
    texts = [call_text(call["name"], call["arguments"]) for call in calls]
    return "\n".join([*([turn["content"]] if turn.get("content") else []), *texts])


def call_text(name: str, arguments: Any) -> str:
    """Return a call of a function as a text."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def chat_text(messages: Iterable[Turn]) -> str:
    """Return turns as a text for readers: the role before each."""
    return "\n\n".join(f"{turn['role']}: {said(turn)}" for turn in messages)
