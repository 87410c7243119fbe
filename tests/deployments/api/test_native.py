"""The native surface: route, plan, runs, graph, feedback, health."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeNode, spec
from gateway_service import Service, Start
from sse_client import LeavingClient, events_of
from waiting import until

import deployments.api.runs
import deployments.followers

LAW = spec("law", description="Contracts and leases.", examples=["Is this lease enforceable?"],
           edges={"fallback": ["general"]})  # fmt: skip
GENERAL = spec("general", description="Anything else.", default=True)
PLAN: dict[str, Any] = {
    "tasks": [
        {"id": "t1", "node": "law", "arguments": {"prompt": "one"}},
        {"id": "t2", "node": "general", "arguments": {"prompt": "two", "context": [{"$ref": "t1"}]}},
    ],
    "output": "t2",
}


async def begin(service: Service, body: dict[str, Any]) -> str:
    answer = await service.http.post("/v1/runs", json=body)
    assert (answer.status_code, answer.json()["status"]) == (202, "running"), answer.text
    id = str(answer.json()["id"])
    assert (answer.headers["x-modelyard-run"], answer.headers["location"]) == (id, f"/v1/runs/{id}")
    return id


async def follow(service: Service, id: str, **headers: str) -> list[dict[str, Any]]:
    answer = await service.http.get(f"/v1/runs/{id}/events", headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events_of(answer.text)


async def test_routing_decides_and_runs_nothing(start: Start) -> None:
    service = await start(LAW, GENERAL)
    answer = await service.http.post("/v1/route", json={"input": "Is this lease enforceable?"})
    body = answer.json()
    assert (answer.status_code, body["node"], body["strategy"], body["query"]) == (
        200, "law", "keyword", "Is this lease enforceable?",
    )  # fmt: skip
    assert {"probability", "out_of_scope", "candidates", "excluded", "elapsed_ms"} <= set(body)
    assert body["candidates"][0]["node"] == "law"
    assert FakeNode.calls == []


async def test_a_plan_that_was_made_can_be_run_as_it_is(start: Start) -> None:
    service = await start(LAW, GENERAL)
    messages = [{"role": "user", "content": "Is this lease enforceable?"}]
    made = (await service.http.post("/v1/plan", json={"messages": messages})).json()
    assert {"tasks", "links", "output", "planner", "missing", "elapsed_ms"} <= set(made)
    assert FakeNode.calls == []
    id = await begin(service, {"messages": messages, "plan": made})
    assert (await follow(service, id))[-1]["data"]["status"] == "ok"


async def test_a_given_plan_is_run_and_shown(start: Start) -> None:
    service = await start(LAW, GENERAL)
    id = await begin(service, {"plan": PLAN})
    events = await follow(service, id)
    assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["event"], events[-1]["event"]) == ("planned", "run.finished")
    run = (await service.http.get(f"/v1/runs/{id}")).json()
    assert (run["status"], [o["task"] for o in run["outcomes"]]) == ("ok", ["t1", "t2"])
    first = run["outcomes"][0]
    assert {"task", "node", "status", "output", "error", "attempts", "started_at", "ended_at"} < set(first)
    assert (first["model"], first["usage"]) == (
        "law", {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    )  # fmt: skip
    assert run["plan"]["links"] == [["t1", "t2"]]
    assert len(run["trace_id"]) == 32
    assert run["output"] == events[-1]["data"]["output"] == "general: law: one\n\ntwo"
    assert [item["id"] for item in (await service.http.get("/v1/runs")).json()["data"]] == [id]


async def test_one_caller_does_not_take_every_place_by_following_runs(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployments.followers, "MOST", 2)
    service = await start(spec("law", model="hang"))
    body = {"plan": {"tasks": [{"id": "t", "node": "law", "arguments": {"prompt": "x"}}]}}
    id = (await service.http.post("/v1/runs", json=body)).json()["id"]
    path = f"/v1/runs/{id}/events"
    readers = [LeavingClient(service.app, path, None, method="GET") for _ in range(2)]
    await until(lambda: all(b"planned" in reader.received for reader in readers))
    refused = await service.http.get(path)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    for reader in readers:
        await reader.leave()
    again = LeavingClient(service.app, path, None, method="GET")
    await until(lambda: b"planned" in again.received)
    await again.leave()
    assert not service.gateway.runs.followers._open


async def test_a_list_of_runs_holds_no_more_than_a_few_megabytes(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    service = await start(spec("law", model="die", limits={"attempts": 1}))
    monkeypatch.setattr(deployments.api.runs, "MAX_LISTED", 25_000)
    for _ in range(6):
        tasks = [{"id": "t", "node": "law", "arguments": {"prompt": "x" * 10_000}}]
        assert (await service.http.post("/v1/runs", json={"plan": {"tasks": tasks}})).status_code == 202
    await until(lambda: not service.gateway.runs._works)
    found = (await service.http.get("/v1/runs")).json()
    assert (len(found["data"]), found["truncated"]) == (2, True)
    found = (await service.http.get("/v1/runs?limit=1")).json()
    assert (len(found["data"]), found["truncated"]) == (1, False)


async def test_events_are_resumed_behind_the_last_one_seen(start: Start) -> None:
    service = await start(LAW, GENERAL)
    id = await begin(service, {"plan": PLAN})
    events = await follow(service, id)
    assert await follow(service, id, **{"last-event-id": "3"}) == events[3:]
    answer = await service.http.get(f"/v1/runs/{id}/events?after={len(events)}")
    assert (answer.status_code, answer.text) == (200, "")
    wrong = await service.http.get(f"/v1/runs/{id}/events", headers={"last-event-id": b"\xb2"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "Last-Event-ID")


async def test_a_partial_run_names_what_is_missing(start: Start) -> None:
    service = await start(spec("sick", model="raise", limits={"attempts": 1}), GENERAL)
    tasks = [
        {"id": "a", "node": "sick", "arguments": {"prompt": "x"}},
        {"id": "b", "node": "general", "arguments": {"prompt": "needs", "context": [{"$ref": "a"}]}},
        {"id": "c", "node": "general", "arguments": {"prompt": "alone"}},
    ]
    id = await begin(service, {"plan": {"tasks": tasks}})
    await follow(service, id)
    run = (await service.http.get(f"/v1/runs/{id}")).json()
    assert run["status"] == "partial"
    assert [outcome["status"] for outcome in run["outcomes"]] == ["failed", "skipped", "ok"]
    assert "Missing from this answer" in run["output"] and "sick" in run["output"]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"tasks": []}, "at least one task"),
        ({}, "tasks: is required"),
        ({"tasks": [{"id": "a", "node": "law", "arguments": {"prompt": {"$ref": "b"}}}]}, "refers to task 'b'"),
        ({"tasks": [{"id": "a", "node": "law", "arguments": {"prompt": {"$ref": "a"}}}]}, "cycle"),
        ({"tasks": [{"id": "a", "node": "nobody", "arguments": {}}]}, "no node is called 'nobody'"),
        ({"tasks": [{"id": "a", "node": "law", "arguments": {"colour": "red"}}]}, "takes no such argument"),
    ],
)
async def test_a_wrong_plan_is_refused_with_every_problem(start: Start, plan: dict[str, Any], words: str) -> None:
    service = await start(LAW, GENERAL)
    answer = await service.http.post("/v1/runs", json={"input": "x", "plan": plan})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_plan", "plan")
    assert words in error["message"] and error["problems"]


@pytest.mark.parametrize("path", ["/v1/route", "/v1/plan", "/v1/runs"])
@pytest.mark.parametrize(
    ("content", "param"),
    [
        (b"{}", None),
        (b'{"input": ""}', "input"),
        (b'{"input": "x", "messages": [{"role": "user", "content": "x"}]}', None),
        (b'{"input": "x", "extra": 1}', "extra"),
        (b'{"messages": []}', "messages"),
        (b"{", None),
        (b'{"input": "\xff"}', None),
        (b'{"input": "\\ud800"}', None),
        (b"[1]", None),
        (b"", None),
    ],
)
async def test_a_wrong_body_is_a_bad_request(start: Start, path: str, content: bytes, param: str | None) -> None:
    service = await start(LAW)
    answer = await service.http.post(path, content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


async def test_an_unknown_run(start: Start) -> None:
    service = await start(LAW)
    for path in ("/v1/runs/run_x", "/v1/runs/run_x/events"):
        answer = await service.http.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "run_not_found")


async def test_tasks_know_the_conversation(start: Start) -> None:
    service = await start(LAW, GENERAL)
    turns = [("system", "Answer in German."), ("user", "I rent."), ("assistant", "I see."), ("user", "And now?")]
    messages = [{"role": role, "content": text} for role, text in turns]
    await follow(service, await begin(service, {"messages": messages, "plan": PLAN}))
    heard = [[(message.role, message.text) for message in call.messages] for _, call in FakeNode.calls]
    assert heard == [[*turns[:3], ("user", "one")], [*turns[:3], ("user", "law: one\n\ntwo")]]


async def test_more_runs_than_there_may_be_are_refused(start: Start) -> None:
    service = await start(spec("slow", model="stall"), max_runs=1)
    plan = {"tasks": [{"id": "a", "node": "slow", "arguments": {"prompt": "x"}}]}
    id = await begin(service, {"plan": plan})
    refused = await service.http.post("/v1/runs", json={"plan": plan})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    await service.gateway.runs.cancel(id)
    await service.gateway.runs.cancel(await begin(service, {"plan": plan}))


async def test_leaving_the_events_leaves_the_run_alone(start: Start) -> None:
    service = await start(spec("slow", model="stall"))
    id = await begin(service, {"plan": {"tasks": [{"id": "a", "node": "slow", "arguments": {"prompt": "x"}}]}})
    client = LeavingClient(service.app, f"/v1/runs/{id}/events", None, method="GET")
    await until(lambda: b"half" in client.received)
    await client.leave()
    assert (await service.http.get(f"/v1/runs/{id}")).json()["status"] == "running"
    await service.gateway.runs.cancel(id)


async def test_the_graph_in_three_forms(start: Start) -> None:
    service = await start(LAW, GENERAL)
    graph = (await service.http.get("/v1/graph")).json()
    assert {node["name"] for node in graph["nodes"]} == {"law", "general"}
    assert {"source": "law", "target": "general", "kind": "fallback", "declared": True} in graph["edges"]
    assert graph["implied"] == {"edges": 2, "listed": True}
    mermaid = await service.http.get("/v1/graph", headers={"accept": "text/vnd.mermaid"})
    assert mermaid.text.startswith("flowchart LR") and "|fallback|" in mermaid.text
    dot = await service.http.get("/v1/graph", headers={"accept": "text/vnd.graphviz"})
    assert dot.text.startswith("digraph") and '"law" -> "general"' in dot.text
    assert dot.headers["content-type"].startswith("text/vnd.graphviz")


async def test_feedback_is_kept(start: Start) -> None:
    service = await start(LAW)
    for number in (1, 2):
        answer = await service.http.post("/v1/feedback", json={"request_id": "r", "rating": "good"})
        told = {"id": number, "status": "kept", "learnable": False, "request_known": False}
        assert (answer.status_code, answer.json()) == (201, told)
    assert len(await service.gateway.store.read("feedback")) == 2


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"request_id": "r"}, 400, None),
        ({"rating": "good"}, 400, "request_id"),
        ({"request_id": "r", "score": 2}, 400, "score"),
        ({"request_id": "r", "rating": "fine"}, 400, "rating"),
        ({"request_id": "r", "right_node": "nobody"}, 404, "model"),
    ],
)
async def test_wrong_feedback(start: Start, body: dict[str, Any], status: int, param: str | None) -> None:
    service = await start(LAW)
    answer = await service.http.post("/v1/feedback", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert await service.gateway.store.read("feedback") == []


async def test_health_and_readiness(start: Start) -> None:
    service = await start(LAW, spec("broken", model="unloadable"))
    assert (await service.http.get("/healthz")).json() == {"status": "ok"}
    ready = await service.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "nodes": {"law": "ready", "broken": "failed"}})
    service.gateway.ready = False
    assert (await service.http.get("/readyz")).status_code == 503
    assert "modelyard" in (await service.http.get("/metrics")).text


async def test_an_unknown_path_and_method_are_answered_in_the_same_form(start: Start) -> None:
    service = await start(LAW)
    for method, path, status in (("GET", "/v2/nothing", 404), ("DELETE", "/v1/models", 405)):
        answer = await service.http.request(method, path)
        assert (answer.status_code, set(answer.json()["error"])) == (status, {"message", "type", "param", "code"})


async def test_the_openapi_document_names_every_path(start: Start) -> None:
    document = (await (await start(LAW)).http.get("/openapi.json")).json()
    assert {"/v1/chat/completions", "/v1/runs", "/v1/nodes/{name}", "/v1/feedback"} <= set(document["paths"])
    assert "ChatRequest" in document["components"]["schemas"]


async def test_a_plan_of_every_form_is_run_and_shown(start: Start) -> None:
    tool = spec("double", deterministic=True)
    service = await start(LAW, GENERAL, tool)
    tasks = [
        {
            "id": "t1",
            "node": "double",
            "arguments": {"prompt": {"$ref": "item"}},
            "map": {"over": ["x", "x"], "parallel": 1},
        },
        {"id": "t2", "node": "law", "arguments": {"prompt": {"$expr": "join(t1, '+')"}}, "when": "size(t1) == 2"},
        {"id": "t3", "node": "law", "arguments": {"prompt": "no"}, "when": "size(t1) > 2"},
        {"id": "t4", "node": "law", "arguments": {"prompt": "go"}, "repeat": {"until": "index == 1", "max": 3}},
    ]
    wishes = {"budget": {"calls": 20}, "compose": {"template": "{t2}"}}
    id = await begin(service, {"plan": {"tasks": tasks}, **wishes})
    events = await follow(service, id)
    assert {"task.item", "task.skipped"} <= {event["event"] for event in events}
    run = (await service.http.get(f"/v1/runs/{id}")).json()
    assert (run["status"], run["output"]) == ("ok", "law: double: x+double: x")
    assert [outcome["status"] for outcome in run["outcomes"]] == ["ok", "ok", "skipped", "ok"]
    assert [part["cached"] for part in run["outcomes"][0]["parts"]] == [False, True]
    assert run["outcomes"][3]["attempts"] == 2
    assert run["plan"]["budget"] == {"calls": 20}
    assert [{key: task[key] for key in item} for task, item in zip(run["plan"]["tasks"], tasks, strict=True)] == tasks


@pytest.mark.parametrize(
    ("wishes", "param", "said"),
    [
        ({"budget": {"calls": 0}}, "budget", "greater than or equal to 1"),
        ({"budget": {"x": 1}}, "budget", "x"),
        ({"replan": 9}, "replan", "5"),
        ({"compose": {}}, "compose", "give either 'node' (a chat node) or 'template' (a text)"),
        ({"compose": {"template": "{t1"}}, "compose.template", "has no counterpart"),
        ({"compose": {"node": "nobody"}}, "compose.node", "no node is called 'nobody'"),
        ({"plan": {"tasks": [{"id": "a", "node": "law", "when": "x y"}]}}, "plan", "expected an operator or the end"),
    ],
)
async def test_wishes_that_cannot_be_are_refused(start: Start, wishes: dict[str, Any], param: str, said: str) -> None:
    service = await start(LAW, GENERAL)
    answer = await service.http.post("/v1/runs", json={"input": "x"} | wishes)
    error = answer.json()["error"]
    assert answer.status_code in (400, 404), answer.text
    assert said in error["message"] and str(error["param"]).startswith(param), error


async def test_the_document_describes_a_plan(start: Start) -> None:
    service = await start(LAW)
    document = (await service.http.get("/openapi.json")).json()
    form = document["components"]["schemas"]["RunRequest"]["properties"]
    assert {"plan", "budget", "replan", "compose"} <= set(form)
    task = next(part for part in form["plan"]["anyOf"] if part["type"] == "object")["properties"]["tasks"]["items"]
    assert {"when", "map", "repeat", "expect", "composes"} <= set(task["properties"])


async def test_a_plan_is_a_node_like_any_other(start: Start) -> None:
    inner = {"tasks": [{"id": "t1", "node": "law", "arguments": {"prompt": {"$ref": "request.text"}}}]}
    service = await start(LAW, GENERAL, spec("advice", kind="plan", params={"plan": inner}))
    answer = await service.chat("advice", "hello there")
    assert answer.json()["choices"][0]["message"]["content"] == "law: hello there", answer.text
    assert (answer.headers["x-modelyard-node"], answer.json()["usage"]["total_tokens"]) == ("advice", 5)
    streamed = await service.chat("advice", "hello there", stream=True)
    assert '"content":"law:"' in streamed.text.replace(" ", "") and "[DONE]" in streamed.text
    id = await begin(
        service, {"plan": {"tasks": [{"id": "t1", "node": "advice", "arguments": {"prompt": "in a plan"}}]}}
    )
    assert (await follow(service, id))[-1]["data"]["output"] == "law: in a plan"
