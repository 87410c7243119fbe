"""Metrics of one process, by OpenTelemetry's names, in a registry of prometheus_client.

The OpenTelemetry SDK takes many times as long to record a value (benchmarks/telemetry_cost.py), which a gateway that
aims at thousands of requests per second would feel. So the names and units are OpenTelemetry's, written as its
Prometheus exporter writes them, and `deployments.otlp_metrics` sends the same registry by OTLP.

Each gateway replica has its own registry: a scrape sees one replica, and sums over replicas are the reader's to make.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final, Literal, TypeAlias, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder

from deployments.histogram import Histogram
from deployments.invoke.breaker import State
from deployments.invoke.charge import COMPOSED, cost_of
from deployments.latency import Latencies
from deployments.snapshot import Snapshot
from graph.draft import HeldCarrier
from graph.errors import StreamBroken
from graph.node import Invoke, close_stream
from graph.node_span import Observed, model_name, operation_name
from graph.spec import Cost, NodeSpec
from graph.telemetry import CANCELLED, error_type, recorded_id
from graph.types import Call, Delta, NodeName, Operation
from router.types import Decision

# Bounds that the GenAI conventions advise.
_DURATION: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_ROUTE: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_STAGE: Final = (*_ROUTE, 2.5, 5.0, 10.0, 30.0, 60.0)
_PROBABILITY: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

Stage: TypeAlias = Literal["auth", "plan", "queue", "total"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
"""What else a request spends time on; routing and the nodes have histograms of their own."""

_CALL_LABELS: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "modelyard_node")
_BREAKER_STATES: Final[dict[State, int]] = {"closed": 0, "half_open": 1, "open": 2}


class _Series:
    """The series of one node's successful calls: looking them up by label for each call would double the cost."""

    __slots__ = ("duration", "first_token", "input_tokens", "ok", "output_tokens", "priced")

    def __init__(self, metrics: Metrics, labels: tuple[str, ...], spec: NodeSpec) -> None:
        self.duration = metrics.duration.labels(*labels, "")
        self.first_token = metrics.first_token.labels(*labels)
        self.input_tokens = metrics.tokens.labels(*labels, "input")
        self.output_tokens = metrics.tokens.labels(*labels, "output")
        self.ok = metrics.requests.labels(spec.name, "ok")
        self.priced = spec.cost != Cost() and spec.kind not in COMPOSED


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
            _DURATION,
            registry,
        )
        self.tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of one call to a node",
            (*_CALL_LABELS, "gen_ai_token_type"),
            _TOKENS,
            registry,
        )
        self.first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Seconds from calling a node to the first piece of its answer",
            _CALL_LABELS,
            _FIRST_TOKEN,
            registry,
        )
        self.workflow = Histogram(
            "gen_ai_workflow_duration_seconds",
            "Seconds that a planned run took",
            ("gen_ai_workflow_name", "error_type"),
            _DURATION,
            registry,
        )
        self.route = Histogram(
            "modelyard_route_duration_seconds",
            "Seconds that choosing a node took",
            ("strategy",),
            _ROUTE,
            registry,
        )
        self.probability = Histogram(
            "modelyard_route_probability",
            "Probability of the best node, by whether the request was out of scope",
            ("strategy", "out_of_scope"),
            _PROBABILITY,
            registry,
        )
        stages = Histogram(
            "modelyard_stage_duration_seconds",
            "Seconds that a stage of answering took: auth, plan, queue (if there was one), and total",
            ("stage",),
            _STAGE,
            registry,
        )
        self.stages = {stage: stages.labels(stage) for stage in STAGES}
        self.cost = Counter(
            "modelyard_cost",
            "Cost of answers, in the units of the nodes' prices",
            ("modelyard_node",),
            registry=registry,
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
        self.waiting = Gauge(
            "modelyard_calls_waiting",
            "Calls that wait for a place at a busy node",
            ("modelyard_node",),
            registry=registry,
        )
        self.breaker = Gauge(
            "modelyard_breaker_state", "0 closed, 1 half open, 2 open", ("modelyard_node",), registry=registry
        )
        self.rollouts = Counter(
            "modelyard_rollout_answers",
            "Calls to newer versions on trial: ok, flip (the older version did better), bad (neither did well)",
            ("modelyard_node", "verdict"),
            registry=registry,
        )
        self.share = Gauge(
            "modelyard_rollout_share",
            "Share of calls that a newer version takes",
            ("modelyard_node",),
            registry=registry,
        )
        self.rollbacks = Counter(
            "modelyard_rollbacks", "Newer versions that were taken back", ("modelyard_node",), registry=registry
        )
        self.requests = Counter(
            "modelyard_requests", "Calls to a node, by how they ended", ("modelyard_node", "status"), registry=registry
        )
        self.runs = Counter("modelyard_runs", "Planned runs, by how they ended", ("status",), registry=registry)

    def called(self, spec: NodeSpec, call: Call, seen: Observed, error: str = "") -> None:
        """Count one call to a node. `error` is the `error.type` of a failure."""
        series = self._series_of(spec, call)
        elapsed, trace = seen.elapsed, recorded_id(call.context.trace)
        if error:
            self.duration.labels(*_labels(spec, call), error).observe(elapsed, trace)
            self.requests.labels(spec.name, error).inc()
        else:
            series.duration.observe(elapsed, trace)
            series.ok.inc()
            self.latencies.add(spec.name, seen.time_to_first_chunk if call.stream else None, elapsed)
        if call.stream and (first := seen.time_to_first_chunk) is not None:
            series.first_token.observe(first, trace)
        if seen.usage is not None:
            series.input_tokens.observe(seen.usage.prompt_tokens)
            series.output_tokens.observe(seen.usage.completion_tokens)
            if series.priced:
                self.cost.labels(spec.name).inc(cost_of(seen.usage, spec))

    def answered(self, auth_s: float, total_s: float, trace_id: str) -> None:
        """Time one request to models: finding out who asks, and all of it."""
        self.stages["auth"].observe(auth_s)
        self.stages["total"].observe(total_s, trace_id)

    def queued(self, node: NodeName, waiting: int, seconds: float | None) -> None:
        """Note how many calls wait for a place at a node, and how long the one that waits no more did."""
        self.waiting.labels(node).set(waiting)
        if seconds is not None:
            self.stages["queue"].observe(seconds)

    def routed(self, decision: Decision, seconds: float, trace_id: str = "") -> None:
        """Time one choice of a node, and count how sure it was."""
        strategy = decision.strategy
        self.route.labels(strategy).observe(seconds, trace_id)
        self.probability.labels(strategy, "true" if decision.out_of_scope else "false").observe(decision.probability)

    def fell_back(self, source: NodeName, target: NodeName) -> None:
        """Count one call handed on to another node."""
        self.fallbacks.labels(source, target).inc()

    def judged(self, node: NodeName, failed_check: str) -> None:
        """Count one answer of a cascade; `failed_check` is empty if it was good enough."""
        self.cascades.labels(node, failed_check).inc()

    def breaker_changed(self, node: NodeName, state: State) -> None:
        """Set the state of a node's circuit breaker."""
        self.breaker.labels(node).set(_BREAKER_STATES[state])

    def tried(self, node: NodeName, verdict: str) -> None:
        """Count one call to a newer version on trial."""
        self.rollouts.labels(node, verdict).inc()

    def rolled(self, before: Snapshot, now: Snapshot) -> None:
        """Note what shares newer versions take from now on, and which of them were taken back."""
        for name, canary in now.canaries.items():
            self.share.labels(name).set(canary.share)
            self.rollbacks.labels(name)  # a series that began at one would show Prometheus no increase
        for name, canary in before.canaries.items():
            status = now.nodes.get(name)
            if status is not None and status.canary is None:
                self.share.labels(name).set(0)
                if status.version > canary.version and status.spec != canary.spec:
                    self.rollbacks.labels(name).inc()

    def ran(self, workflow: str, status: str, seconds: float, trace_id: str = "") -> None:
        """Count and time one run. `workflow` takes few values."""
        self.workflow.labels(workflow, "run_failed" if status == "failed" else "").observe(seconds, trace_id)
        self.runs.labels(status).inc()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return every metric, and its content type: Prometheus's text, or OpenMetrics with exemplars if accepted."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def forget(self, node: NodeName) -> None:
        """Drop the series of a node that was removed."""
        self.latencies.forget(node)
        for key in [key for key in self._series if key[0] == node]:
            del self._series[key]
        for histogram in (self.duration, self.tokens, self.first_token):
            histogram.remove("modelyard_node", node)
        for metric in (self.requests, self.waiting, self.breaker, self.cascades, self.cost, self.rollouts, self.share):
            metric.remove_by_labels({"modelyard_node": node})
        self.fallbacks.remove_by_labels({"source": node})
        self.fallbacks.remove_by_labels({"target": node})

    def _series_of(self, spec: NodeSpec, call: Call) -> _Series:
        key = (spec.name, call.operation)
        found = self._series.get(key)
        if found is None or found[0] is not spec:  # the node was registered anew, perhaps with another model
            found = self._series[key] = (spec, _Series(self, _labels(spec, call), spec))
        return found[1]


def _labels(spec: NodeSpec, call: Call) -> tuple[str, ...]:
    return operation_name(spec, call), spec.kind, model_name(spec), spec.name


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
        except BaseException as failure:  # raised again: a cancelled call is counted as one
            # A caller that leaves after the last delta has its whole answer.
            error = "" if isinstance(failure, GeneratorExit) and seen.finish_reason else error_type(failure)
            raise
        finally:
            if type(trace := call.context.trace) is HeldCarrier and trace.span.asked:
                trace.span.called(seen, error)
            metrics.called(spec, call, seen, error)
            await close_stream(stream)

    return run
