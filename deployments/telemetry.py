"""Sets up the OpenTelemetry SDK: once in each process, a gateway replica's and a node replica's alike."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind
from prometheus_client import CollectorRegistry

from deployments.otlp_metrics import MetricsExport
from deployments.quiet_exporter import QuietExporter
from deployments.sampling import TokenBucket, make_sampler
from deployments.span_store import StoreSpanExporter
from deployments.tail_sampling import GatewayHeld, Held, NodeHeld
from graph import telemetry as otel
from graph.stores import make_store

OTLP_TIMEOUT_S: Final = 2.0
SHUTDOWN_S: Final = 3.0
_QUEUE: Final = 8192
_BATCH: Final = 512
_STORE_DELAY_MS: Final = 250.0
_OTLP_DELAY_MS: Final = 1000.0


@dataclass(frozen=True)
class Telemetry:
    """What was set up. `flush` makes recent spans readable; `shutdown` writes what is left and stops the threads.

    Whoever sets it up shuts it down: at the interpreter's own exit it is too late to start what writing takes. A
    process that is killed loses the spans of its last quarter of a second.
    """

    provider: TracerProvider
    processors: Sequence[BatchSpanProcessor]
    metrics: MetricsExport | None = None
    bucket: TokenBucket | None = None
    """What is left of this second's traces."""
    held: Held | None = None
    """What holds the spans of other traces until it is known how their requests end."""

    def request_span(self, method: str, path: str, headers: Mapping[str, str]) -> Span:
        """Start the span of a request: recorded, held until it is known how the request ends, or neither."""
        name, attributes = f"{method} {path}", {otel.HTTP_METHOD: method, otel.HTTP_ROUTE: path}
        if "traceparent" not in headers and self.bucket is not None and self.bucket.empty():
            return self.held.begin(name, SpanKind.SERVER, attributes) if self.held else otel.unrecorded_root()
        span = otel.request_span(method, path, headers)
        if span.is_recording() or self.held is None:
            return span
        parent = otel.span_from(headers).get_span_context()  # the client's span may be what is asked to be below
        over = parent if parent.is_valid else None
        return self.held.begin(name, SpanKind.SERVER, attributes, over)

    def flush(self, timeout_s: float = SHUTDOWN_S) -> bool:
        """Write every ended span now; say whether that was done in time. Blocks: call it in a thread."""
        return _within(timeout_s, [processor.force_flush for processor in self.processors])

    def shutdown(self, timeout_s: float = SHUTDOWN_S) -> bool:
        """Write what is left and stop, in no more than `timeout_s` seconds; say whether all was written in time."""
        if self.held is not None:
            _within(timeout_s, [self.held.shutdown])
        actions: list[Callable[[], object]] = [processor.shutdown for processor in self.processors]
        if self.metrics is not None:
            actions.append(self.metrics.shutdown)
        return _within(timeout_s, actions)


def _within(seconds: float, actions: Sequence[Callable[[], object]]) -> bool:
    # The SDK's own limits are 30 s each and partly ignored; a stopping service does not wait that long for spans.
    threads = [threading.Thread(target=action, name="telemetry-flush", daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def otlp_exporter(endpoint: str, timeout_s: float = OTLP_TIMEOUT_S) -> SpanExporter:
    """Return an exporter to an OTLP/HTTP collector, Jaeger for one, at a base URL such as `http://localhost:4318`.

    Headers, certificates and compression come from the standard `OTEL_EXPORTER_OTLP_*` variables.
    """
    logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").setLevel(logging.CRITICAL)
    base = endpoint.rstrip("/")
    address = base if base.endswith("/v1/traces") else f"{base}/v1/traces"
    return QuietExporter(OTLPSpanExporter(endpoint=address, timeout=timeout_s), address)


class KeepingProvider(TracerProvider):
    """The SDK's provider, with what holds the spans that it does not record."""

    held: Held | None = None


def configure_telemetry(
    *,
    service_name: str,
    otlp_endpoint: str | None = None,
    sample_ratio: float = 1.0,
    max_traces_per_s: float | None = 20.0,
    store_url: str | None = None,
    instance_id: str = "",
    slow_s: float = 0.0,
    keep_errors: bool = False,
    edge: bool = False,
    registry: CollectorRegistry | None = None,
) -> Telemetry:
    """Install a tracer provider for this process and start exporting to the collector and the store that are named.

    Call it once in a process. OpenTelemetry cannot replace an installed provider, so a second call adds its exporters
    to the first call's provider, whose resource and sampler stay. `edge` is for the gateway, whose parents are
    clients: the cap then holds for traces that they ask for, too. Traces that are not recorded are kept if they end in
    an error (`keep_errors`) or after more than `slow_s` seconds (0: never). `registry` holds metrics to send to the
    collector as well. A `memory:` store is private to its owner, so nothing is written to one.
    """
    bucket = None
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        bucket = TokenBucket(max_traces_per_s) if max_traces_per_s is not None else None
        provider = KeepingProvider(
            sampler=make_sampler(sample_ratio, max_traces_per_s, edge=edge, bucket=bucket),
            resource=_resource(service_name, instance_id),
            shutdown_on_exit=False,
        )
        trace.set_tracer_provider(provider)
    processors = []
    stored = None
    if otlp_endpoint:
        processors.append(_batched(otlp_exporter(otlp_endpoint), _OTLP_DELAY_MS))
    if store_url and not store_url.startswith("memory"):
        stored = StoreSpanExporter(lambda: make_store(store_url))
        processors.append(_batched(QuietExporter(stored, "the state store"), _STORE_DELAY_MS))
    for processor in processors:
        provider.add_span_processor(processor)
    metrics = None
    if otlp_endpoint and registry is not None:
        metrics = MetricsExport(registry, otlp_endpoint, provider.resource)
    if isinstance(provider, KeepingProvider) and provider.held is None and processors and (slow_s or keep_errors):
        provider.held = _held(provider.resource, processors, stored, slow_s, keep_errors, edge)
    return Telemetry(provider, tuple(processors), metrics, bucket, getattr(provider, "held", None))


def _held(
    resource: Resource,
    processors: Sequence[BatchSpanProcessor],
    stored: StoreSpanExporter | None,
    slow_s: float,
    errors: bool,
    edge: bool,
) -> Held | None:
    if edge:
        return GatewayHeld(resource, processors, slow_s=slow_s, errors=errors)
    return NodeHeld(resource, processors, stored.kept_after) if stored is not None else None


def _batched(exporter: SpanExporter, delay_ms: float) -> BatchSpanProcessor:
    return BatchSpanProcessor(
        exporter, max_queue_size=_QUEUE, max_export_batch_size=_BATCH, schedule_delay_millis=delay_ms
    )


def _resource(service_name: str, instance_id: str) -> Resource:
    return Resource.create({"service.name": service_name, "service.instance.id": instance_id or f"{os.getpid()}"})
