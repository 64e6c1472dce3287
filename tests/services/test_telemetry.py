"""Spans and evaluation results, received by a real OTLP collector on loopback."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ftreg.records.evaluation.stored import read_evaluation
from tests.conftest import Cli


class Collector:
    """Decodes what is posted to it; speaks OTLP over http/protobuf."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.logs: list[Any] = []
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.services.add(plain(group.resource.attributes)["service.name"])
                self.spans += [span for scope in group.scope_spans for span in scope.spans]
        else:
            assert path == "/v1/logs"
            for group in ExportLogsServiceRequest.FromString(body).resource_logs:
                self.logs += [log for scope in group.scope_logs for log in scope.log_records]


def plain(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    yield found
    found.server.shutdown()


def test_a_run_and_its_evaluation_are_told(
    cli: Cli, config: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEPARENT", f"00-{'ab' * 16}-{'cd' * 8}-01")
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    assert cli("eval", "a", "--bootstrap").code == 0
    train, evaluation = collector.spans
    assert (train.name, evaluation.name) == ("ftreg.train", "ftreg.eval")
    assert {span.trace_id.hex() for span in collector.spans} == {"ab" * 16}
    assert collector.services == {"ftreg"}
    told = plain(train.attributes)
    assert told["model.optimizer.name"] == "adamw"
    assert told["model.optimizer.lr"] == 1e-3
    assert told["dataset.version"] == "colours@1"

    (folder,) = Path("evaluations").iterdir()
    stored = read_evaluation(folder)
    scored = plain(evaluation.attributes)
    assert scored["ftreg.checkpoint.identity"] == told["ftreg.checkpoint.identity"]
    assert scored["dataset.digest"] == told["dataset.digest"] == stored.header["dataset"]["digest"]
    assert scored["dataset.name"] == "colours"
    assert scored["ftreg.score.equals.mean"] == stored.header["summary"]["equals"]["mean"]

    results = {}
    for log in collector.logs:
        assert log.event_name == "gen_ai.evaluation.result"
        assert log.span_id == evaluation.span_id
        facts = plain(log.attributes)
        results[facts["gen_ai.evaluation.name"], facts["gen_ai.response.id"]] = facts
    assert len(results) == len(collector.logs) == sum(map(len, stored.scores.values()))
    for scorer, column in stored.scores.items():
        for name, value in column.items():
            facts = results[scorer, name]
            assert facts.get("gen_ai.evaluation.score.value") == value
            assert facts.get("error.type") == ("missing" if value is None else None)
            assert facts["ftreg.cohort.parity"] in ("even", "odd")


def test_replicas_have_a_result_for_each_seed(cli: Cli, config: Path, collector: Collector) -> None:
    assert cli("train", config, "-s", "train.seeds=[1, 2]", "-o", "checkpoints/g").code == 0
    assert cli("eval", "g", "--no-gate").code == 0
    (folder,) = Path("evaluations").iterdir()
    stored = read_evaluation(folder)
    expected = {
        (scorer, name, seed): value
        for scorer, column in stored.scores.items()
        for name, cell in column.items()
        for seed, value in zip((1, 2), cell, strict=True)
    }
    told = [plain(log.attributes) for log in collector.logs]
    results = {
        (facts["gen_ai.evaluation.name"], facts["gen_ai.response.id"], facts["ftreg.seed"]): (
            facts.get("gen_ai.evaluation.score.value")
        )
        for facts in told
    }
    assert len(told) == len(expected)
    assert results == expected


def test_an_error_is_told_without_its_text(cli: Cli, config: Path, collector: Collector) -> None:
    done = cli("train", config, "-o", "checkpoints/a", "-s", "base.model=/nowhere/secret")
    assert done.code == 2
    (span,) = collector.spans
    assert span.status.code == 2
    assert plain(span.attributes)["error.type"] == "usage"
    assert not span.events


def test_nothing_is_sent_unless_asked_for(
    cli: Cli, config: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    assert cli("train", config, "-o", "checkpoints/b").code == 0
    assert not collector.spans


def test_one_signal_alone(
    cli: Cli, config: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    assert cli("eval", "a", "--bootstrap").code == 0
    assert len(collector.spans) == 2
    assert not collector.logs


def test_a_collector_that_is_not_there_changes_nothing(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    done = cli("train", config, "-o", "checkpoints/a")
    assert done.code == 0, done
    assert Path("checkpoints/a/ftreg.json").is_file()


def test_another_protocol_is_named_and_not_spoken(
    cli: Cli,
    config: Path,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    assert "http/protobuf only" in caplog.text
    assert not collector.spans
