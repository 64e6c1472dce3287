"""Input and output messages of a language-model call, by the conventions of its span.

OpenTelemetry's GenAI conventions have messages in attributes of the span or of its events, or one
event per message; OpenInference, traceAI and OpenLLMetry spread them over attributes; Vercel's AI
SDK, Langfuse and MLflow store their own JSON. Messages are returned as turns of a chat.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from ftreg.errors import UsageError
from ftreg.files.reading import parse_json

Side = Literal["input", "output"]
Attributes = Mapping[str, Any]
Events = Sequence[tuple[str, Attributes]]
"""Name and attributes of each event of a span, in order."""

_CALLS = frozenset({"chat", "text_completion", "generate_content", "completion"})
_KINDS = ("openinference.span.kind", "fi.span.kind", "traceloop.span.kind")
_MLFLOW_KINDS = frozenset({"LLM", "CHAT_MODEL"})
_RUNNING_LIST = """
    TOOL AGENT RETRIEVER RERANKER GUARDRAIL EVALUATOR EXECUTE_TOOL INVOKE_AGENT AI.TOOLCALL
"""
_RUNNING = frozenset(_RUNNING_LIST.split())
_VERCEL_CALLS = (".doGenerate", ".doStream")
_ASKING = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")
_CHOICE = "gen_ai.choice"
_CONTENT_EVENTS = ("gen_ai.content.prompt", "gen_ai.client.inference.operation.details")
_OLDER = {"input": "prompt", "output": "completion"}
_DEFAULT = {"input": "user", "output": "assistant"}
# Vendor-specific JSON: input and output.
_VENDORS = {
    "input": ("ai.prompt.messages", "ai.prompt", "langfuse.observation.input", "mlflow.spanInputs"),
    "output": ("ai.response.text", "langfuse.observation.output", "mlflow.spanOutputs"),
}
_ROLES = {"human": "user", "ai": "assistant", "model": "assistant", "function": "tool"}
_TYPES = ("human", "ai", "system", "tool", "function")
"""LangChain's names of roles, under the key `type`."""
_TEXT_KEYS = ("text", "content", "prompt", "input", "question", "output", "answer", "response")


def is_call(attributes: Attributes, events: Events) -> bool:
    """Whether a span is a language-model call, by any convention."""
    kinds = [str(attributes[name]).upper() for name in _KINDS if name in attributes]
    names = (attributes.get(name) for name in ("gen_ai.operation.name", "llm.request.type"))
    return (
        "LLM" in kinds
        or any(str(name).lower() in _CALLS for name in names)
        or "gen_ai.prompt.0.content" in attributes
        or str(attributes.get("ai.operationId", "")).endswith(_VERCEL_CALLS)
        or attributes.get("langfuse.observation.type") == "generation"
        or mlflow_kind(attributes) in _MLFLOW_KINDS
        or any(name in (_CHOICE, *_CONTENT_EVENTS) or _ASKING.fullmatch(name) for name, _ in events)
    )


def runs_calls(attributes: Attributes) -> bool:
    """Whether a span is a tool, an agent or similar: calls inside it are separate calls."""
    names = (*_KINDS, "gen_ai.operation.name", "ai.operationId", "langfuse.observation.type")
    kinds = {str(attributes.get(name)).upper() for name in names}
    return not _RUNNING.isdisjoint({*kinds, mlflow_kind(attributes)})


def mlflow_kind(attributes: Attributes) -> str:
    """Return MLflow's type of a span, which is JSON; empty if there is none."""
    return str(opened(attributes.get("mlflow.spanType", ""))).upper()


def messages_of(attributes: Attributes, events: Events, side: Side) -> list[dict[str, Any]]:
    """Return the input or output turns, by the first convention that has them."""
    return (
        _listed(attributes, side)
        or _over_events(events, side)
        or _an_event_each(events, side)
        or _flattened(attributes, side)
        or _of_vendors(attributes, side)
        or _plain(attributes, side)
    )


