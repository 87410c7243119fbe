"""Runs over the surface: while a gateway starts, and with tasks that must not be repeated."""

from __future__ import annotations

from fakes import FakeNode, spec
from waiting import until

from deployments.snapshot import Snapshot

PLAN = {"tasks": [{"id": "t1", "node": "law", "arguments": {"prompt": "pay"}, "idempotent": False}]}


async def test_a_gateway_that_does_not_know_its_nodes_yet_says_to_come_again(start):
    service = await start(spec("law"))
    service.gateway.snapshot = Snapshot()
    answer = await service.http.post("/v1/runs", json={"plan": PLAN})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_task_that_is_under_way_is_unknown_only_once_its_run_has_ended(start):
    service = await start(spec("law", model="hang"))
    id = (await service.http.post("/v1/runs", json={"plan": PLAN})).json()["id"]
    await until(lambda: FakeNode.calls)
    shown = (await service.http.get(f"/v1/runs/{id}")).json()
    assert (shown["status"], shown["outcomes"]) == ("running", [])
    assert shown["plan"]["tasks"][0]["idempotent"] is False
    await service.gateway.runs.cancel(id)
    shown = (await service.http.get(f"/v1/runs/{id}")).json()
    assert [(outcome["status"], outcome["error"]["code"]) for outcome in shown["outcomes"]] == [
        ("unknown", "outcome_unknown")
    ]
