"""What a key that is limited to some nodes can do and learn: nothing of the others."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fakes import FakeNode, spec
from gateway_service import Service, Start
from sse_client import events_of
from test_keys import OPERATOR, bearer, begin, make

from deployments.access.principal import Principal
from deployments.span_store import trace_log
from graph.telemetry import CALLER

LAW = spec("law", description="Contracts and leases.", examples=["Is this lease enforceable?"],
           edges={"fallback": ["hidden"]})  # fmt: skip
HIDDEN = spec("hidden", description="Chess openings and endgames.", examples=["Which chess opening?"], default=True)
GENERAL = spec("general", description="Letters and recipes.", examples=["Write a letter."])
CHESS = "Which chess opening?"


async def limited(start: Start, *specs: Any, **wanted: Any) -> tuple[Service, dict[str, str]]:
    service = await begin(start, *(specs or (LAW, HIDDEN, GENERAL)))
    key = await make(service, scopes=["call", "route", "read"], nodes=["law", "general"], **wanted)
    return service, bearer(key["key"])


async def test_no_answer_names_a_hidden_node(start: Start) -> None:
    service, key = await limited(start)
    messages = [{"role": "user", "content": CHESS}]
    asked = [
        await service.http.get("/v1/models", headers=key),
        await service.http.get("/v1/models/hidden", headers=key),
        await service.http.get("/v1/nodes", headers=key),
        await service.http.get("/v1/nodes/law", headers=key),
        await service.http.get("/v1/nodes/law/history", headers=key),
        await service.http.get("/v1/nodes/hidden", headers=key),
        await service.http.get("/v1/nodes/hidden/history", headers=key),
        await service.http.get("/v1/graph", headers=key),
        await service.http.get("/v1/graph", headers=key | {"accept": "text/vnd.mermaid"}),
        await service.http.get("/readyz", headers=key),
        await service.http.post("/v1/route", json={"input": CHESS}, headers=key),
        await service.http.post("/v1/plan", json={"input": f"{CHESS} Then write a letter."}, headers=key),
        await service.http.post("/v1/chat/completions", json={"model": "auto", "messages": messages}, headers=key),
        await service.http.post("/v1/chat/completions", json={"model": "nobody", "messages": messages}, headers=key),
        await service.http.get("/metrics", headers=key),
        await service.http.get("/v1/router", headers=key),
    ]
    for answer in asked:
        told = answer.text.replace("no node is called 'hidden'", "").replace("no node was ever called 'hidden'", "")
        assert "hidden" not in told and "chess" not in told.lower().replace(CHESS.lower(), ""), answer.url
    assert [answer.status_code for answer in asked[-2:]] == [403, 403]
    assert (await service.http.get("/v1/nodes", headers=OPERATOR)).text.count('"hidden"') > 0


async def test_a_hidden_node_is_as_good_as_none(start: Start) -> None:
    service, key = await limited(start)
    for model in ("hidden", "nobody"):
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        answer = await service.http.post("/v1/chat/completions", json=body, headers=key)
        told = answer.json()["error"]
        assert (answer.status_code, told["code"]) == (404, "model_not_found")
        assert told["message"] == f"no node is called {model!r}; there is general, law"
    plan = {"tasks": [{"id": "t", "node": "hidden", "arguments": {"prompt": "x"}}]}
    answer = await service.http.post("/v1/runs", json={"plan": plan}, headers=key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_plan")
    assert FakeNode.calls == []


async def test_routing_leaves_hidden_nodes_out_and_remembers_nothing_across_keys(start: Start) -> None:
    service, key = await limited(start)
    for headers, fits in ((OPERATOR, "hidden"), (key, None), (OPERATOR, "hidden"), (key, None)):
        decision = (await service.http.post("/v1/route", json={"input": CHESS}, headers=headers)).json()
        assert decision["node"] == fits
        assert ("hidden" in str(decision)) == (headers is OPERATOR)
    lawful = await service.http.post("/v1/route", json={"input": "Is this lease enforceable?"}, headers=key)
    assert lawful.json()["node"] == "law"


@pytest.mark.parametrize("way", ["fallback", "cascade"])
async def test_no_edge_leads_to_a_hidden_node(start: Start, way: str) -> None:
    if way == "fallback":
        law = spec("law", model="fail", edges={"fallback": ["hidden"]}, limits={"attempts": 1})
    else:
        law = spec("law", params={"reply": "unsure"}, edges={"escalates": ["hidden"]}, cascade={"must_match": "sure!"})
    service, key = await limited(start, law, HIDDEN, GENERAL)
    body = {"model": "law", "messages": [{"role": "user", "content": "hi"}]}
    answer = await service.http.post("/v1/chat/completions", json=body, headers=key)
    assert answer.status_code == (503 if way == "fallback" else 200)
    assert [name for name, _ in FakeNode.calls] == ["law"]
    await service.http.post("/v1/chat/completions", json=body, headers=OPERATOR)
    assert [name for name, _ in FakeNode.calls][-1] == "hidden"


async def test_a_plans_tasks_and_their_fallbacks_stay_within(start: Start) -> None:
    law = spec("law", model="fail", edges={"fallback": ["hidden"]}, limits={"attempts": 1})
    service, key = await limited(start, law, HIDDEN, GENERAL)
    plan = {"tasks": [{"id": "t", "node": "law", "arguments": {"prompt": "x"}}]}
    id = (await service.http.post("/v1/runs", json={"plan": plan}, headers=key)).json()["id"]
    events = events_of((await service.http.get(f"/v1/runs/{id}/events", headers=key)).text)
    assert events[-1]["data"]["status"] == "failed" and "hidden" not in str(events)
    assert [name for name, _ in FakeNode.calls] == ["law"]


async def test_runs_are_their_owners(start: Start) -> None:
    service, key = await limited(start)
    other = bearer((await make(service, scopes=["call", "read"]))["key"])
    id = (await service.http.post("/v1/runs", json={"input": "Write a letter."}, headers=key)).json()["id"]
    for path in (f"/v1/runs/{id}", f"/v1/runs/{id}/events"):
        assert (await service.http.get(path, headers=key)).status_code == 200
        assert (await service.http.get(path, headers=OPERATOR)).status_code == 200
        refused = await service.http.get(path, headers=other)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "run_not_found")
    listed = {name: (await service.http.get("/v1/runs", headers=headers)).json()["data"]
              for name, headers in (("own", key), ("other", other), ("operator", OPERATOR))}  # fmt: skip
    assert {name: [run["id"] for run in runs] for name, runs in listed.items()} == {
        "own": [id], "other": [], "operator": [id],
    }  # fmt: skip


async def test_a_trace_is_seen_by_whoever_asked_and_by_readers_of_everything(start: Start) -> None:
    service, key = await limited(start)
    asked, other = await make(service, scopes=["call"]), await make(service, scopes=["call"])
    reader = await make(service, scopes=["read"])
    marks = {"mine": asked["id"], "joined": asked["id"], "answered": other["id"]}
    ids = {"mine": "1" * 32, "joined": "2" * 32, "answered": "2" * 32}
    for number, (name, id) in enumerate(marks.items()):
        principal = Principal(id, "", frozenset())
        span = {"span_id": str(number), "parent_id": None, "name": "POST /v1/route", "kind": "SERVER", "start_ns": 1,
                "end_ns": 2, "status": "OK", "message": None, "attributes": {CALLER: principal.mark},
                "service": None, "instance": None}  # fmt: skip
        await service.gateway.store.append(trace_log(ids[name]), [orjson.dumps(span)])
    seen = {
        name: [
            (await service.http.get(f"/v1/traces/{ids[name]}", headers=who)).status_code
            for who in (OPERATOR, bearer(reader["key"]), bearer(asked["key"]), bearer(other["key"]), key)
        ]
        for name in ("mine", "joined")
    }
    assert seen == {"mine": [200, 200, 200, 404, 404], "joined": [200, 200, 404, 404, 404]}
