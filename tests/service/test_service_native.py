"""The native surface of the whole service."""

from __future__ import annotations

import pytest
from sse_events import read_events

LAW = "My landlord kept my deposit and will not say why. What can I do?"


def test_a_decision_is_explained(service):
    decision = service.http.post("/v1/route", json={"input": LAW}).json()
    assert decision["node"] == "legal"
    assert decision["out_of_scope"] is False
    first = decision["candidates"][0]
    assert (first["node"], first["probability"]) == ("legal", decision["probability"])
    assert first["utility"]["total"] == first["utility"]["quality"] == first["probability"]
    probabilities = [candidate["probability"] for candidate in decision["candidates"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {item["node"] for item in decision["excluded"]} >= {"speech", "embed"}
    assert all(item["reason"] for item in decision["excluded"])
    assert decision["strategy"] == "embedding" and decision["elapsed_ms"] > 0


def test_a_tool_is_found_by_what_it_does(service):
    plan = service.http.post("/v1/plan", json={"input": "How warm is it in Oslo?"}).json()
    assert [task["node"] for task in plan["tasks"]] == ["weather"]


def _given_plan(words: int = 4) -> dict[str, object]:
    return {
        "tasks": [
            {"id": "t1", "node": "weather", "arguments": {"city": "Oslo"}},
            {"id": "t2", "node": "chess", "arguments": {"prompt": f"say {words} words"}},
            {"id": "t3", "node": "chess", "arguments": {"prompt": "sum up", "context": [{"$ref": "t1"}]}},
        ],
        "output": "t3",
        "answer": ["t2", "t3"],
    }


def test_a_given_plan_runs_and_its_events_can_be_resumed(service):
    started = service.http.post("/v1/runs", json={"plan": _given_plan()})
    assert started.status_code == 202, started.text
    path = f"/v1/runs/{started.json()['id']}/events"
    assert started.headers["x-modelyard-run"] == started.json()["id"]
    events = read_events(service.http, path)
    numbers = [int(event.id) for event in events]
    assert numbers == sorted(set(numbers))
    kinds = [event.type for event in events]
    assert kinds[0] == "planned" and kinds[-1] == "run.finished"
    assert kinds.count("task.started") == kinds.count("task.finished") == 3
    assert events[-1].data["status"] == "ok"
    told = "".join(event.data["text"] for event in events if event.type == "output.delta")
    assert told == events[-1].data["output"]
    for at in (0, len(events) // 2, len(events) - 1):
        assert read_events(service.http, path, after=events[at].id) == events[at + 1 :]
    assert read_events(service.http, path, after="0") == events


@pytest.mark.parametrize("after", ["-1", "x", "1" * 30])
def test_an_event_that_cannot_be_is_refused(service, after):
    id = service.http.post("/v1/runs", json={"plan": _given_plan(1)}).json()["id"]
    path = f"/v1/runs/{id}/events"
    assert service.http.get(path, params={"after": after}).status_code == 400
    assert service.http.get(path, headers={"last-event-id": after}).status_code == 400


def test_a_run_is_kept_with_every_outcome(service):
    id = service.http.post("/v1/runs", json={"plan": _given_plan(1)}).json()["id"]
    read_events(service.http, f"/v1/runs/{id}/events")
    run = service.http.get(f"/v1/runs/{id}").json()
    assert run["status"] == "ok"
    assert [(o["task"], o["node"], o["status"], o["attempts"]) for o in run["outcomes"]] == [
        ("t1", "weather", "ok", 1),
        ("t2", "chess", "ok", 1),
        ("t3", "chess", "ok", 1),
    ]
    assert all(outcome["ended_at"] >= outcome["started_at"] for outcome in run["outcomes"])
    assert '"celsius": 21' in run["output"] or "21" in str(service.upstream.seen)
    assert len(run["trace_id"]) == 32
    assert id in [item["id"] for item in service.http.get("/v1/runs").json()["data"]]


def test_a_failed_task_does_not_sink_the_run(service):
    plan = _given_plan(1)
    plan["tasks"][0] = {"id": "t1", "node": "fragile", "arguments": {"prompt": "break this"}}
    id = service.http.post("/v1/runs", json={"plan": plan}).json()["id"]
    end = read_events(service.http, f"/v1/runs/{id}/events")[-1]
    run = service.http.get(f"/v1/runs/{id}").json()
    assert run["status"] == end.data["status"] == "partial"
    assert {o["task"]: o["status"] for o in run["outcomes"]} == {"t1": "failed", "t2": "ok", "t3": "skipped"}
    assert "Missing from this answer" in run["output"]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"tasks": [{"id": "a", "node": "chess", "arguments": {"prompt": {"$ref": "b"}}}]}, "refers to task 'b'"),
        (
            {
                "tasks": [
                    {"id": "a", "node": "chess", "arguments": {"prompt": {"$ref": "b"}}},
                    {"id": "b", "node": "chess", "arguments": {"prompt": {"$ref": "a"}}},
                ]
            },
            "cycle",
        ),
        ({"tasks": [{"id": "a", "node": "nobody", "arguments": {}}]}, "nobody"),
        ({"tasks": []}, "at least one task"),
    ],
    ids=["missing task", "cycle", "unknown node", "empty"],
)
def test_a_wrong_plan_is_refused(service, plan, words):
    answer = service.http.post("/v1/runs", json={"plan": plan})
    assert answer.status_code in (400, 404)
    assert words in answer.json()["error"]["message"]


