from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from otlp import OtlpReceiver

from deployments.quiet_exporter import PAUSE_S, QuietExporter
from deployments.sampling import TokenBucket
from deployments.telemetry import Telemetry, configure_telemetry
from deployments.trace_tree import load_trace
from graph import telemetry as otel
from graph.stores import open_store

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def dead_endpoint() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_spans_reach_the_collector_with_their_tree(no_provider: None, otlp: OtlpReceiver) -> None:
    telemetry = configure_telemetry(service_name="modelyard-gateway", otlp_endpoint=otlp.endpoint, instance_id="g1")
    with otel.recorded(otel.request_span("POST", "/v1/chat/completions", {"traceparent": SAMPLED})) as request:
        otel.route_span("embedding", parent=request).end()
    assert telemetry.shutdown()
    top, route = otlp.trace("0af7651916cd43dd8448eb211c80319c")
    assert (top.name, top.kind, top.parent_id) == ("POST /v1/chat/completions", "SERVER", "b7ad6b7169203331")
    assert (route.name, route.parent_id) == ("route embedding", top.span_id)
    assert (top.resource["service.name"], top.resource["service.instance.id"]) == ("modelyard-gateway", "g1")


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{tmp_path}/state.db"


async def test_spans_of_two_processes_make_one_tree_in_the_store(no_provider: None, store_url: str) -> None:
    telemetry = configure_telemetry(service_name="gateway", store_url=store_url)
    with otel.recorded(otel.request_span("POST", "/v1/runs", {})) as request:
        child = await asyncio.to_thread(node_process, store_url, otel.carrier(request)["traceparent"])
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")
    assert telemetry.shutdown()
    store = await open_store(store_url)
    tree = await load_trace(store, otel.trace_id(request))
    await store.aclose()
    assert tree is not None
    (root,) = tree.roots
    assert (root.name, root.service) == ("POST /v1/runs", "gateway")
    assert [(span.name, span.service) for span in root.children] == [("serve", "node")]


def node_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", NODE_PROCESS, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


NODE_PROCESS = """
import sys
from deployments.telemetry import configure_telemetry
from graph import telemetry as otel
telemetry = configure_telemetry(service_name="node", store_url=sys.argv[1])
otel.start("serve", parent={"traceparent": sys.argv[2]}).end()
telemetry.shutdown()
"""


def test_nothing_is_lost_at_a_normal_stop(no_provider: None, otlp: OtlpReceiver) -> None:
    telemetry = configure_telemetry(service_name="x", otlp_endpoint=otlp.endpoint, max_traces_per_s=None)
    for number in range(3000):
        otel.start(f"span {number}").end()
    assert telemetry.shutdown(timeout_s=30)
    assert len(otlp.spans) == 3000


def test_the_cap_bounds_recorded_traces_but_every_request_has_a_trace_id(no_provider: None, otlp: OtlpReceiver) -> None:
    telemetry = configure_telemetry(service_name="x", otlp_endpoint=otlp.endpoint, max_traces_per_s=0.001, edge=True)
    spans = [otel.request_span("GET", "/x", {"traceparent": SAMPLED} if number % 2 else {}) for number in range(50)]
    for span in spans:
        otel.start("child", parent=span).end()
        span.end()
    assert telemetry.shutdown()
    assert [span.name for span in otlp.spans] == ["GET /x", "child"]
    assert all(otel.trace_id(span) for span in spans)
    assert len({otel.trace_id(span) for span in spans}) == 26


def test_behind_the_edge_a_sampled_parent_is_always_followed(no_provider: None, otlp: OtlpReceiver) -> None:
    telemetry = configure_telemetry(service_name="node", otlp_endpoint=otlp.endpoint, sample_ratio=0.0)
    for _ in range(200):
        otel.start("serve", parent=otel.span_from({"traceparent": SAMPLED}, remote=True)).end()
        otel.start("root").end()
    assert telemetry.shutdown()
    assert [span.name for span in otlp.spans] == ["serve"] * 200


def test_the_bucket_refills() -> None:
    now = [0.0]
    bucket = TokenBucket(2.0, clock=lambda: now[0])
    assert [bucket.take() for _ in range(12)] == [True] * 10 + [False] * 2
    now[0] = 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]


def test_a_dead_collector_neither_hangs_nor_fills_the_log(
    no_provider: None, dead_endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    telemetry = configure_telemetry(service_name="x", otlp_endpoint=dead_endpoint, max_traces_per_s=None)
    for _ in range(4000):
        otel.start("lost").end()
    telemetry.flush(timeout_s=20)
    telemetry.shutdown(timeout_s=20)
    assert [record.name for record in caplog.records] == ["deployments.quiet_exporter"]


def test_a_dead_store_neither_hangs_nor_fills_the_log(
    no_provider: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    telemetry = configure_telemetry(
        service_name="x", store_url=f"sqlite:///{tmp_path}/file/state.db", max_traces_per_s=None
    )
    for _ in range(2000):
        otel.start("lost").end()
    assert telemetry.shutdown(timeout_s=20)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_shutdown_gives_up_on_an_exporter_that_hangs(no_provider: None) -> None:
    release = threading.Event()

    class Hanging(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            release.wait(60)
            return SpanExportResult.SUCCESS

    base = configure_telemetry(service_name="x")
    processor = BatchSpanProcessor(Hanging())
    base.provider.add_span_processor(processor)
    otel.start("stuck").end()
    assert not Telemetry(base.provider, (processor,)).shutdown(timeout_s=0.1)
    release.set()


def test_a_target_that_comes_back_is_used_again(caplog: pytest.LogCaptureFixture) -> None:
    now, answers = [0.0], [ConnectionError("refused"), None]
    calls = []

    class Flaky(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            calls.append(now[0])
            error = answers.pop(0)
            if error:
                raise error
            return SpanExportResult.SUCCESS

    exporter = QuietExporter(Flaky(), "there", clock=lambda: now[0])
    assert exporter.export(()) is SpanExportResult.FAILURE
    assert exporter.export(()) is SpanExportResult.FAILURE
    now[0] = PAUSE_S
    assert exporter.export(()) is SpanExportResult.SUCCESS
    assert calls == [0.0, PAUSE_S]
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        "spans cannot be written to there",
        "spans are written to there again",
    ]


def test_a_second_call_in_a_process_adds_its_exporters(no_provider: None, otlp: OtlpReceiver) -> None:
    first = configure_telemetry(service_name="x", max_traces_per_s=None)
    second = configure_telemetry(service_name="y", otlp_endpoint=otlp.endpoint)
    otel.start("a").end()
    assert second.provider is first.provider
    assert second.shutdown()
    assert [span.name for span in otlp.spans] == ["a"]


def test_a_memory_store_gets_no_exporter(no_provider: None) -> None:
    assert configure_telemetry(service_name="x", store_url="memory://").processors == ()
