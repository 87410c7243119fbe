"""Microseconds that tracing and metrics add to one call of a node, and what recording by the peers would cost.

python -m benchmarks.telemetry_cost
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Histogram

from deployments.metrics import Metrics, metered
from deployments.sampling import make_sampler
from deployments.tail_sampling import GatewayHeld
from graph import telemetry as otel
from graph.draft import DraftSpan
from graph.node import Invoke
from graph.spec import NodeSpec
from graph.tracing import traced
from graph.types import Call, CallContext, Delta, Message, Usage

SPEC = NodeSpec(name="legal", kind="openai", description="law", model="law-chat", endpoint="https://llm.example/v1")
ROUNDS, CALLS = 5, 5000


class _Nowhere(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _held_root() -> DraftSpan:
    return GatewayHeld(Resource({}), (), slow_s=10, errors=True).begin("POST /x", SpanKind.SERVER, {})


async def node(name: str, call: Call) -> AsyncIterator[Delta]:
    yield Delta("Hello")
    yield Delta(finish_reason="stop", usage=Usage(7, 2), model="law-chat")


def timed(work: Callable[[], object], calls: int = CALLS) -> float:
    """Microseconds of one call: the best of some rounds."""
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        found.append((time.perf_counter() - start) / calls * 1e6)
    return min(found)


async def per_call(invoke: Invoke, call: Call) -> float:
    """Microseconds of one call to a node, its stream read to the end: the best of some rounds."""
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(CALLS):
            async for _ in invoke("legal", call):
                pass
        found.append((time.perf_counter() - start) / CALLS * 1e6)
    return min(found)


def show(what: str, microseconds: float) -> None:
    print(f"{what:<58}{microseconds:8.2f} us")


async def main() -> None:
    provider = TracerProvider(sampler=make_sampler(1.0, None))
    provider.add_span_processor(BatchSpanProcessor(_Nowhere(), max_queue_size=100_000))
    trace.set_tracer_provider(provider)
    sampled = otel.start("root")
    call = Call((Message("user", "May I?"),), params={"temperature": 0.5}, context=CallContext("r"))
    on = call.with_context(trace=otel.carrier(sampled))
    off = call.with_context(trace={"traceparent": otel.carrier(sampled)["traceparent"][:-2] + "00"})
    metrics, lookup = Metrics(), {"legal": SPEC}.__getitem__

    bare = await per_call(node, off)
    show("a node that streams two deltas, bare", bare)
    show("+ traced, not recording", await per_call(traced(node, lookup), off) - bare)
    show("+ traced, recording", await per_call(traced(node, lookup), on) - bare)
    show("+ metered", await per_call(metered(node, metrics, lookup), off) - bare)
    both = metered(traced(node, lookup), metrics, lookup)
    show("+ traced and metered, not recording", await per_call(both, off) - bare)
    show("+ traced and metered, held", await per_call(both, call.with_context(trace=otel.carrier(_held_root()))) - bare)
    show("+ traced and metered, recording", await per_call(both, on) - bare)

    unsampled = otel.span_from(off.context.trace)
    show("one span, not recorded: modelyard", timed(lambda: otel.route_span("embedding", parent=unsampled).end()))
    context = trace.set_span_in_context(unsampled)
    show("one span, not recorded: SDK", timed(lambda: otel.tracer().start_span("route", context).end()))
    show("one span, recorded", timed(lambda: otel.route_span("embedding", parent=sampled).end()))
    capped = TracerProvider(sampler=make_sampler(1.0, 1e-9, edge=True), shutdown_on_exit=False).get_tracer("bench")
    show(
        "a root over the cap (SDK, once a request)", timed(lambda: capped.start_span("POST /v1/chat/completions").end())
    )
    show("carrier written", timed(lambda: otel.carrier(sampled)))
    show("carrier read", timed(lambda: otel.span_from(on.context.trace)))

    route = metrics.route.labels("embedding")
    show("one value recorded: modelyard", timed(lambda: route.observe(0.002)))
    own = Histogram("route_seconds", "x", ("strategy",), registry=CollectorRegistry()).labels("embedding")
    show("one value recorded: prometheus_client", timed(lambda: own.observe(0.002)))
    meter = MeterProvider(metric_readers=[InMemoryMetricReader()], shutdown_on_exit=False).get_meter("bench")
    histogram = meter.create_histogram("modelyard.route.duration", "s")
    show("one value recorded: OpenTelemetry SDK", timed(lambda: histogram.record(0.002, {"strategy": "embedding"})))
    show("/metrics rendered", timed(metrics.render, 50))


if __name__ == "__main__":
    asyncio.run(main())
