"""What a key may use: requests, tokens, runs, and a month's budget; over several gateways."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeNode, spec
from gateway_service import Service, Start
from sse_client import LeavingClient
from test_keys import OPERATOR, bearer, begin, chat, make
from waiting import until

from deployments.access.meters import MINUTE_S, RequestMeter, SumMeter
from deployments.access.quotas import Quotas
from graph.stores.memory import MemoryStore

PRICED = spec("law", cost={"input_per_million": 1e6, "output_per_million": 2e6})  # an answer costs 3 + 2 * 2 units


class Clock:
    """Time that stands still unless it is moved."""

    def __init__(self, at: float = 1_000_000 * MINUTE_S) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


async def limited(start: Start, *specs: Any, **limits: Any) -> tuple[Service, str, Clock]:
    service = await begin(start, *specs)
    clock = Clock()
    quotas = service.gateway.security.quotas
    for meter in (quotas._requests, quotas._tokens, quotas._cost):
        meter._clock = clock
    return service, (await make(service, scopes=["call", "read"], **limits))["key"], clock


async def test_requests_of_a_minute_are_counted_told_and_refused(start: Start) -> None:
    service, key, clock = await limited(start, requests=3)
    clock.at += 18
    answers = [await chat(service, key) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    first, last = answers[0].headers, answers[-1]
    assert (first["ratelimit-policy"], first["ratelimit"]) == ('"requests";q=3;w=60', '"requests";r=2;t=43')
    assert (first["x-ratelimit-limit-requests"], first["x-ratelimit-reset-requests"]) == ("3", "43s")
    error = last.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "rate_limit_exceeded", None)
    assert last.headers["retry-after"] == "42"
    assert (await service.http.get("/v1/models", headers=bearer(key))).status_code == 200  # looking is free
    clock.at += 42
    assert (await chat(service, key)).status_code == 200
    assert "ratelimit" not in (await chat(service, "the-operators")).headers


async def test_feedback_is_counted_like_calls(start: Start) -> None:
    service, key, _ = await limited(start, requests=2)
    said = {"request_id": "r1", "rating": "bad"}
    answers = [await service.http.post("/v1/feedback", json=said, headers=bearer(key)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]


async def test_tokens_of_a_minute(start: Start) -> None:
    service, key, clock = await limited(start, tokens=9)
    answers = [await chat(service, key) for _ in range(3)]  # five tokens each
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-tokens"] for answer in answers] == ["9", "4", "0"]
    clock.at += MINUTE_S
    assert (await chat(service, key)).status_code == 200


async def test_a_months_budget(start: Start) -> None:
    service, key, clock = await limited(start, PRICED, budget=10.0)
    assert [(await chat(service, key)).status_code for _ in range(3)] == [200, 200, 429]
    clock.at += 3600
    refused = await chat(service, key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    clock.at += int(refused.headers["retry-after"])
    assert (await chat(service, key)).status_code == 200


async def test_a_stream_is_counted_at_its_end_and_a_plan_by_its_tasks(start: Start) -> None:
    service, key, _ = await limited(start, PRICED, budget=1000.0)
    assert (await chat(service, key, stream=True)).text.endswith("data: [DONE]\n\n")
    cost = service.gateway.security.quotas._cost
    id = (await service.http.get("/v1/keys", headers=OPERATOR)).json()["data"][0]["id"]
    assert (await cost.spent(id))[0] == 7
    tasks = [{"id": name, "node": "law", "arguments": {"prompt": "x"}} for name in ("a", "b")]
    await service.http.post("/v1/runs", json={"plan": {"tasks": tasks}}, headers=bearer(key))
    await until(lambda: not service.gateway.runs._works)
    assert (await cost.spent(id))[0] == 21


async def test_a_client_that_leaves_pays_for_what_was_produced(start: Start) -> None:
    service, key, _ = await limited(start, spec("law", model="stall", cost=PRICED.cost.model_dump()), budget=1000.0)
    body = {"model": "law", "messages": [{"role": "user", "content": "x" * 8}], "stream": True}
    client = LeavingClient(service.app, "/v1/chat/completions", body, headers=bearer(key))
    await until(lambda: b"half" in client.received)
    await client.leave()
    await until(lambda: FakeNode.closed == ["law"])
    id = (await service.http.get("/v1/keys", headers=OPERATOR)).json()["data"][0]["id"]
    spent, _ = await service.gateway.security.quotas._cost.spent(id)
    assert spent == 2 * 1 + 2 * 2  # eight characters asked, five answered


async def test_what_fails_costs_nothing(start: Start) -> None:
    service, key, _ = await limited(start, spec("law", model="die", limits={"attempts": 1}), tokens=1)
    assert [(await chat(service, key)).status_code for _ in range(2)] == [502, 502]


async def test_runs_in_progress(start: Start) -> None:
    service, key, _ = await limited(start, spec("law", model="hang"), runs=2)
    body = {"plan": {"tasks": [{"id": "t", "node": "law", "arguments": {"prompt": "x"}}]}}
    answers = [await service.http.post("/v1/runs", json=body, headers=bearer(key)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert "2 runs of this key are in progress" in answers[-1].json()["error"]["message"]
    await service.gateway.runs.cancel(answers[0].json()["id"])
    assert (await service.http.post("/v1/runs", json=body, headers=bearer(key))).status_code == 202


async def test_two_gateways_never_let_more_pass_than_the_limit() -> None:
    store, clock = MemoryStore(), Clock()
    meters = [RequestMeter(store, clock), RequestMeter(store, clock)]
    for limit in (1, 7, 100, 1234):
        granted = [[(await meter.take(f"k{limit}", limit))[0] for _ in range(limit)] for meter in meters]
        assert sum(map(sum, granted)) == limit
        mixed = [(await meters[i % 2].take(f"m{limit}", limit))[0] for i in range(2 * limit)]
        assert limit - max(1, limit // 50) <= sum(mixed) <= limit
    clock.at += MINUTE_S
    assert (await meters[0].take("k1", 1))[0]


async def test_sums_of_two_gateways_meet_within_a_second() -> None:
    store, clock = MemoryStore(), Clock()
    here, there = SumMeter(store, "tokens", clock=clock), SumMeter(store, "tokens", clock=clock)
    here.add("k", 5)
    there.add("k", 7)
    await here.flush()
    assert (await there.spent("k"))[0] == 12
    here.add("k", 1)
    assert (await here.spent("k"))[0] == 6  # known a moment ago
    clock.at += 1.1
    assert [(await meter.spent("k"))[0] for meter in (here, there)] == [13, 13]


async def test_what_could_not_be_written_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    store, clock = MemoryStore(), Clock()
    meter = SumMeter(store, "cost", monthly=True, clock=clock)
    real = store.add

    async def away(*_: object, **__: object) -> float:
        raise ConnectionError("away")

    monkeypatch.setattr(store, "add", away)
    meter.add("k", 2.5)
    with pytest.raises(ConnectionError):
        await meter.flush()
    monkeypatch.setattr(store, "add", real)
    assert (await meter.spent("k"))[0] == 2.5


async def test_those_who_ask_for_nothing_any_more_are_forgotten() -> None:
    store, clock = MemoryStore(), Clock()
    requests, sums = RequestMeter(store, clock), SumMeter(store, "cost", monthly=True, clock=clock)
    for number in range(500):
        await requests.take(f"k{number}", 10)
        sums.add(f"k{number}", 2.0)
    await sums.flush()
    sums.add("k0", 1.0)
    clock.at += 2 * MINUTE_S
    await requests.take("another", 10)
    assert (await sums.spent("another"))[0] == 0
    assert (len(requests._batches), set(sums._sums)) == (1, {"k0", "another"})
    assert [(await sums.spent(name))[0] for name in ("k0", "k1")] == [3.0, 2.0]


async def test_a_gateway_that_stops_writes_what_was_used() -> None:
    store = MemoryStore()
    quotas = Quotas(store)
    quotas.charge("k", 5, 0.5)
    await quotas.aclose()
    sums = {name: counter.total for name, counter in store._counters.items()}
    assert sorted(sums.values()) == [0.5, 5.0]
