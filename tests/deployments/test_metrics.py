from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from deployments.metrics import Metrics, metered
from graph.collect import collect
from graph.errors import NodeUnavailable, StreamBroken
from graph.node import Invoke
from graph.spec import Cost, NodeSpec
from graph.types import Call, Delta, Message, Usage
from router.types import Decision

LEGAL = NodeSpec(name="legal", kind="openai", description="law", model="law-chat", endpoint="https://llm.example/v1")
DECISION = Decision("legal", 0.7, True, (), (), "q", "embedding")
TRACE = "0af7651916cd43dd8448eb211c80319c"
LABELS = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "openai",
    "gen_ai_request_model": "law-chat",
    "modelyard_node": "legal",
}
ASK = Call((Message("user", "May I?"),))


def lookup(node: str) -> NodeSpec:
    return LEGAL


async def hello(node: str, call: Call) -> AsyncIterator[Delta]:
    yield Delta("Hello")
    yield Delta(finish_reason="stop", usage=Usage(7, 2))


async def failing(node: str, call: Call) -> AsyncIterator[Delta]:
    raise NodeUnavailable("no")
    yield Delta()


async def cut(node: str, call: Call) -> AsyncIterator[Delta]:
    yield Delta("Hel")


async def test_a_call_is_timed_and_its_tokens_counted() -> None:
    metrics = Metrics()
    for _ in range(3):
        await collect(metered(hello, metrics, lookup)("legal", replace(ASK, stream=True)), node="legal")
    get = metrics.registry.get_sample_value
    assert get("gen_ai_client_operation_duration_seconds_count", LABELS | {"error_type": ""}) == 3
    assert get("gen_ai_client_token_usage_sum", LABELS | {"gen_ai_token_type": "input"}) == 21
    assert get("gen_ai_client_token_usage_sum", LABELS | {"gen_ai_token_type": "output"}) == 6
    assert get("gen_ai_server_time_to_first_token_seconds_count", LABELS) == 3
    assert get("modelyard_requests_total", {"modelyard_node": "legal", "status": "ok"}) == 3


async def test_only_a_stream_has_a_first_token() -> None:
    metrics = Metrics()
    await collect(metered(hello, metrics, lookup)("legal", ASK), node="legal")
    assert not metrics.registry.get_sample_value("gen_ai_server_time_to_first_token_seconds_count", LABELS)


@pytest.mark.parametrize(
    ("invoke", "error", "status"),
    [(failing, NodeUnavailable, "node_unavailable"), (cut, StreamBroken, "stream_broken")],
)
async def test_a_failure_is_counted_by_its_code(invoke: Invoke, error: type[Exception], status: str) -> None:
    metrics = Metrics()
    with pytest.raises(error):
        await collect(metered(invoke, metrics, lookup)("legal", ASK), node="legal")
    get = metrics.registry.get_sample_value
    assert get("gen_ai_client_operation_duration_seconds_count", LABELS | {"error_type": status}) == 1
    assert get("modelyard_requests_total", {"modelyard_node": "legal", "status": status}) == 1
    assert get("modelyard_requests_total", {"modelyard_node": "legal", "status": "ok"}) in (None, 0)


async def test_a_caller_that_leaves_is_counted_and_the_work_is_closed() -> None:
    metrics, closed = Metrics(), asyncio.Event()

    async def endless(node: str, call: Call) -> AsyncIterator[Delta]:
        try:
            while True:
                yield Delta("more")
        finally:
            closed.set()

    stream = metered(endless, metrics, lookup)("legal", ASK)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert closed.is_set()
    labels = {"modelyard_node": "legal", "status": "cancelled"}
    assert metrics.registry.get_sample_value("modelyard_requests_total", labels) == 1


def test_everything_is_rendered_for_prometheus() -> None:
    metrics = Metrics()
    metrics.routed(DECISION, 0.002)
    metrics.fell_back("legal", "general")
    metrics.breaker_changed("legal", "open")
    metrics.ran("plan", "partial", 1.5)
    metrics.queued("legal", 2, None)
    metrics.queued("legal", 1, 0.4)
    lines = metrics.render()[0].decode().splitlines()
    assert 'modelyard_route_duration_seconds_sum{strategy="embedding"} 0.002' in lines
    assert 'modelyard_fallbacks_total{source="legal",target="general"} 1.0' in lines
    assert 'modelyard_breaker_state{modelyard_node="legal"} 2.0' in lines
    assert 'modelyard_calls_waiting{modelyard_node="legal"} 1.0' in lines
    assert 'modelyard_stage_duration_seconds_sum{stage="queue"} 0.4' in lines
    assert 'modelyard_runs_total{status="partial"} 1.0' in lines
    assert 'gen_ai_workflow_duration_seconds_sum{error_type="",gen_ai_workflow_name="plan"} 1.5' in lines


async def test_latencies_point_to_recorded_traces_where_openmetrics_is_asked_for() -> None:
    metrics = Metrics()
    for flags in ("00", "01"):
        call = ASK.with_context(
            trace={"traceparent": f"00-{TRACE[::-1] if flags == '00' else TRACE}-b7ad6b7169203331-{flags}"}
        )
        await collect(metered(hello, metrics, lookup)("legal", call), node="legal")
    metrics.routed(DECISION, 0.002, TRACE)
    body, content_type = metrics.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    for name in ("gen_ai_client_operation_duration_seconds", "modelyard_route_duration_seconds"):
        (exemplar,) = (sample.exemplar for sample in families[name].samples if sample.exemplar)
        assert exemplar.labels == {"trace_id": TRACE}
    plain, content_type = metrics.render("text/plain")
    assert content_type.startswith("text/plain") and TRACE.encode() not in plain


async def test_what_an_answer_costs_is_counted() -> None:
    metrics, priced = Metrics(), LEGAL.model_copy(update={"cost": Cost(input_per_million=1, output_per_million=10)})
    await collect(metered(hello, metrics, lambda node: priced)("legal", ASK), node="legal")
    get = metrics.registry.get_sample_value
    assert get("modelyard_cost_total", {"modelyard_node": "legal"}) == pytest.approx(27e-6)


async def test_a_removed_node_leaves_no_series() -> None:
    metrics = Metrics()
    await collect(metered(hello, metrics, lookup)("legal", ASK), node="legal")
    metrics.fell_back("legal", "general")
    metrics.breaker_changed("legal", "closed")
    metrics.forget("legal")
    assert b'"legal"' not in metrics.render()[0]
    await collect(metered(hello, metrics, lookup)("legal", ASK), node="legal")
    labels = {"modelyard_node": "legal", "status": "ok"}
    assert metrics.registry.get_sample_value("modelyard_requests_total", labels) == 1


async def test_a_node_registered_anew_is_counted_under_its_new_model() -> None:
    metrics, specs = Metrics(), [LEGAL, LEGAL.model_copy(update={"model": "law-chat-2"})]
    for spec in specs:
        await collect(metered(hello, metrics, lambda node, spec=spec: spec)("legal", ASK), node="legal")  # type: ignore[misc]
    for model in ("law-chat", "law-chat-2"):
        labels = LABELS | {"gen_ai_request_model": model, "error_type": ""}
        assert metrics.registry.get_sample_value("gen_ai_client_operation_duration_seconds_count", labels) == 1
