"""Sends the metrics of this process by OTLP, under OpenTelemetry's names, from the registry that `/metrics` shows."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from graph.telemetry import SCOPE

INTERVAL_S: Final = 15.0
TIMEOUT_S: Final = 2.0

NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "gen_ai_client_operation_duration_seconds": ("gen_ai.client.operation.duration", "s"),
    "gen_ai_client_token_usage": ("gen_ai.client.token.usage", "{token}"),
    "gen_ai_server_time_to_first_token_seconds": ("gen_ai.server.time_to_first_token", "s"),
    "gen_ai_workflow_duration_seconds": ("gen_ai.workflow.duration", "s"),
    "modelyard_route_duration_seconds": ("modelyard.route.duration", "s"),
    "modelyard_route_probability": ("modelyard.route.probability", "1"),
    "modelyard_stage_duration_seconds": ("modelyard.stage.duration", "s"),
    "modelyard_cost": ("modelyard.cost", "1"),
    "modelyard_cascades": ("modelyard.cascades", "{answer}"),
    "modelyard_fallbacks": ("modelyard.fallbacks", "{call}"),
    "modelyard_calls_waiting": ("modelyard.calls.waiting", "{call}"),
    "modelyard_breaker_state": ("modelyard.breaker.state", "1"),
    "modelyard_rollout_answers": ("modelyard.rollout.answers", "{answer}"),
    "modelyard_rollout_share": ("modelyard.rollout.share", "1"),
    "modelyard_rollbacks": ("modelyard.rollbacks", "{version}"),
    "modelyard_requests": ("modelyard.requests", "{call}"),
    "modelyard_runs": ("modelyard.runs", "{run}"),
}
ATTRIBUTES: Final[Mapping[str, str]] = {
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_provider_name": "gen_ai.provider.name",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_token_type": "gen_ai.token.type",
    "gen_ai_workflow_name": "gen_ai.workflow.name",
    "error_type": "error.type",
    "modelyard_node": "modelyard.node",
    "out_of_scope": "modelyard.route.out_of_scope",
    "stage": "modelyard.stage",
    "verdict": "modelyard.rollout.verdict",
    "failed_check": "modelyard.cascade.failed_check",
    "strategy": "modelyard.route.strategy",
    "status": "modelyard.status",
    "source": "modelyard.fallback.source",
    "target": "modelyard.fallback.target",
}

_Labels: TypeAlias = tuple[tuple[str, str], ...]
_log = logging.getLogger(__name__)


class MetricsExport:
    """A thread that exports a registry every `interval_s` seconds, and once more at the end."""

    def __init__(
        self, registry: CollectorRegistry, endpoint: str, resource: Resource, *, interval_s: float = INTERVAL_S
    ) -> None:
        logging.getLogger("opentelemetry.exporter.otlp.proto.http.metric_exporter").setLevel(logging.CRITICAL)
        self._endpoint = f"{endpoint.rstrip('/').removesuffix('/v1/traces')}/v1/metrics"
        self._exporter = OTLPMetricExporter(endpoint=self._endpoint, timeout=TIMEOUT_S)
        self._registry = registry
        self._resource = resource
        self._interval_s = interval_s
        self._started_ns = time.time_ns()
        self._down = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-metrics", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._export()
        self._export()

    def _export(self) -> None:
        try:
            data = metrics_data(self._registry, self._resource, self._started_ns, time.time_ns())
            down = self._exporter.export(data) is not MetricExportResult.SUCCESS
        except Exception as error:  # a boundary: this thread must outlive whatever ails the collector
            down = True
            _log.debug("exporting metrics failed: %s", error)
        if down != self._down:
            _log.warning("metrics %s %s", "cannot be exported to" if down else "are exported again to", self._endpoint)
        self._down = down

    def shutdown(self, timeout_s: float = 3.0) -> bool:
        """Export once more and stop; say whether that was done in time."""
        self._stop.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        self._exporter.shutdown()
        return True


def metrics_data(registry: CollectorRegistry, resource: Resource, start_ns: int, now_ns: int) -> MetricsData:
    """Return a registry's present state as OpenTelemetry metrics, cumulative since `start_ns`."""
    metrics = []
    for family in registry.collect():
        name, unit = NAMES.get(family.name, (family.name, ""))
        data = _data(family.type, family.samples, start_ns, now_ns)
        if data.data_points:
            metrics.append(Metric(name, family.documentation, unit, data))
    scope = ScopeMetrics(InstrumentationScope(SCOPE), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _data(kind: str, samples: Sequence[Sample], start_ns: int, now_ns: int) -> Histogram | Sum | Gauge:
    if kind == "histogram":
        return Histogram(list(_histograms(samples, start_ns, now_ns)), AggregationTemporality.CUMULATIVE)
    points = [
        NumberDataPoint(_attributes(sample.labels), start_ns, now_ns, sample.value)
        for sample in samples
        if not sample.name.endswith("_created")
    ]
    return Sum(points, AggregationTemporality.CUMULATIVE, True) if kind == "counter" else Gauge(points)


def _histograms(samples: Iterable[Sample], start_ns: int, now_ns: int) -> Iterable[HistogramDataPoint]:
    buckets: dict[_Labels, list[tuple[float, int]]] = defaultdict(list)
    sums: dict[_Labels, float] = {}
    for sample in samples:
        labels = tuple((key, value) for key, value in sample.labels.items() if key != "le")
        if sample.name.endswith("_bucket"):
            buckets[labels].append((float(sample.labels["le"]), int(sample.value)))
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    for labels, found in buckets.items():
        counts = [count - before for (_, count), before in zip(found, [0, *(c for _, c in found)], strict=False)]
        bounds = [bound for bound, _ in found[:-1]]
        unknown: Any = None  # Prometheus keeps no extremes, and OTLP may leave them out
        yield HistogramDataPoint(
            _attributes(dict(labels)),
            start_ns,
            now_ns,
            found[-1][1],
            sums[labels],
            counts,
            bounds,
            unknown,
            unknown,
        )


def _attributes(labels: Mapping[str, str]) -> dict[str, str]:
    # An empty label is Prometheus's way to say that it is absent.
    return {ATTRIBUTES.get(key, key): value for key, value in labels.items() if value}
