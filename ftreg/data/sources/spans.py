"""Rows of production calls: spans of language-model calls, exported as OTLP JSON.

One row a call: `input` (what was asked), `output` (what was answered), `system`, `context` (the
documents that were retrieved in the same trace), and `tags` (what the span says of the call, to
form cohorts). Attribute names are those of OpenTelemetry's GenAI conventions (`gen_ai.*`), and of
OpenInference and traceAI (`llm.*`, `input.value`, `retrieval.documents.*`).
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftreg.data.sources.trace_documents import TraceDocuments
from ftreg.errors import UsageError
from ftreg.files.reading import MIB, lines_of, parse_json, read_text
from ftreg.files.store import read_jsonl

_CALLS = frozenset({"chat", "text_completion", "generate_content"})
_KINDS = ("openinference.span.kind", "fi.span.kind", "traceloop.span.kind")
# Whatever a namespace of these holds is the call itself, not a property that splits calls.
_NO_TAGS = re.compile(
    r"(gen_ai|llm|input|output|retrieval|embedding|reranker|tool|message|raw|eval|exception|"
    r"openinference|fi|session|user|graph|code|thread|otel|telemetry|process|url|http|server|net|"
    r"network|peer)\."
)
_TAGS = ("gen_ai.request.model", "gen_ai.provider.name", "gen_ai.agent.name", "llm.model_name")
_RESOURCE_TAGS = ("service.name", "service.version", "deployment.environment.name")
_LONGEST_TAG = 100
_LARGEST = 256 * MIB
"""Bytes of a file that is one document, which is read whole."""


def span_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, row) for each span of a language-model call.

    Args:
        path: OTLP JSON, either one document or a document a line (as the collector's file
            exporter writes it).

    Raises:
        UsageError: the file is no OTLP JSON, or has no such span with an input; says what it has.
    """
    seen, calls = 0, 0
    with contextlib.closing(TraceDocuments()) as contexts:
        for number, span in _spans(path):
            contexts.add(span.trace, _documents(span.attributes), place=f"{path}:{number}")
        for number, span in _spans(path):
            seen += 1
            if not _is_call(span.attributes):
                continue
            row = _row(span, contexts.of(span.trace))
            if row is not None:
                calls += 1
                _refuse_half_characters(row, place=f"{path}:{number}")
                yield number, row
    if not calls:
        raise UsageError(
            f"{path}: {seen} spans, and none of them is a language-model call with its input; "
            "content is often not recorded unless asked for "
            "(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT)"
        )


@dataclass(frozen=True, slots=True)
class _Span:
    """A span; `attributes` are those of its events too, since content is recorded in either."""

    trace: str
    id: str
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