def opened(value: Any) -> Any:
    """Return the parsed value of a JSON string; any other value unchanged."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{", '"'):
        try:
            return parse_json(value, place="an attribute")
        except UsageError:
            return value
    return value


def _listed(attributes: Attributes, side: Side) -> list[dict[str, Any]]:
    """Return messages in one attribute."""
    names = (f"gen_ai.{side}.messages", f"gen_ai.{_OLDER[side]}")
    found = (list(loose(attributes.get(name), _DEFAULT[side])) for name in names)
    return next((messages for messages in found if messages), [])


def _over_events(events: Events, side: Side) -> list[dict[str, Any]]:
    """Return messages in attributes of events, without losing any.

    An event may repeat the messages of the previous one and add to them.
    """
    found: list[dict[str, Any]] = []
    for _, attributes in events:
        more = _listed(attributes, side)
        found = more if more[: len(found)] == found else [*found, *more]
    return found


def _an_event_each(events: Events, side: Side) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, attributes in events:
        match = _ASKING.fullmatch(name)
        if (match is None) if side == "input" else (name != _CHOICE):
            continue
        body = opened(attributes.get("gen_ai.event.content"))
        said = {**attributes, **(body if isinstance(body, Mapping) else {})}
        inner = opened(said.get("message"))
        role = match[1] if match else "assistant"
        found.extend(loose(inner if inner is not None else {"role": role, **said}, role))
    return found


def _flattened(attributes: Attributes, side: Side) -> list[dict[str, Any]]:
    """Return messages spread over attributes: `llm.input_messages.0.message.content`."""
    for prefix in (f"llm.{side}_messages", f"gen_ai.{side}.messages", f"gen_ai.{_OLDER[side]}"):
        parts: dict[int, dict[str, Any]] = {}
        pattern = re.compile(re.escape(prefix) + r"\.(\d{1,9})\.(?:message\.)?(.+)")
        for name, value in attributes.items():
            if match := pattern.fullmatch(name):
                parts.setdefault(int(match[1]), {})[match[2]] = value
        found = [_gathered(parts[index], side) for index in sorted(parts)]
        if found := [turn for turn in found if turn["content"] or turn.get("tool_calls")]:
            return found
    return []


def _gathered(parts: Mapping[str, Any], side: Side) -> dict[str, Any]:
    """Return a turn from the attributes with its number."""
    texts = {}
    calls: dict[int, dict[str, Any]] = {}
    for name, value in parts.items():
        if match := re.fullmatch(r"contents\.(\d{1,9})\..*text", name):
            texts[int(match[1])] = value
        elif match := re.fullmatch(
            r"tool_calls\.(\d{1,9})\.(?:tool_call\.)?(?:function\.)?(id|name|arguments)", name
        ):
            calls.setdefault(int(match[1]), {})[match[2]] = value
    whole = [parts["content"]] if "content" in parts else [texts[i] for i in sorted(texts)]
    turn = {**parts, "role": parts.get("role", _DEFAULT[side])}
    turn["content"] = "\n".join(text for item in whole for text in _texts(item))
    turn["tool_calls"] = [calls[index] for index in sorted(calls)]
    return _turn(turn, _DEFAULT[side])


def _of_vendors(attributes: Attributes, side: Side) -> list[dict[str, Any]]:
    for name in _VENDORS[side]:
        found = list(loose(attributes.get(name), _DEFAULT[side]))
        calls = opened(attributes.get("ai.response.toolCalls")) if side == "output" else None
        if isinstance(calls, list) and name.startswith("ai."):
            said = found[0]["content"] if found else ""
            found = [_turn({"content": said, "tool_calls": calls}, "assistant")]
        if found:
            return found
    return []


def _plain(attributes: Attributes, side: Side) -> list[dict[str, Any]]:
    text = attributes.get(f"{side}.value")
    if attributes.get(f"{side}.mime_type") == "application/json":
        return list(loose(text, _DEFAULT[side]))
    said = isinstance(text, str) and bool(text.strip())
    return [{"role": _DEFAULT[side], "content": text}] if said else []


def loose(value: Any, role: str) -> Iterator[dict[str, Any]]:
    """Yield the turns of a value in any format: a text, a message, a request, an answer.

    Args:
        value: of an attribute; JSON strings are parsed.
        role: the role if the value does not give one.
    """
    found = opened(value)
    if isinstance(found, str) and found.strip():
        yield {"role": role, "content": found}
    elif isinstance(found, Sequence) and not isinstance(found, str):
        # LangChain has one list per prompt, and sends one prompt.
        items = found[0] if len(found) == 1 and isinstance(found[0], list) else found
        for item in items:
            if isinstance(item, Mapping | str):
                yield from loose(item, role)
    elif isinstance(found, Mapping):
        yield from _of_mapping(found, role)


def _of_mapping(found: Mapping[str, Any], role: str) -> Iterator[dict[str, Any]]:
    if isinstance(opened(found.get("messages")), list):
        if isinstance(found.get("system"), str):
            yield {"role": "system", "content": found["system"]}
        yield from loose(found["messages"], role)
    elif isinstance(found.get("choices"), list) and found["choices"]:
        choice = found["choices"][0]
        yield from loose(choice.get("message", choice) if isinstance(choice, Mapping) else "", role)
    elif isinstance(found.get("generations"), list) and found["generations"]:
        yield from loose(found["generations"][0], role)
    elif {"role", "parts", "tool_calls"} & found.keys() or found.get("type") in _TYPES:
        turn = _turn(found, role)
        if turn["content"] or turn.get("tool_calls"):
            yield turn
    else:
        if isinstance(found.get("system"), str) and role == "user":
            yield {"role": "system", "content": found["system"]}
        texts = ("\n".join(_texts(found.get(key))) for key in _TEXT_KEYS)
        text = next((text for text in texts if text), None)
        if text is not None:
            yield {"role": role, "content": text}


def _turn(message: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Return a message as a turn of a chat."""
    called = str(message.get("role") or message.get("type") or role).lower()
    content = message.get("parts") or message.get("content")
    parts = [part for part in _parts(content) if isinstance(part, Mapping)]
    turn: dict[str, Any] = {
        "role": _ROLES.get(called, called),
        "content": "\n".join(_texts(content)),
    }
    calls = opened(message.get("tool_calls"))
    calls = calls if isinstance(calls, list) else []
    calls = [*calls, *(part for part in parts if part.get("type") in ("tool_call", "tool-call"))]
    if calls:
        turn["tool_calls"] = [_call(call) for call in calls if isinstance(call, Mapping)]
    for part in parts:
        if part.get("type") in ("tool_call_response", "tool-result"):
            result = part.get("response", part.get("result", part.get("output")))
            turn |= {"role": "tool", "content": _as_text(result)}
            message = {**message, "tool_call_id": part.get("id") or part.get("toolCallId")}
    number = message.get("tool_call_id") or (message.get("id") if turn["role"] == "tool" else None)
    if isinstance(number, str) and turn["role"] == "tool":
        turn["tool_call_id"] = number
    return turn


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = opened(call.get("function"))
    # inspect has only the function's name
    inner = function if isinstance(function, Mapping) else {"name": function, **call}
    given = (inner.get(key) for key in ("arguments", "args", "input"))
    arguments: Any = next((value for value in given if value is not None), {})
    number = call.get("id") or call.get("toolCallId")
    made = {"name": inner.get("name") or inner.get("toolName"), "arguments": opened(arguments)}
    return {**({"id": number} if isinstance(number, str) else {}), "function": made}


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping) and value.get("type") in ("text", "json") and "value" in value:
        value = value["value"]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parts(value: Any) -> Sequence[Any]:
    found = opened(value) if isinstance(value, str) and value.startswith("[") else value
    return found if isinstance(found, list) else []


def _texts(value: Any) -> list[str]:
    """Return the texts of a message's content: a text, or the text parts of a list."""
    parts = _parts(value)
    if isinstance(value, str) and not parts:
        return [value] if value.strip() else []
    found = []
    for part in parts:
        text = part if isinstance(part, str) else None
        if isinstance(part, Mapping) and part.get("type", "text") == "text":
            text = part.get("content") or part.get("text")
        if isinstance(text, str) and text.strip():
            found.append(text)
    return found
