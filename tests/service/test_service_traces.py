"""Real spans, as a real collector gets them."""

from __future__ import annotations

import uuid
from typing import Any

from otlp import OtlpSpan

LAW = [{"role": "user", "content": "Is this indemnity clause enforceable?"}]


def _spans(service: Any, trace_id: str, *names: str) -> dict[str, OtlpSpan]:
    """Wait until the collector has these spans of a trace; return all of it by name."""
    service.otlp.wait_for(
        lambda spans: set(names) <= {span.name for span in spans if span.trace_id == trace_id}, timeout_s=30
    )
    return {span.name: span for span in service.otlp.trace(trace_id)}


def test_a_routed_call_is_one_trace_through_two_processes(service):
    raw = service.openai.chat.completions.with_raw_response.create(
        model="auto", messages=LAW, max_completion_tokens=4, temperature=0
    )
    id = raw.headers["x-trace-id"]
    spans = _spans(service, id, "POST /v1/chat/completions", "route embedding", "chat legal", "serve legal")
    root, route = spans["POST /v1/chat/completions"], spans["route embedding"]
    chat, served = spans["chat legal"], spans["serve legal"]
    assert (root.parent_id, root.kind) == ("", "SERVER")
    assert route.parent_id == chat.parent_id == root.span_id
    assert served.parent_id == chat.span_id
    assert (route.kind, chat.kind, served.kind) == ("INTERNAL", "INTERNAL", "SERVER")
    assert root.resource["service.name"] == "modelyard"
    assert served.resource["service.name"] == "modelyard-node"
    assert root.resource["service.instance.id"] != served.resource["service.instance.id"]
    assert root.start_ns <= route.start_ns <= chat.start_ns <= served.start_ns
    assert chat.end_ns <= root.end_ns


def test_attributes_follow_the_conventions(service):
    raw = service.openai.chat.completions.with_raw_response.create(
        model="auto", messages=LAW, max_completion_tokens=4, temperature=0
    )
    spans = _spans(service, raw.headers["x-trace-id"], "POST /v1/chat/completions", "chat legal", "serve legal")
    chat, route = spans["chat legal"].attributes, spans["route embedding"].attributes
    usage = raw.parse().usage
    assert chat["gen_ai.operation.name"] == "chat"
    assert chat["gen_ai.provider.name"] == "llama_cpp"
    assert chat["gen_ai.request.model"] == "legal"
    assert chat["gen_ai.request.max_tokens"] == 4
    assert chat["gen_ai.request.temperature"] == 0
    assert chat["gen_ai.response.finish_reasons"] == ["length"]
    assert chat["gen_ai.response.time_to_first_chunk"] > 0
    assert chat["gen_ai.usage.input_tokens"] == usage.prompt_tokens
    assert chat["gen_ai.usage.output_tokens"] == usage.completion_tokens
    assert not [name for name in spans["serve legal"].attributes if name.startswith("gen_ai.usage")]
    assert route["modelyard.route.strategy"] == "embedding"
    assert route["modelyard.route.node"] == "legal"
    assert route["modelyard.route.candidates"][0] == "legal"
    assert route["modelyard.route.out_of_scope"] is False
    assert 0 < route["modelyard.route.probability"] <= 1
    root = spans["POST /v1/chat/completions"].attributes
    assert (root["http.request.method"], root["http.route"]) == ("POST", "/v1/chat/completions")
    assert root["http.response.status_code"] == 200
    assert "indemnity" not in str([span.attributes for span in spans.values()]), "content stays out of traces"


def test_a_clients_trace_goes_on_to_the_upstream(service):
    trace_id, parent, words = uuid.uuid4().hex, uuid.uuid4().hex[:16], f"move {uuid.uuid4().hex}"
    service.openai.chat.completions.create(
        model="chess",
        messages=[{"role": "user", "content": words}],
        extra_headers={"traceparent": f"00-{trace_id}-{parent}-01"},
    )
    spans = _spans(service, trace_id, "POST /v1/chat/completions", "chat scripted")
    root, chat = spans["POST /v1/chat/completions"], spans["chat scripted"]
    assert root.parent_id == parent
    assert (chat.parent_id, chat.kind) == (root.span_id, "CLIENT")
    assert chat.attributes["server.address"] == "127.0.0.1"
    assert chat.attributes["server.port"] == service.upstream.port
    assert chat.attributes["gen_ai.response.model"] == "scripted-1"
    (headers,) = service.upstream.asked(words)
    assert headers["traceparent"].split("-")[1:3] == [trace_id, chat.span_id]


def test_a_plan_is_a_workflow_with_planning_and_tasks_side_by_side(service):
    raw = service.openai.chat.completions.with_raw_response.create(
        model="plan", messages=[{"role": "user", "content": "Which opening answers the king's pawn?"}]
    )
    run = raw.headers["x-modelyard-run"]
    spans = _spans(service, raw.headers["x-trace-id"], "POST /v1/chat/completions", "invoke_workflow plan")
    root, workflow = spans["POST /v1/chat/completions"], spans["invoke_workflow plan"]
    (plan,) = (span for name, span in spans.items() if name.startswith("plan "))
    task = spans["chat scripted"]
    assert workflow.parent_id == root.span_id
    assert plan.parent_id == task.parent_id == workflow.span_id
    assert workflow.attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert workflow.attributes["gen_ai.workflow.name"] == "plan"
    assert workflow.attributes["modelyard.run.id"] == run
    assert plan.attributes["gen_ai.operation.name"] == "plan"
    assert plan.attributes["modelyard.plan.nodes"] == ["chess"]


def test_a_tool_is_executed(service):
    body = {"plan": {"tasks": [{"id": "t1", "node": "weather", "arguments": {"city": "Rome"}}]}}
    id = service.http.post("/v1/runs", json=body).headers["x-trace-id"]
    spans = _spans(service, id, "execute_tool weather", "invoke_workflow plan")
    tool = spans["execute_tool weather"]
    assert tool.parent_id == spans["invoke_workflow plan"].span_id
    assert tool.attributes["gen_ai.operation.name"] == "execute_tool"
    assert tool.attributes["gen_ai.tool.name"] == "weather"


def test_a_failure_marks_its_spans(service):
    answer = service.http.post(
        "/v1/chat/completions",
        json={"model": "fragile", "messages": [{"role": "user", "content": f"break {uuid.uuid4().hex}"}]},
    )
    assert answer.status_code >= 500
    spans = _spans(service, answer.headers["x-trace-id"], "POST /v1/chat/completions", "chat scripted")
    assert spans["chat scripted"].status == "ERROR" and spans["chat scripted"].attributes["error.type"]
    assert spans["POST /v1/chat/completions"].status == "ERROR"


def test_metrics_reach_the_collector(service):
    service.openai.chat.completions.create(model="chess", messages=LAW)
    from service_process import until

    until(
        lambda: {"gen_ai.client.operation.duration"} <= {metric.name for metric in service.otlp.metrics},
        "metrics are exported",
        90,
    )