def test_what_is_not_there_is_404(service):
    for path in ("/v1/runs/run_x", "/v1/runs/run_x/events", f"/v1/traces/{'0' * 32}", "/v1/nodes/nobody", "/nowhere"):
        answer = service.http.get(path)
        assert answer.status_code == 404, path
        assert set(answer.json()["error"]) >= {"message", "type", "param", "code"}


def test_the_graph_has_three_forms(service):
    graph = service.http.get("/v1/graph").json()
    assert {"source": "legal", "target": "general", "kind": "fallback", "declared": True} in graph["edges"]
    assert {node["name"] for node in graph["nodes"]} >= {"legal", "weather"}
    mermaid = service.http.get("/v1/graph", headers={"accept": "text/vnd.mermaid"})
    assert mermaid.headers["content-type"].startswith("text/vnd.mermaid") and "flowchart LR" in mermaid.text
    dot = service.http.get("/v1/graph", headers={"accept": "text/vnd.graphviz"})
    assert dot.text.startswith("digraph") and '"legal" -> "general"' in dot.text


def test_feedback_is_taken(service):
    body = {"request_id": "mine-1", "rating": "good", "right_node": "legal"}
    assert service.http.post("/v1/feedback", json=body).status_code == 201
    assert service.http.post("/v1/feedback", json={"request_id": "mine-1"}).status_code == 400
    assert service.http.post("/v1/feedback", json=body | {"right_node": "nobody"}).status_code == 404


def test_health_and_readiness(service):
    assert service.http.get("/healthz").json() == {"status": "ok"}
    ready = service.http.get("/readyz")
    assert ready.status_code == 200 and ready.json()["ready"] is True
    assert ready.json()["nodes"]["legal"] == "ready"


def test_metrics_count_what_happened(service):
    service.http.post("/v1/route", json={"input": LAW})
    text = service.http.get("/metrics").text
    for name in ("modelyard_route_duration_seconds", "gen_ai_client_operation_duration_seconds"):
        assert f"{name}_count" in text, text[:2000]


def test_a_trace_can_be_read_from_the_service_itself(service):
    answer = service.http.post(
        "/v1/chat/completions", json={"model": "chess", "messages": [{"role": "user", "content": "a move"}]}
    )
    trace = service.http.get(f"/v1/traces/{answer.headers['x-trace-id']}").json()
    (root,) = trace["roots"]
    assert root["name"] == "POST /v1/chat/completions" and root["kind"] == "SERVER"
    assert "chat scripted" in [child["name"] for child in root["children"]]


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{", 400), (b'{"input": "\xff\xfe"}', 400), (b'{"input": ""}', 400), (b"[]", 400), (b"null", 400), (b"", 400)],
)
def test_a_body_that_is_no_request_is_refused(service, content, status):
    answer = service.http.post("/v1/route", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
