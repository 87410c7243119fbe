"""Failed and slow requests are kept whole, whatever the share of recorded traces."""

from __future__ import annotations

import asyncio
import gc
import pickle
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes import FakeInvoke, answer, chat, spec
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanKind
from otlp import OtlpReceiver

import deployments.tail_sampling
from deployments.metrics import Metrics, metered
from deployments.span_store import StoreSpanExporter
from deployments.tail_sampling import NodeHeld
from deployments.telemetry import Telemetry, configure_telemetry
from deployments.trace_tree import SpanNode, load_trace
from graph import telemetry as otel
from graph.errors import NodeUnavailable
from graph.node_span import replica_span
from graph.stores import make_store, open_store
from graph.tracing import traced

UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
SPECS = {"law": spec("law"), "cook": spec("cook")}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture
def telemetry(no_provider: None, url: str) -> Telemetry:
    return configure_telemetry(
        service_name="gateway", store_url=url, sample_ratio=0.0, slow_s=5.0, keep_errors=True, edge=True
    )


async def tree(telemetry: Telemetry, url: str, trace_id: str) -> dict[str, SpanNode]:
    assert await asyncio.to_thread(telemetry.flush)
    store = await open_store(url)
    found = await load_trace(store, trace_id)
    await store.aclose()
    return {span.name: span for span in found.walk()} if found else {}


async def ask(node: str, span: object, *script: object) -> None:
    """Call a node below a span, with what a gateway records and counts."""
    place = FakeInvoke({node: [list(script) or answer("yes")]})  # type: ignore[list-item]
    invoke = traced(metered(place, Metrics(), SPECS.__getitem__), SPECS.__getitem__)
    call = chat().with_context(trace=otel.carrier(span), request_id="r1")  # type: ignore[arg-type]
    try:
        async for _ in invoke(node, call):
            pass
    except NodeUnavailable:
        pass


async def test_a_request_that_ends_well_in_time_is_not_kept(telemetry: Telemetry, url: str) -> None:
    root = telemetry.request_span("POST", "/x", {})
    await ask("law", root)
    otel.set_http_status(root, 200)
    root.end()
    assert otel.trace_id(root) and not otel.is_kept(root)
    assert await tree(telemetry, url, otel.trace_id(root)) == {}


async def test_a_failed_one_is_kept_with_everything_below_it(telemetry: Telemetry, url: str) -> None:
    root = telemetry.request_span("POST", "/x", {})
    route = otel.route_span("embedding", parent=root)
    otel.set_decision(route, node="law", probability=0.9, candidates=["law"], out_of_scope=False)
    route.end()
    await ask("law", root, NodeUnavailable("down"))
    await ask("cook", root)
    otel.set_http_status(root, 503)
    root.end()
    spans = await tree(telemetry, url, otel.trace_id(root))
    assert set(spans) == {"POST /x", "route embedding", "chat law", "chat cook"}
    top = spans["POST /x"]
    assert {child.name for child in top.children} == {"route embedding", "chat law", "chat cook"}
    assert (top.status, top.attributes["modelyard.trace.kept"]) == ("ERROR", "error")
    assert (spans["chat law"].status, spans["chat law"].attributes["error.type"]) == ("ERROR", "node_unavailable")
    cook = spans["chat cook"].attributes
    assert (cook["gen_ai.usage.output_tokens"], cook["gen_ai.provider.name"]) == (2, "fake")
    assert spans["route embedding"].attributes["modelyard.route.node"] == "law"