def _spans(path: Path) -> Iterator[tuple[int, _Span]]:
    """Yield each span, and the line that it stands on."""
    for number, document in _documents_of(path):
        if "resourceSpans" not in document:
            raise UsageError(f"{path}:{number}: not OTLP JSON: it has no resourceSpans")
        try:
            for group in document["resourceSpans"]:
                resource = _attributes(group.get("resource") or {})
                for scope in group.get("scopeSpans") or []:
                    for span in scope.get("spans") or []:
                        found: dict[str, Any] = {}
                        for event in span.get("events") or []:
                            found |= _attributes(event)
                        found |= _attributes(span)
                        trace, name = _text(span["traceId"]), _text(span["spanId"])
                        yield number, _Span(trace, name, found, resource)
        except KeyError as error:
            raise UsageError(f"{path}:{number}: not OTLP JSON: it lacks {error}") from error
        except (AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UsageError(f"{path}:{number}: not OTLP JSON: {error}") from error


def _documents_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    first = next((text for _, text in lines_of(path)), "").strip()
    if first not in ("", "{"):
        yield from read_jsonl(path)
        return
    # Indented for reading: one document, and there is no line to go by.
    text = read_text(path, most=_LARGEST, kind="single document; write one a line")
    value = parse_json(text, place=str(path), first_line=1)
    if not isinstance(value, dict):
        raise UsageError(f"{path}:1: expected a JSON object, found {type(value).__name__}")
    yield 1, value


def _refuse_half_characters(row: Mapping[str, Any], *, place: str) -> None:
    """Refuse what no UTF-8 file can hold; content that is JSON within JSON may say it too."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{place}: half of a UTF-16 pair, which is no character") from error


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _text(item["key"]): _value(item.get("value") or {})
        for item in holder.get("attributes") or []
    }


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {type(value).__name__}")
    return value


def _value(wrapped: Mapping[str, Any]) -> Any:
    """An OTLP `AnyValue` as Python has it; 64-bit integers travel as text."""
    for kind, value in wrapped.items():
        if kind == "intValue":
            return int(value)
        if kind == "arrayValue":
            return [_value(item) for item in value.get("values") or []]
        if kind == "kvlistValue":
            return {item["key"]: _value(item["value"]) for item in value.get("values") or []}
        return value
    return None


def _is_call(attributes: Mapping[str, Any]) -> bool:
    kinds = [str(attributes[name]).upper() for name in _KINDS if name in attributes]
    return "LLM" in kinds or str(attributes.get("gen_ai.operation.name")) in _CALLS


def _row(span: _Span, contexts: list[str]) -> dict[str, Any] | None:
    """The row of a call; None where its input was not recorded."""
    messages = _messages(span.attributes, "input")
    system = [text for role, text in messages if role in ("system", "developer")]
    turns = [(role, text) for role, text in messages if role not in ("system", "developer")]
    if not turns:
        return None
    asked = (
        turns[0][1] if len(turns) == 1 else "\n\n".join(f"{role}: {text}" for role, text in turns)
    )
    instructions = _texts(span.attributes.get("gen_ai.system_instructions"))
    row = {
        "id": span.id,
        "input": asked,
        "output": "\n".join(text for _, text in _messages(span.attributes, "output")) or None,
        "system": "\n".join([*system, *instructions]) or None,
        "context": "\n\n".join(contexts) or None,
        "tags": _tags(span.attributes, span.resource),
    }
    return {key: value for key, value in row.items() if value is not None}


def _messages(attributes: Mapping[str, Any], side: str) -> list[tuple[str, str]]:
    """Return (role, text) of what went in or came out, by the first convention that has it."""
    default = "user" if side == "input" else "assistant"
    older = "prompt" if side == "input" else "completion"
    for name in (f"gen_ai.{side}.messages", f"gen_ai.{older}"):
        found = [
            (str(item.get("role") or default), "\n".join(texts))
            for item in _list(attributes.get(name))
            if (texts := _texts(item.get("parts") or item.get("content")))
        ]
        if found:
            return found
    for prefix in (f"llm.{side}_messages", f"gen_ai.{side}.messages", f"gen_ai.{older}"):
        found = _flattened(attributes, prefix, default=default)
        if found:
            return found
    text = _plain_text(attributes, side)
    return [(default, text)] if text else []


def _list(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [{"content": value}]
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, Mapping)]


def _texts(value: Any) -> list[str]:
    """The texts of a message's content: a text, or parts of which some are texts."""
    if isinstance(value, str):
        try:
            parts = json.loads(value) if value.startswith("[") else None
        except (ValueError, RecursionError):
            parts = None
        if not isinstance(parts, list):
            return [value] if value.strip() else []
        value = parts
    found = []
    for part in value if isinstance(value, list) else []:
        text = part if isinstance(part, str) else None
        if isinstance(part, Mapping) and part.get("type", "text") == "text":
            text = part.get("content") or part.get("text")
        if isinstance(text, str) and text.strip():
            found.append(text)
    return found


def _flattened(
    attributes: Mapping[str, Any], prefix: str, *, default: str
) -> list[tuple[str, str]]:
    """Messages that are spread over attributes: `prefix.0.message.content` and the like."""
    pattern = re.compile(
        re.escape(prefix) + r"\.(\d{1,9})\.(?:message\.)?(role|content|contents\.(\d{1,9})\..*text)"
    )
    roles: dict[int, str] = {}
    texts: dict[int, list[tuple[int, str]]] = {}
    for name, value in attributes.items():
        if not (match := pattern.fullmatch(name)):
            continue
        index = int(match[1])
        if match[2] == "role":
            roles[index] = str(value)
        elif isinstance(value, str) and value.strip():
            texts.setdefault(index, []).append((int(match[3] or 0), value))
    return [
        (roles.get(index, default), "\n".join(text for _, text in sorted(parts)))
        for index, parts in sorted(texts.items())
    ]


def _plain_text(attributes: Mapping[str, Any], side: str) -> str | None:
    text = attributes.get(f"{side}.value")
    is_json = attributes.get(f"{side}.mime_type") == "application/json"
    return text if isinstance(text, str) and text.strip() and not is_json else None


def _documents(attributes: Mapping[str, Any]) -> list[str]:
    """What a retriever found, in its order."""
    found = {}
    for name, value in attributes.items():
        match = re.fullmatch(r"retrieval\.documents\.(\d{1,9})\.document\.content", name)
        if match and isinstance(value, str):
            found[int(match[1])] = value
    return [found[index] for index in sorted(found)]


def _tags(attributes: Mapping[str, Any], resource: Mapping[str, Any]) -> dict[str, str] | None:
    tags: dict[str, Any] = {name: resource.get(name) for name in _RESOURCE_TAGS}
    tags |= {name: attributes.get(name) for name in _TAGS}
    for name, value in attributes.items():
        if name not in ("metadata", "tag.tags") and not _NO_TAGS.match(name):
            tags[name] = value
    for item in _list(attributes.get("metadata")):
        tags |= item
    labels = attributes.get("tag.tags")
    tags |= {str(label): True for label in labels} if isinstance(labels, list) else {}
    plain = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in tags.items()
        if isinstance(value, str | int | bool) and str(value).strip()
    }
    return {name: text for name, text in plain.items() if len(text) <= _LONGEST_TAG} or None
