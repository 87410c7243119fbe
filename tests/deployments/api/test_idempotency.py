"""`Idempotency-Key` on chat completions and runs."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fakes import FakeNode, spec
from gateway_service import Service, Start
from sse_client import LeavingClient
from test_keys import bearer, begin, make
from waiting import until

from deployments.idempotency import IdempotencyStore, Kept
from graph.errors import Overloaded
from graph.stores.memory import MemoryStore

LAW = spec("law")
PLAN = {"plan": {"tasks": [{"id": "t", "node": "law", "arguments": {"prompt": "x"}}]}}


async def ask(
    service: Service, key: str, text: str = "hi", headers: dict[str, str] | None = None, **fields: Any
) -> httpx.Response:
    body = {"model": "law", "messages": [{"role": "user", "content": text}]} | fields
    sent = {"idempotency-key": key} | (headers or {})
    return await service.http.post("/v1/chat/completions", json=body, headers=sent)


@pytest.mark.parametrize("stream", [False, True])
async def test_asking_again_gives_the_same_answer_and_calls_no_node(start: Start, stream: bool) -> None:
    service = await start(LAW)
    first, again = [await ask(service, "k-1", stream=stream) for _ in range(2)]
    assert (first.status_code, first.content) == (again.status_code, again.content) and first.status_code == 200
    for name in ("content-type", "x-modelyard-node"):
        assert first.headers[name] == again.headers[name]
    assert again.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in first.headers
    assert len(FakeNode.calls) == 1
    assert (await ask(service, "k-2", stream=stream)).content != first.content


async def test_another_request_under_the_same_key_is_refused(start: Start) -> None:
    service = await start(LAW)
    await ask(service, "k")
    refused = await ask(service, "k", "something else")
    error = refused.json()["error"]
    assert (refused.status_code, error["type"], error["code"], error["param"]) == (
        422, "idempotency_error", "idempotency_key_reused", "Idempotency-Key",
    )  # fmt: skip
    run = await service.http.post("/v1/runs", json=PLAN, headers={"idempotency-key": "k"})
    assert run.status_code == 202  # a key of another endpoint


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\u00ff"])
async def test_a_key_that_is_none_is_refused(start: Start, key: str) -> None:
    service = await start(LAW)
    body = {"model": "law", "messages": [{"role": "user", "content": "hi"}]}
    sent = [(b"idempotency-key", key.encode("latin-1"))]
    answer = await service.http.post("/v1/chat/completions", json=body, headers=sent)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


async def test_who_asks_while_the_first_is_answered_gets_its_answer(start: Start) -> None:
    FakeNode.gates["law"] = asyncio.Event()
    service = await start(spec("law", model="slow"))
    FakeNode.gates["law"] = gate = asyncio.Event()
    waiting = [asyncio.create_task(ask(service, "k")) for _ in range(3)]
    await until(lambda: bool(FakeNode.calls))
    await asyncio.sleep(0.05)
    gate.set()
    answers = [await task for task in waiting]
    assert len({answer.content for answer in answers}) == 1 and len(FakeNode.calls) == 1


async def test_who_waits_for_anothers_answer_waits_no_longer_than_it_said(start: Start) -> None:
    FakeNode.gates["law"] = gate = asyncio.Event()
    service = await start(spec("law", model="slow"))
    first = asyncio.create_task(ask(service, "k"))
    await until(lambda: bool(FakeNode.calls))
    late = await asyncio.wait_for(ask(service, "k", headers={"x-modelyard-timeout": "0.2"}), 30)
    assert (late.status_code, late.json()["error"]["code"]) == (408, "deadline_exceeded")
    gate.set()
    assert (await first).status_code == 200 and len(FakeNode.calls) == 1
    wrong = await ask(service, "k", headers={"x-modelyard-timeout": "soon"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "x-modelyard-timeout")


async def test_a_failure_is_not_kept(start: Start) -> None:
    service = await start(spec("law", model="die", limits={"attempts": 1}))
    assert [(await ask(service, "k")).status_code for _ in range(2)] == [502, 502]
    assert len(FakeNode.calls) == 2
    cut = [await ask(service, "s", stream=True) for _ in range(2)]
    assert all("error" in answer.text for answer in cut) and len(FakeNode.calls) == 4


async def test_a_client_that_left_may_ask_again(start: Start) -> None:
    service = await start(spec("law", model="stall"))
    body = {"model": "law", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    for calls in (1, 2):
        client = LeavingClient(service.app, "/v1/chat/completions", body, headers={"idempotency-key": "k"})
        await until(lambda client=client: b"half" in client.received)
        await client.leave()
        assert len(FakeNode.calls) == calls


async def test_a_run_is_started_once(start: Start) -> None:
    service = await start(LAW)
    answers = await asyncio.gather(
        *(service.http.post("/v1/runs", json=PLAN, headers={"idempotency-key": "k"}) for _ in range(3))
    )
    assert {answer.status_code for answer in answers} == {202}
    (id,) = {answer.json()["id"] for answer in answers}
    assert {answer.headers["location"] for answer in answers} == {f"/v1/runs/{id}"}
    assert [run["id"] for run in (await service.http.get("/v1/runs")).json()["data"]] == [id]


async def test_a_key_belongs_to_whoever_sent_it(start: Start) -> None:
    service = await begin(start, LAW)
    ann, bob = [bearer((await make(service))["key"]) for _ in range(2)]
    first, other = await ask(service, "k", headers=ann), await ask(service, "k", headers=bob)
    assert other.status_code == 200 and other.content != first.content and len(FakeNode.calls) == 2


async def test_a_run_of_a_process_that_died_is_found_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was journaled, and the process died before it could keep the answer."""
    service = await start(LAW)

    async def dies(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(IdempotencyStore, "keep", dies)
        patch.setattr(IdempotencyStore, "release", dies)
        await service.http.post("/v1/runs", json=PLAN, headers={"idempotency-key": "k"})
    store = service.gateway.store
    ((name, raw),) = (await store.scan("idempotency")).items()
    await store.put("idempotency", name, expired(raw))
    again = await service.http.post("/v1/runs", json=PLAN, headers={"idempotency-key": "k"})
    assert [run["id"] for run in (await service.http.get("/v1/runs")).json()["data"]] == [again.json()["id"]]


@pytest.mark.parametrize("known_before", [False, True])
async def test_a_run_that_was_written_down_is_found_again_whatever_went_wrong_after(
    start: Start, monkeypatch: pytest.MonkeyPatch, known_before: bool
) -> None:
    """The store left before the answer; or its process died, and the next one could not answer at once."""
    service = await start(LAW)
    runs, headers = service.gateway.runs, {"idempotency-key": "k"}
    real, ids = runs.start, []

    async def broken(*args: Any, **fields: Any) -> str:
        ids.append(await real(*args, **fields))
        raise ConnectionError("away")

    def starting() -> None:
        raise Overloaded("no node is ready yet")

    monkeypatch.setattr(runs, "start", broken)
    answer = await service.http.post("/v1/runs", json=PLAN, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["error"]["code"]) == (
        503,
        "2",
        "overloaded",
    )
    if known_before:
        with monkeypatch.context() as patch:
            patch.setattr(service.gateway.orchestrator, "require_nodes", starting)
            assert (await service.http.post("/v1/runs", json=PLAN, headers=headers)).status_code == 503
    again = await service.http.post("/v1/runs", json=PLAN, headers=headers)
    assert (again.status_code, [again.json()["id"]]) == (202, ids)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_kept_before_its_end_is_told(
    start: Start, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """A process that dies when its client has the answer must not have it made anew."""
    service, told = await start(LAW), asyncio.Event()
    real = IdempotencyStore.keep

    async def keep(*args: Any) -> None:
        await told.wait()
        await real(*args)

    monkeypatch.setattr(IdempotencyStore, "keep", keep)
    body = {"model": "law", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    client = LeavingClient(service.app, "/v1/chat/completions", body, headers={"idempotency-key": "k"})
    await until(lambda: bool(FakeNode.calls))
    await asyncio.sleep(0.05)
    assert not client.received if not stream else client.received and b"[DONE]" not in client.received
    told.set()
    await until(lambda: (b"[DONE]" if stream else b"finish_reason") in client.received)
    await client.leave()


async def test_a_run_that_was_refused_leaves_its_key_free(start: Start) -> None:
    service = await start(LAW)
    headers, wrong = {"idempotency-key": "k"}, {"plan": {"tasks": []}}
    assert (await service.http.post("/v1/runs", json=wrong, headers=headers)).status_code == 400
    assert (await service.http.post("/v1/runs", json=PLAN, headers=headers)).status_code == 202


async def test_who_was_too_slow_takes_no_answer_back() -> None:
    answers, slow = IdempotencyStore(MemoryStore()), Kept("request", "run_1")
    answer = Kept("request", "run_1", 0.0, 202, (), "{}")
    await answers.keep("n", answer)
    await answers.release("n", slow)
    await answers.forget("n")
    await answers.keep("n", slow)
    assert await answers.claim("n", slow) == (answer, False)


def expired(raw: bytes) -> bytes:
    found = Kept.from_bytes(raw)
    return Kept(found.request, found.run, 0.0).to_bytes()


async def test_only_one_takes_over_a_lease_that_ended() -> None:
    store = MemoryStore()
    now = 1000.0
    answers = IdempotencyStore(store, clock=lambda: now)
    wanted = Kept("request", "run_1")
    assert await answers.claim("n", wanted) == (Kept("request", "run_1", 1015.0), True)
    now = 1016.0
    second = asyncio.create_task(answers.claim("n", Kept("request", "run_2")))
    third = asyncio.create_task(answers.claim("n", Kept("request", "run_3")))
    done, waiting = await asyncio.wait({second, third}, timeout=0.05)
    ((kept, ours),) = [task.result() for task in done]
    assert (kept.run, ours, len(waiting)) == ("run_1", True, 1)
    await answers.keep("n", Kept("request", "run_1", 0.0, 202, (), "{}"))
    assert await waiting.pop() == (Kept("request", "run_1", 0.0, 202, (), "{}"), False)
