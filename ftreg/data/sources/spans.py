"""Rows of production calls: spans of language-model calls, exported as OTLP JSON.

One row per call: `input` (the question) or `messages` (if there were turns before the question),
`output` (the answer), `system`, `context` (the documents retrieved for it), and `tags` (properties
of the call, for cohorts). `ftreg.data.sources.span_messages` lists the supported conventions.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftreg.data.chat_checks import check_messages, check_tools
from ftreg.data.sources.span_messages import (
    Events,
    is_call,
    messages_of,
    mlflow_kind,
    opened,
    runs_calls,
)
from ftreg.data.sources.span_traces import Role, SpanPlace, SpanTraces
from ftreg.errors import UsageError
from ftreg.files.reading import MIB, lines_of, parse_json, read_text
from ftreg.files.store import read_jsonl
from ftreg.records.turns import SYSTEM_ROLES, chat_text, said

# Attributes in these namespaces are the call itself, not properties that distinguish calls.
_NO_TAGS = re.compile(
    r"(gen_ai|llm|input|output|retrieval|embedding|reranker|tool|message|raw|eval|exception|"
    r"openinference|fi|session|user|graph|code|thread|otel|telemetry|process|url|http|server|net|"
    r"network|peer|mlflow|db|ai(?!\.telemetry\.)|traceloop\.(entity|span)|"
    r"langfuse(?!\.(observation|trace)\.metadata\.))\."
)
_TAGS = ("gen_ai.request.model", "gen_ai.provider.name", "gen_ai.agent.name", "llm.model_name")
_RESOURCE_TAGS = ("service.name", "service.version", "deployment.environment.name")
_LONGEST_TAG = 100
_LARGEST = 256 * MIB
"""Maximum bytes of a single document, which is read into memory."""
_DOCUMENT_KEYS = ("page_content", "content", "text", "document")
_NAMED = 3


def span_rows(path: Path, notes: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, row) for each span of a language-model call.

    Args:
        path: OTLP JSON, either one document or one per line (as the collector's file exporter
            writes it).
        notes: receives notices about skipped calls.

    Raises:
        UsageError: the file is not OTLP JSON, or has no such span with an input; says what it has.
    """
    seen, calls = 0, 0
    silent: list[str] = []
    with contextlib.closing(SpanTraces()) as traces:
        for number, span in _spans(path):
            role = _role(span)
            tags = _tags(span) if role in ("asked", "silent") else {}
            place = f"{path}:{number}"
            traces.add(span.place, _documents(span), role=role, tags=tags, place=place)
        for number, span in _spans(path):
            seen += 1
            if not is_call(span.attributes, span.events) or traces.repeats(span.place):
                continue
            row = _row(span, traces)
            if row is None:
                silent.append(span.place.id)
                continue
            calls += 1
            _refuse_half_characters(row, place=f"{path}:{number}")
            yield number, row
    if not calls:
        raise UsageError(
            f"{path}: {seen} spans, but none of them is a language-model call with its input; "
            "content is often not recorded unless enabled "
            "(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT)"
        )
    if silent and notes is not None:
        few = ", ".join(silent[:_NAMED]) + (", ..." if len(silent) > _NAMED else "")
        notes.append(f"{path}: {len(silent)} calls without a recorded input were left out: {few}")


@dataclass(frozen=True, slots=True)
class _Span:
    """A span; content is in its attributes or in those of its events."""

    place: SpanPlace
    attributes: Mapping[str, Any]
    events: Events
    resource: Mapping[str, Any]


