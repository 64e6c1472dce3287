"""Spans and evaluation results for OpenTelemetry, sent only if the standard variables request it.

Nothing is sent, and OpenTelemetry is not imported, unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or the one
for traces or logs) names a collector. An unreachable collector never changes the behaviour or exit
code of a command.
"""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

import ftreg
from ftreg import process
from ftreg.errors import FtregError

_LOG = logging.getLogger(__name__)
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
# Less than the batch processor's queue (2,048), which drops anything beyond.
_FLUSH_EVERY = 1000
_FLUSH_MS = 30_000

Attributes = Mapping[str, Any]
P = ParamSpec("P")
R = TypeVar("R")


def traced(
    name: str,
    *,
    asked: Callable[..., Attributes],
    found: Callable[[Any], Attributes],
    results: Callable[[Any], Iterable[Attributes]] = lambda result: (),
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Wrap a function in a span, if telemetry is enabled.

    Args:
        name: of the span.
        asked: given the function's arguments, returns the span's attributes. They must not contain
            users' texts, paths or secrets.
        found: given the function's result, returns the attributes known then.
        results: given the same, yields the attributes of `gen_ai.evaluation.result` events, which
            are sent as log records inside the span (OpenTelemetry's GenAI conventions).
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            if not _wanted():
                return function(*args, **kwargs)
            with _span(name, asked(*args, **kwargs)) as span:
                result = function(*args, **kwargs)
                span.finish(found(result), results(result))
                return result

        return wrapped

    return decorate


def _wanted() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if not process.leads():
        return False
    if not (_endpoint("traces") or _endpoint("logs")):
        return False
    if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf") != "http/protobuf":
        _LOG.warning("ftreg supports OTLP over http/protobuf only, so nothing is sent")
        return False
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk  # noqa: F401
    except ImportError:
        _LOG.warning(
            "nothing is sent to OpenTelemetry: "
            "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        )
        return False
    return True


def _endpoint(signal: str) -> bool:
    if os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp") != "otlp":
        return False
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    return bool(os.environ.get(own) or os.environ.get(_ENDPOINT))


class _Span:
    """An open span, and the logger for results inside it."""

    def __init__(self, span: Any, logs: Any) -> None:
        self._span, self._logs = span, logs

    def finish(self, attributes: Attributes, results: Iterable[Attributes]) -> None:
        self._span.set_attributes(_plain(attributes))
        if self._logs is None:
            return
        logger = self._logs.get_logger("ftreg", ftreg.__version__)
        for count, result in enumerate(results, start=1):
            logger.emit(event_name="gen_ai.evaluation.result", attributes=_plain(result))
            if count % _FLUSH_EVERY == 0 and not self._logs.force_flush(_FLUSH_MS):
                _LOG.warning("the collector does not keep up; evaluation results are dropped")
                return


@contextlib.contextmanager
def _span(name: str, attributes: Attributes) -> Iterator[_Span]:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Standard variables take precedence: Resource.create applies OTEL_SERVICE_NAME and the like.
    service = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "ftreg"}
    resource = Resource.create({**service, "service.version": ftreg.__version__})
    # Private providers, not the process's: a program that imports ftreg may have others.
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    logs = LoggerProvider(resource=resource, shutdown_on_exit=False) if _endpoint("logs") else None
    _export(traces, logs)
    # A CI that traces its jobs passes on their context.
    carrier = {"traceparent": os.environ.get("TRACEPARENT", "")}
    context = TraceContextTextMapPropagator().extract(carrier)
    try:
        with traces.get_tracer("ftreg", ftreg.__version__).start_as_current_span(
            name,
            context=context,
            attributes=_plain(attributes),
            record_exception=False,  # its stack trace contains paths
            set_status_on_exception=False,
        ) as span:
            try:
                yield _Span(span, logs)
            except BaseException as error:
                code = type(error).__name__
                if isinstance(error, FtregError):
                    code = error.exit_code.name.lower()
                span.set_status(Status(StatusCode.ERROR, code))
                span.set_attribute("error.type", code)
                raise
    finally:
        traces.shutdown()
        if logs is not None:
            logs.shutdown()


def _export(traces: Any, logs: Any) -> None:
    if _endpoint("traces"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    if logs is not None:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))


def _plain(attributes: Attributes) -> dict[str, Any]:
    """Drop unknown values: OpenTelemetry has no null."""
    return {name: value for name, value in attributes.items() if value is not None}
