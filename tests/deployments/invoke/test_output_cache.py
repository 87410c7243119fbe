"""Answers of deterministic nodes that are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from fakes import DONE, FakeInvoke, answer, chat, spec
from invoke_parts import deltas_of, text_of

import deployments.invoke.cache
from deployments.invoke.cache import OutputCache, cached, key_of
from graph.collect import collect
from graph.errors import NodeUnavailable
from graph.node import Invoke
from graph.spec import NodeSpec
from graph.stores.memory import MemoryStore
from graph.types import Call, Delta, json_payload


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    made = MemoryStore()
    await made.open()
    yield made
    await made.aclose()


def around(store: Any, place: FakeInvoke, entries: int = 10, **nodes: NodeSpec) -> Invoke:
    known = {"a": spec("a", deterministic=True), "b": spec("b")} | nodes
    return cached(place, known.__getitem__, OutputCache(store, entries=entries, ttl_s=60))


async def test_the_same_call_is_answered_once(store: MemoryStore) -> None:
    place = FakeInvoke({"a": [answer("one two")]})
    invoke = around(store, place)
    first, again = await deltas_of(invoke, chat("x")), await deltas_of(invoke, chat("x", stream=True))
    assert (text_of(first), text_of(again), place.asked()) == ("one two", "one two", ["a"])
    assert ([delta.cached for delta in first], [delta.cached for delta in again]) == ([False] * 3, [True] * 2)
    assert (again[-1].usage, again[-1].finish_reason) == (DONE.usage, "stop")
    await deltas_of(invoke, chat("y"))
    await deltas_of(invoke, chat("x", params={"temperature": 0.5}))
    assert len(place.calls) == 3


async def test_a_value_and_the_calls_of_tools_come_back_whole(store: MemoryStore) -> None:
    tool = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    place = FakeInvoke({"a": [[Delta(payload=json_payload({"x": [1]}), tool_calls=(tool,), refusal="no"), DONE]]})
    invoke = around(store, place)
    first = await collect(invoke("a", chat()), node="a")
    assert (await collect(invoke("a", chat()), node="a"), len(place.calls)) == (first, 1)


async def test_other_nodes_are_always_asked(store: MemoryStore) -> None:
    place = FakeInvoke({"b": [answer("b")]})
    invoke = around(store, place)
    for _ in range(2):
        assert text_of(await deltas_of(invoke, chat(), "b")) == "b"
    assert len(place.calls) == 2


@pytest.mark.parametrize(
    "bad", [["half"], [NodeUnavailable("down")], ["long", Delta(finish_reason="length")]], ids=["cut", "down", "length"]
)
async def test_what_is_not_a_whole_answer_is_not_kept(store: MemoryStore, bad: Any) -> None:
    place = FakeInvoke({"a": [bad, answer("good")]})
    invoke = around(store, place)
    try:
        await deltas_of(invoke, chat())
    except NodeUnavailable:
        pass
    assert text_of(await deltas_of(invoke, chat())) == "good"


async def test_a_changed_node_answers_anew() -> None:
    before, after = spec("a", deterministic=True), spec("a", deterministic=True, system_prompt="Be brief.")
    request = chat().with_context(request_id="r1")
    assert key_of(before, chat()) == key_of(before, request) != key_of(after, chat())
    assert key_of(before, replace(chat(), stream=True, resets=True)) == key_of(before, chat())


async def test_the_oldest_makes_room(store: MemoryStore) -> None:
    place = FakeInvoke({"a": [answer("x")]})
    invoke = around(store, place, entries=2)
    for text in ("1", "2", "3"):
        await deltas_of(invoke, chat(text))
    assert len(await store.scan("output-cache")) == 2
    await deltas_of(invoke, chat("3"))
    assert len(place.calls) == 3
    await deltas_of(invoke, chat("1"))
    assert len(place.calls) == 4


async def test_a_large_answer_is_not_kept(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments.invoke.cache, "MAX_BYTES", 10)
    await deltas_of(around(store, FakeInvoke({"a": [answer("x" * 50)]})), chat())
    assert await store.scan("output-cache") == {}


async def test_a_store_that_is_away_is_no_failure(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(store, "get", away)
    monkeypatch.setattr(store, "put", away)
    call: Call = chat()
    assert text_of(await deltas_of(around(store, FakeInvoke({"a": [answer("x")]})), call)) == "x"