def _spans(path: Path) -> Iterator[tuple[int, _Span]]:
    """Yield each span with its line number."""
    for number, document in _documents_of(path):
        if "resourceSpans" not in document:
            raise UsageError(f"{path}:{number}: not OTLP JSON: it has no resourceSpans")
        try:
            for group in document["resourceSpans"]:
                resource = _attributes(group.get("resource") or {})
                for scope in group.get("scopeSpans") or []:
                    for span in scope.get("spans") or []:
                        events = [
                            (str(event.get("name") or ""), _attributes(event))
                            for event in span.get("events") or []
                        ]
                        yield number, _Span(_place(span), _attributes(span), events, resource)
        except KeyError as error:
            raise UsageError(f"{path}:{number}: not OTLP JSON: it lacks {error}") from error
        except (AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UsageError(f"{path}:{number}: not OTLP JSON: {error}") from error


def _documents_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    first = next((text for _, text in lines_of(path)), "").strip()
    if first not in ("", "{"):
        yield from read_jsonl(path)
        return
    # Indented JSON: one document, without meaningful line numbers.
    text = read_text(path, most=_LARGEST, kind="single document; write one a line")
    value = parse_json(text, place=str(path), first_line=1)
    if not isinstance(value, dict):
        raise UsageError(f"{path}:1: expected a JSON object, found {type(value).__name__}")
    yield 1, value


def _refuse_half_characters(row: Mapping[str, Any], *, place: str) -> None:
    """Reject what a UTF-8 file cannot contain; nested JSON may contain it too."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{place}: a lone surrogate is not a valid character") from error


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _text(item["key"]): _value(item.get("value") or {})
        for item in holder.get("attributes") or []
    }


def _place(span: Mapping[str, Any]) -> SpanPlace:
    return SpanPlace(
        trace=_text(span["traceId"]),
        id=_text(span["spanId"]),
        parent=_text(span.get("parentSpanId") or ""),
        start=int(span.get("startTimeUnixNano") or 0),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, found {type(value).__name__}")
    return value


def _value(wrapped: Mapping[str, Any]) -> Any:
    """Return an OTLP `AnyValue` as a Python value; 64-bit integers are encoded as text."""
    for kind, value in wrapped.items():
        if kind == "intValue":
            return int(value)
        if kind == "arrayValue":
            return [_value(item) for item in value.get("values") or []]
        if kind == "kvlistValue":
            return {item["key"]: _value(item["value"]) for item in value.get("values") or []}
        return value
    return None


def _role(span: _Span) -> Role:
    if is_call(span.attributes, span.events):
        return "asked" if _turns(span)[1] else "silent"
    return "apart" if runs_calls(span.attributes) else ""


def _turns(span: _Span) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return all input turns of a call, and those that are not system turns."""
    messages = messages_of(span.attributes, span.events, "input")
    return messages, [turn for turn in messages if turn["role"] not in SYSTEM_ROLES]


def _row(span: _Span, traces: SpanTraces) -> dict[str, Any] | None:
    """Return the row of a call; None if its input was not recorded."""
    messages, turns = _turns(span)
    if not turns:
        return None
    instructions = messages_of(
        {"gen_ai.input.messages": span.attributes.get("gen_ai.system_instructions")}, (), "input"
    )
    system = [said(turn) for turn in (*messages, *instructions) if turn not in turns]
    answers = messages_of(span.attributes, span.events, "output")
    row = {
        "id": span.place.id,
        **_asked(span, turns, system),
        "output": "\n".join(map(_said, answers)) or None,
        "context": "\n\n".join(traces.documents(span.place)) or None,
        "tags": traces.tags(span.place) or None,
    }
    return {key: value for key, value in row.items() if value is not None}


def _asked(span: _Span, turns: list[dict[str, Any]], system: list[str]) -> dict[str, Any]:
    """Return the request: a question as `input`, a chat as `messages`.

    Turns in an order that is not valid for a chat become one input.
    """
    before = "\n".join(system) or None
    tools = _tools(span.attributes)
    if len(turns) == 1 and not tools and not turns[0].get("tool_calls"):
        return {"input": turns[0]["content"], "system": before}
    first = [{"role": "system", "content": before}] if before else []
    try:
        declared = check_tools(tools, place="a span")
        found = {"messages": list(check_messages([*first, *turns], declared, place="a span"))}
        return {**found, **({"tools": list(declared)} if declared else {})}
    except UsageError:
        asked = turns[0]["content"] if len(turns) == 1 else chat_text(map(_readable, turns))
        return {"input": asked, "system": before}


def _said(turn: Mapping[str, Any]) -> str:
    return said(_readable(turn))


def _readable(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a turn whose calls have names, whatever was recorded."""
    calls = (call["function"] for call in turn.get("tool_calls") or ())
    named = [{"function": {**call, "name": str(call.get("name") or "?")}} for call in calls]
    return {**turn, "tool_calls": named}


def _tools(attributes: Mapping[str, Any]) -> list[Any]:
    """Return the declared tools; Vercel stores each as JSON."""
    for name in ("gen_ai.tool.definitions", "ai.prompt.tools"):
        found = opened(attributes.get(name))
        if isinstance(found, list) and found:
            return [_tool(opened(item)) for item in found]
    return []


def _tool(item: Any) -> Any:
    """Vercel calls the schema of a function's arguments `inputSchema`."""
    if not isinstance(item, Mapping) or "function" in item:
        return item
    schema = item.get("parameters", item.get("inputSchema"))
    made = {"name": item.get("name"), "description": item.get("description"), "parameters": schema}
    return {key: value for key, value in made.items() if value is not None}


def _documents(span: _Span) -> list[str]:
    """Return the documents that a retriever found, in order."""
    found = {}
    for name, value in span.attributes.items():
        match = re.fullmatch(r"retrieval\.documents\.(\d{1,9})\.document\.content", name)
        if match and isinstance(value, str):
            found[int(match[1])] = value
    if found:
        return [found[index] for index in sorted(found)]
    if mlflow_kind(span.attributes) == "RETRIEVER":
        return _document_texts(span.attributes.get("mlflow.spanOutputs"))
    if span.attributes.get("langfuse.observation.type") == "retriever":
        return _document_texts(span.attributes.get("langfuse.observation.output"))
    if "gen_ai.retrieval.documents" in span.attributes:
        return _document_texts(span.attributes["gen_ai.retrieval.documents"])
    results = (attributes.get("db.query.result.document") for _, attributes in span.events)
    return [text for text in results if isinstance(text, str) and text.strip()]


def _document_texts(value: Any) -> list[str]:
    found = opened(value)
    if isinstance(found, Mapping):
        found = next((item for item in found.values() if isinstance(item, list)), [found])
    texts: list[str] = []
    for item in found if isinstance(found, list) else [found]:
        held = (item.get(key) for key in _DOCUMENT_KEYS) if isinstance(item, Mapping) else (item,)
        texts.extend(text for text in held if isinstance(text, str) and text.strip())
    return texts


def _tags(span: _Span) -> dict[str, str]:
    # An event's attributes count too, unless it is a message; the span's own override them.
    attributes: dict[str, Any] = {}
    for event, more in span.events:
        attributes |= {} if event.startswith("gen_ai.") else more
    attributes |= span.attributes
    resource = span.resource
    tags: dict[str, Any] = {name: resource.get(name) for name in _RESOURCE_TAGS}
    tags |= {name: attributes.get(name) for name in _TAGS}
    for name, value in attributes.items():
        if name not in ("metadata", "tag.tags") and not _NO_TAGS.match(name):
            tags[name] = value
    metadata = opened(attributes.get("metadata"))
    for item in metadata if isinstance(metadata, list) else [metadata]:
        tags |= item if isinstance(item, Mapping) else {}
    labels = attributes.get("tag.tags")
    tags |= {str(label): True for label in labels} if isinstance(labels, list) else {}
    plain = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in tags.items()
        if isinstance(value, str | int | bool) and str(value).strip()
    }
    return {name: text for name, text in plain.items() if len(text) <= _LONGEST_TAG}
