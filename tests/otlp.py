"""A real OTLP/HTTP collector of a few lines: it takes what an exporter sends, and keeps it."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True)
class OtlpSpan:
    """One span as the collector got it."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty for a root."""
    name: str
    kind: str
    status: str
    message: str
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    start_ns: int
    end_ns: int


class OtlpReceiver:
    """Listens on a free port of 127.0.0.1 from construction until `close`."""

    def __init__(self) -> None:
        self._spans: list[OtlpSpan] = []
        self._metrics: list[Metric] = []
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                known = receiver._take(self.path, body)
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        """What `OTEL_EXPORTER_OTLP_ENDPOINT` should be."""

    def _take(self, path: str, body: bytes) -> bool:
        if path not in ("/v1/traces", "/v1/metrics"):
            return False
        with self._changed:
            if path == "/v1/traces":
                self._spans += _spans(ExportTraceServiceRequest.FromString(body))
            else:
                request = ExportMetricsServiceRequest.FromString(body)
                for resource in request.resource_metrics:
                    for scope in resource.scope_metrics:
                        self._metrics += scope.metrics
            self._changed.notify_all()
        return True

    @property
    def spans(self) -> list[OtlpSpan]:
        """Every span so far, in the order of their start."""
        with self._changed:
            return sorted(self._spans, key=lambda span: span.start_ns)

    @property
    def metrics(self) -> list[Metric]:
        """Every metric so far, one for each export."""
        with self._changed:
            return list(self._metrics)

    def trace(self, trace_id: str) -> list[OtlpSpan]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    def wait_for(self, enough: Callable[[list[OtlpSpan]], bool], timeout_s: float = 20.0) -> list[OtlpSpan]:
        """Wait until the spans are `enough`, and return them; raise TimeoutError naming those that came."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not enough(self.spans_unlocked()):
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    raise TimeoutError(f"only these spans came: {[span.name for span in self.spans_unlocked()]}")
            return self.spans_unlocked()

    def spans_unlocked(self) -> list[OtlpSpan]:
        """For who holds the lock already."""
        return sorted(self._spans, key=lambda span: span.start_ns)

    def clear(self) -> None:
        """Forget what came."""
        with self._changed:
            self._spans.clear()
            self._metrics.clear()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _spans(request: ExportTraceServiceRequest) -> list[OtlpSpan]:
    return [
        OtlpSpan(
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.name,
            Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
            span.status.message,
            _attributes(span.attributes),
            _attributes(resource.resource.attributes),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_value(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, which) if which else None
