"""What a collector is sent of a fallback, streamed or not, and of a plan with a failed task; and what is counted."""

from __future__ import annotations

import pytest
from fakes import spec
from gateway_service import Service, Start
from otlp import OtlpReceiver, OtlpSpan

LAW = spec("law")
SICK = spec("sick", model="raise", limits={"attempts": 1}, edges={"fallback": ["law"]})
FRAIL = spec("frail", model="raise", limits={"attempts": 1})


@pytest.fixture
async def service(no_provider: None, start: Start, otlp: OtlpReceiver) -> Service:
    return await start(LAW, SICK, FRAIL, otlp_endpoint=otlp.endpoint)


async def sent(service: Service, otlp: OtlpReceiver, trace_id: str) -> dict[str, OtlpSpan]:
    await service.gateway.flush_spans()
    return {span.name: span for span in otlp.trace(trace_id)}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fallback_stands_beside_the_node_that_failed(
    service: Service, otlp: OtlpReceiver, stream: bool
) -> None:
    answer = await service.chat("sick", "hi", stream=stream)
    spans = await sent(service, otlp, answer.headers["x-trace-id"])
    root, sick, law = (spans[name] for name in ("POST /v1/chat/completions", "chat sick", "chat law"))
    assert sick.parent_id == law.parent_id == root.span_id and sick.end_ns <= law.start_ns
    assert (sick.status, sick.attributes["error.type"]) == ("ERROR", "node_unavailable")
    assert "ERROR" not in (root.status, law.status)
    assert law.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert law.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert law.attributes["gen_ai.usage.output_tokens"] > 0 and "gen_ai.usage.output_tokens" not in sick.attributes
    assert "a secret detail" not in str(spans)
    counted = (await service.http.get("/metrics")).text
    assert 'modelyard_fallbacks_total{source="sick",target="law"} 1.0' in counted
    assert 'modelyard_requests_total{modelyard_node="sick",status="node_unavailable"} 1.0' in counted
    first = 'gen_ai_server_time_to_first_token_seconds_count{gen_ai_operation_name="chat"'
    assert any(line.startswith(first) and line.endswith(" 1.0") for line in counted.splitlines()) is stream


async def test_a_failed_task_is_marked_below_its_workflow(service: Service, otlp: OtlpReceiver) -> None:
    tasks = [{"id": node, "node": node, "arguments": {"prompt": "hi"}} for node in ("law", "frail")]
    answer = await service.http.post("/v1/runs", json={"plan": {"tasks": tasks, "output": "law"}})
    run = answer.json()["id"]
    events = await service.http.get(f"/v1/runs/{run}/events")  # until the run has ended
    assert "run.finished" in events.text
    spans = await sent(service, otlp, answer.headers["x-trace-id"])
    workflow, law, frail = (spans[name] for name in ("invoke_workflow plan", "chat law", "chat frail"))
    assert workflow.parent_id == spans["POST /v1/runs"].span_id and workflow.attributes["modelyard.run.id"] == run
    assert law.parent_id == frail.parent_id == workflow.span_id
    assert (frail.status, frail.attributes["error.type"]) == ("ERROR", "node_unavailable") and law.status != "ERROR"
    assert 'modelyard_runs_total{status="partial"} 1.0' in (await service.http.get("/metrics")).text
