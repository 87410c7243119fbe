from __future__ import annotations

import logging
import socket

import pytest
from opentelemetry.sdk.resources import Resource
from otlp import OtlpReceiver

from deployments.metrics import Metrics
from deployments.otlp_metrics import ATTRIBUTES, NAMES, MetricsExport
from deployments.telemetry import configure_telemetry
from graph.node_span import Observed
from graph.spec import NodeSpec
from graph.types import Call, Delta, Usage
from router.types import Decision

LEGAL = NodeSpec(
    name="legal",
    kind="openai",
    description="law",
    model="law-chat",
    endpoint="https://llm.example/v1",
    cost={"input_per_million": 1},
)
DECISION = Decision("legal", 0.9, False, (), (), "q", "embedding")


def filled() -> Metrics:
    metrics, seen = Metrics(), Observed()
    seen.add(Delta("Hello", usage=Usage(7, 2), finish_reason="stop"))
    metrics.called(LEGAL, Call(), seen)
    metrics.called(LEGAL, Call(), Observed(), "node_unavailable")
    metrics.judged("legal", "empty")
    metrics.tried("legal", "flip")
    metrics.share.labels("legal").set(0.1)
    metrics.rollbacks.labels("legal").inc()
    metrics.answered(0.001, 1.0, "")
    metrics.routed(DECISION, 0.002)
    metrics.routed(DECISION, 5.0)
    metrics.queued("legal", 1, None)
    metrics.fell_back("legal", "general")
    metrics.breaker_changed("legal", "open")
    metrics.ran("plan", "ok", 1.5)
    return metrics


def test_every_metric_is_exported_under_its_opentelemetry_name(otlp: OtlpReceiver) -> None:
    export = MetricsExport(filled().registry, otlp.endpoint, Resource({}), interval_s=3600)
    assert export.shutdown(timeout_s=20)
    assert {metric.name for metric in otlp.metrics} == {name for name, _ in NAMES.values()}
    metrics = {metric.name: metric for metric in otlp.metrics}
    route = metrics["modelyard.route.duration"]
    (point,) = route.histogram.data_points
    assert (route.unit, point.count, point.sum) == ("s", 2, 5.002)
    assert list(point.bucket_counts) == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert len(point.explicit_bounds) == len(point.bucket_counts) - 1
    assert not point.HasField("min")
    (fallbacks,) = metrics["modelyard.fallbacks"].sum.data_points
    assert fallbacks.as_double == 1
    assert metrics["modelyard.breaker.state"].gauge.data_points[0].as_double == 2


def test_attributes_are_named_as_the_conventions_name_them(otlp: OtlpReceiver) -> None:
    MetricsExport(filled().registry, otlp.endpoint, Resource({}), interval_s=3600).shutdown(timeout_s=20)
    (duration,) = [metric for metric in otlp.metrics if metric.name == "gen_ai.client.operation.duration"]
    keys = [{pair.key for pair in point.attributes} for point in duration.histogram.data_points if point.count]
    always = {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "modelyard.node"}
    assert sorted(keys, key=len) == [always, always | {"error.type"}]


def test_every_label_has_an_attribute_name() -> None:
    labels = {key for family in filled().registry.collect() for sample in family.samples for key in sample.labels}
    assert labels - {"le"} == set(ATTRIBUTES)


def test_a_dead_collector_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        export = MetricsExport(filled().registry, endpoint, Resource({}), interval_s=0.01)
        assert export.shutdown(timeout_s=20)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_the_last_metrics_are_sent_when_telemetry_stops(no_provider: None, otlp: OtlpReceiver) -> None:
    telemetry = configure_telemetry(service_name="x", otlp_endpoint=otlp.endpoint, registry=filled().registry)
    assert not otlp.metrics
    assert telemetry.shutdown()
    assert {metric.name for metric in otlp.metrics} == {name for name, _ in NAMES.values()}