async def test_what_is_not_kept_is_freed_when_the_request_ends(telemetry: Telemetry) -> None:
    gc.collect()
    gc.disable()
    try:
        root = telemetry.request_span("POST", "/x", {})
        await ask("law", root)
        spans = [weakref.ref(span) for span in root.draft.spans]  # type: ignore[attr-defined]
        root.end()
        late = otel.route_span("embedding", parent=root)
        late.end()
        spans.append(weakref.ref(late))
        del root, late
        assert len(spans) == 3
        assert [span() for span in spans] == [None, None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize(("slow_s", "errors", "kept"), [(0.001, False, "slow"), (0.0, True, None)])
async def test_a_slow_one_is_kept_where_that_is_wanted(
    no_provider: None, url: str, slow_s: float, errors: bool, kept: str | None
) -> None:
    telemetry = configure_telemetry(
        service_name="g", store_url=url, sample_ratio=0.0, slow_s=slow_s, keep_errors=errors, edge=True
    )
    root = telemetry.request_span("GET", "/x", {})
    root.start_ns -= 10_000_000  # type: ignore[attr-defined]
    root.end()
    spans = await tree(telemetry, url, otel.trace_id(root))
    assert (spans["GET /x"].attributes["modelyard.trace.kept"] if spans else None) == kept


async def test_a_client_that_leaves_is_no_error(telemetry: Telemetry, url: str) -> None:
    root = telemetry.request_span("POST", "/x", {})
    otel.fail(root, asyncio.CancelledError())
    root.end()
    assert await tree(telemetry, url, otel.trace_id(root)) == {}


async def test_a_run_that_fails_after_its_request_was_answered_is_kept_from_the_start(
    telemetry: Telemetry, url: str
) -> None:
    root = telemetry.request_span("POST", "/v1/runs", {})
    workflow = otel.workflow_span("plan", parent=root)
    root.end()
    await ask("law", workflow)
    assert otel.ended(workflow, "failed") == ""
    workflow.end()
    assert otel.is_kept(workflow)
    spans = await tree(telemetry, url, otel.trace_id(root))
    assert [child.name for child in spans["POST /v1/runs"].children] == ["invoke_workflow plan"]
    assert [child.name for child in spans["invoke_workflow plan"].children] == ["chat law"]


async def test_a_deadline_of_the_callers_that_passed_is_kept_and_a_wrong_request_is_not(
    telemetry: Telemetry, url: str
) -> None:
    roots = [telemetry.request_span("GET", "/x", {}) for _ in range(2)]
    for root, status in zip(roots, (408, 400), strict=True):
        otel.set_http_status(root, status)
        root.end()
    assert [otel.is_kept(root) for root in roots] == [True, False]


async def test_it_hangs_below_the_clients_span_which_was_not_sampled(telemetry: Telemetry, url: str) -> None:
    root = telemetry.request_span("GET", "/x", {"traceparent": UNSAMPLED})
    otel.set_http_status(root, 500)
    root.end()
    spans = await tree(telemetry, url, "0af7651916cd43dd8448eb211c80319c")
    assert spans["GET /x"].parent_id == "b7ad6b7169203331"


async def test_a_storm_of_errors_keeps_no_more_than_so_many(
    telemetry: Telemetry, otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry.held._bucket, "take", iter([True, True, *[False] * 8]).__next__)  # type: ignore[union-attr]
    roots = [telemetry.request_span("GET", "/x", {}) for _ in range(10)]
    for root in roots:
        otel.set_http_status(root, 500)
        root.end()
    assert sum(otel.is_kept(root) for root in roots) == 2


class Exported:
    """A span processor that notes."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_end(self, span: object) -> None:
        self.names.append(span.name)  # type: ignore[attr-defined]


@pytest.fixture
async def node(
    no_provider: None, url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[NodeHeld, Exported]]:
    """What a node's process holds spans with."""
    monkeypatch.setattr(deployments.tail_sampling, "LOOK_S", 3600.0)
    exporter, exported = StoreSpanExporter(lambda: make_store(url)), Exported()
    held = NodeHeld(Resource({}), [exported], exporter.kept_after)  # type: ignore[list-item]
    yield held, exported
    held._stopped = True
    await asyncio.to_thread(exporter.shutdown)


@pytest.mark.parametrize("first", ["decided", "served"])
async def test_a_nodes_process_writes_its_part_of_a_kept_trace_whoever_ends_first(
    node: tuple[NodeHeld, Exported], telemetry: Telemetry, url: str, first: str
) -> None:
    held, exported = node
    root = telemetry.request_span("POST", "/x", {})
    call = pickle.loads(pickle.dumps(chat().with_context(trace=otel.carrier(root))))  # noqa: S301  # our own
    assert type(call.context.trace) is dict and call.context.trace["tracestate"] == "modelyard=held"
    other = held.begin("serve other", SpanKind.SERVER, {}, otel.span_from(call.context.trace).get_span_context())
    other.trace_id += 1
    served = held.begin("serve law", SpanKind.SERVER, {}, otel.span_from(call.context.trace).get_span_context())

    async def decided() -> None:
        otel.set_http_status(root, 500)
        root.end()
        await asyncio.to_thread(telemetry.flush)
        await asyncio.to_thread(held.look)

    if first == "decided":
        await decided()
    for span in (served, other):
        span.end()
    await asyncio.to_thread(held.look)
    if first == "served":
        assert exported.names == []
        await decided()
    assert exported.names == ["serve law"]


async def test_the_span_of_a_replica_is_held_only_where_its_gateway_holds_the_trace(telemetry: Telemetry) -> None:
    provider = telemetry.provider
    held = otel.carrier(telemetry.request_span("POST", "/x", {}))
    assert replica_span(SPECS["law"], chat().with_context(trace=dict(held))).is_recording()
    assert not replica_span(SPECS["law"], chat().with_context(trace={"traceparent": UNSAMPLED})).is_recording()
    assert provider.held is telemetry.held  # type: ignore[attr-defined]
