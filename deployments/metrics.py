"""Metrics of one process, by OpenTelemetry's names, kept by prometheus_client.

The OpenTelemetry SDK takes five times as long to record a value (8.4 against 1.7 µs, benchmarks/telemetry_cost.py),
which a gateway that aims at thousands of requests per second would feel. So the names and units are OpenTelemetry's,
written as its Prometheus exporter writes them, and `deployments.otlp_metrics` sends the same registry by OTLP.

Each gateway replica has its own registry: a scrape sees one replica, and sums over replicas are the reader's to make.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from deployments.invoke.breaker import State
from deployments.latency import Latencies
from graph.errors import StreamBroken
from graph.node import Invoke, close_stream
from graph.node_span import Observed, model_name, operation_name
from graph.spec import NodeSpec
from graph.telemetry import CANCELLED, error_type
from graph.types import Call, Delta, NodeName, Operation, Usage

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# Bounds that the GenAI conventions advise.
_DURATION: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_ROUTE: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

_CALL_LABELS: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "modelyard_node")
_BREAKER_STATES: Final[dict[State, int]] = {"closed": 0, "half_open": 1, "open": 2}


class _Series:
    """The series of one node's successful calls: looking them up by label for each call would double the cost."""

    __slots__ = ("duration", "first_token", "input_tokens", "ok", "output_tokens")

    def __init__(self, metrics: Metrics, labels: tuple[str, ...], node: NodeName) -> None:
        self.duration = metrics.duration.labels(*labels, "")
        self.first_token = metrics.first_token.labels(*labels)
        self.input_tokens = metrics.tokens.labels(*labels, "input")
        self.output_tokens = metrics.tokens.labels(*labels, "output")
        self.ok = metrics.requests.labels(node, "ok")


class Metrics:
    """Everything that is counted and timed in one process. Thread-safe, as prometheus_client is."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.latencies = Latencies()
        self._series: dict[tuple[NodeName, Operation], tuple[NodeSpec, _Series]] = {}
        self.duration = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "Seconds from calling a node to the end of its answer",
            (*_CALL_LABELS, "error_type"),
            registry=registry,
            buckets=_DURATION,
        )
        self.tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of one call to a node",
            (*_CALL_LABELS, "gen_ai_token_type"),
            registry=registry,
            buckets=_TOKENS,
        )
        self.first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Seconds from calling a node to the first piece of its answer",
            _CALL_LABELS,
            registry=registry,
            buckets=_FIRST_TOKEN,
        )
        self.workflow = Histogram(
            "gen_ai_workflow_duration_seconds",
            "Seconds that a planned run took",
            ("gen_ai_workflow_name", "error_type"),
            registry=registry,
            buckets=_DURATION,
        )
        self.route = Histogram(
            "modelyard_route_duration_seconds",
            "Seconds that choosing a node took",
            ("strategy",),
            registry=registry,
            buckets=_ROUTE,
        )
        self.fallbacks = Counter(
            "modelyard_fallbacks", "Calls handed on to another node", ("source", "target"), registry=registry
        )
        self.cascades = Counter(
            "modelyard_cascades",
            "Answers judged before they were given, by the check that failed; none: the answer was good enough",
            ("modelyard_node", "failed_check"),
            registry=registry,
        )
        self.breaker = Gauge(
            "modelyard_breaker_state", "0 closed, 1 half open, 2 open", ("modelyard_node",), registry=registry
        )
        self.requests = Counter(
            "modelyard_requests", "Calls to a node, by how they ended", ("modelyard_node", "status"), registry=registry
        )
        self.runs = Counter("modelyard_runs", "Planned runs, by how they ended", ("status",), registry=registry)

    def called(self, spec: NodeSpec, call: Call, seen: Observed, error: str = "") -> None:
        """Count one call to a node. `error` is the `error.type` of a failure."""
        series = self._series_of(spec, call)
        elapsed = seen.elapsed
        if error:
            self.duration.labels(*_labels(spec, call), error).observe(elapsed)
            self.requests.labels(spec.name, error).inc()
        else:
            series.duration.observe(elapsed)
            series.ok.inc()
            self.latencies.add(spec.name, seen.time_to_first_chunk if call.stream else None, elapsed)
        if call.stream and (first := seen.time_to_first_chunk) is not None:
            series.first_token.observe(first)
        if seen.usage is not None:
            _count_tokens(series, seen.usage)

    def routed(self, strategy: str, seconds: float) -> None:
        """Time one choice of a node."""
        self.route.labels(strategy).observe(seconds)

    def fell_back(self, source: NodeName, target: NodeName) -> None:
        """Count one call handed on to another node."""
        self.fallbacks.labels(source, target).inc()

    def judged(self, node: NodeName, failed_check: str) -> None:
        """Count one answer of a cascade; `failed_check` is empty if it was good enough."""
        self.cascades.labels(node, failed_check).inc()

    def breaker_changed(self, node: NodeName, state: State) -> None:
        """Set the state of a node's circuit breaker."""
        self.breaker.labels(node).set(_BREAKER_STATES[state])

    def ran(self, workflow: str, status: str, seconds: float) -> None:
        """Count and time one run. `workflow` takes few values."""
        self.workflow.labels(workflow, "run_failed" if status == "failed" else "").observe(seconds)
        self.runs.labels(status).inc()

    def render(self) -> bytes:
        """Return every metric in Prometheus's text format (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)

    def forget(self, node: NodeName) -> None:
        """Drop the series of a node that was removed."""
        self.latencies.forget(node)
        for key in [key for key in self._series if key[0] == node]:
            del self._series[key]
        for metric in (self.duration, self.tokens, self.first_token, self.requests, self.breaker, self.cascades):
            metric.remove_by_labels({"modelyard_node": node})
        self.fallbacks.remove_by_labels({"source": node})
        self.fallbacks.remove_by_labels({"target": node})

    def _series_of(self, spec: NodeSpec, call: Call) -> _Series:
        key = (spec.name, call.operation)
        found = self._series.get(key)
        if found is None or found[0] is not spec:  # the node was registered anew, perhaps with another model
            found = self._series[key] = (spec, _Series(self, _labels(spec, call), spec.name))
        return found[1]


def _labels(spec: NodeSpec, call: Call) -> tuple[str, ...]:
    return operation_name(spec, call), spec.kind, model_name(spec), spec.name


def _count_tokens(series: _Series, usage: Usage) -> None:
    series.input_tokens.observe(usage.prompt_tokens)
    series.output_tokens.observe(usage.completion_tokens)


def metered(invoke: Invoke, metrics: Metrics, lookup: Callable[[NodeName], NodeSpec]) -> Invoke:
    """Count and time each call to a node."""

    async def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        spec, seen, error = lookup(node), Observed(), CANCELLED
        stream = invoke(node, call)
        try:
            async for delta in stream:
                seen.add(delta)
                yield delta
            error = "" if seen.finish_reason else StreamBroken.code
        except BaseException as failure:
            # A caller that leaves after the last delta has its whole answer.
            error = "" if isinstance(failure, GeneratorExit) and seen.finish_reason else error_type(failure)
            raise
        finally:
            metrics.called(spec, call, seen, error)
            await close_stream(stream)

    return run
