from __future__ import annotations

from collections.abc import Callable

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from graph import telemetry as otel
from graph.errors import NoNodeFits

On = Callable[..., InMemorySpanExporter]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_carrier_is_what_the_w3c_propagator_writes_and_reads(record_spans: On) -> None:
    record_spans()
    span = otel.start("a")
    written: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(written, trace.set_span_in_context(span))
    assert otel.carrier(span) == written
    read = otel.span_from(written).get_span_context()
    assert (read.trace_id, read.span_id) == (span.get_span_context().trace_id, span.get_span_context().span_id)


def test_the_current_span_is_the_default(record_spans: On) -> None:
    spans = record_spans()
    with trace.use_span(otel.start("outer"), end_on_exit=True) as outer:
        assert otel.carrier() == otel.carrier(outer)
        otel.start("inner").end()
    inner = spans.get_finished_spans()[0]
    assert inner.parent is not None
    assert inner.parent.span_id == outer.get_span_context().span_id


def test_trace_state_is_passed_on(record_spans: On) -> None:
    record_spans()
    span = otel.request_span("GET", "/x", {"traceparent": PARENT, "tracestate": "vendor=1"})
    assert otel.trace_id(span) == "0af7651916cd43dd8448eb211c80319c"
    assert otel.carrier(span)["tracestate"] == "vendor=1"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        PARENT.upper(),
        PARENT + "-more",
        "ff" + PARENT[2:],
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        PARENT + "\n",
    ],
)
def test_a_malformed_traceparent_is_ignored(record_spans: On, header: str) -> None:
    spans = record_spans()
    otel.request_span("GET", "/x", {"traceparent": header}).end()
    (span,) = spans.get_finished_spans()
    assert span.parent is None


def test_a_later_version_of_traceparent_is_read() -> None:
    span = otel.span_from({"traceparent": "01" + PARENT[2:] + "-more"})
    assert span is not INVALID_SPAN
    assert span.get_span_context().is_valid


def test_request_route_and_plan_spans_keep_the_conventions(record_spans: On) -> None:
    spans = record_spans()
    with otel.recorded(otel.request_span("POST", "/v1/plan", {})) as request:
        with otel.recorded(otel.route_span("embedding", parent=request)) as route:
            otel.set_decision(route, node="legal", probability=0.9, candidates=["legal", "code"], out_of_scope=False)
        with otel.recorded(otel.plan_span("zero_shot", parent=request)) as plan:
            otel.set_plan(plan, "learned", nodes=["speech", "legal"], missing=1)
        otel.set_http_status(request, 503)
    routed, planned, asked = spans.get_finished_spans()
    assert (asked.name, asked.kind) == ("POST /v1/plan", SpanKind.SERVER)
    assert asked.status.status_code is StatusCode.ERROR
    assert dict(asked.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/plan",
        "http.response.status_code": 503,
        "error.type": "503",
    }
    assert (routed.name, routed.kind) == ("route embedding", SpanKind.INTERNAL)
    assert dict(routed.attributes or {}) == {
        "modelyard.route.strategy": "embedding",
        "modelyard.route.node": "legal",
        "modelyard.route.probability": 0.9,
        "modelyard.route.candidates": ("legal", "code"),
        "modelyard.route.out_of_scope": False,
    }
    assert (planned.name, planned.kind) == ("plan learned", SpanKind.INTERNAL)
    assert dict(planned.attributes or {}) == {
        "gen_ai.operation.name": "plan",
        "gen_ai.agent.name": "learned",
        "modelyard.plan.tasks": 2,
        "modelyard.plan.nodes": ("speech", "legal"),
        "modelyard.plan.missing": 1,
    }


def test_recorded_marks_what_raised(record_spans: On) -> None:
    spans = record_spans()
    with pytest.raises(NoNodeFits), otel.recorded(otel.route_span("keyword")):
        raise NoNodeFits("nothing fits")
    (span,) = spans.get_finished_spans()
    assert (span.attributes or {})["error.type"] == "no_node_fits"
    assert span.status.description == "nothing fits"
