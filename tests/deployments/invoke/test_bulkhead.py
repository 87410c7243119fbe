"""Bounded calls at work, bounded calls waiting."""

from __future__ import annotations

import asyncio
import time

import pytest
from fakes import HANG, FakeInvoke, answer, chat, spec
from invoke_parts import deltas_of, lookup_of

from deployments.invoke.bulkhead import Bulkhead
from graph.errors import DeadlineExceeded, Overloaded


async def test_no_more_calls_run_than_there_are_places() -> None:
    place = FakeInvoke({"a": [[0.01, *answer("x")]]})
    invoke = Bulkhead(lookup_of(concurrency=3, queue=100)).wrap(place)
    await asyncio.gather(*(deltas_of(invoke, chat()) for _ in range(20)))
    assert (place.most, len(place.calls)) == (3, 20)


async def test_replicas_add_places() -> None:
    place = FakeInvoke({"a": [[0.01, *answer("x")]]})
    invoke = Bulkhead(lambda name: spec(name, limits={"concurrency": 2}, scale={"max": 3})).wrap(place)
    await asyncio.gather(*(deltas_of(invoke, chat()) for _ in range(20)))
    assert place.most == 6


async def test_one_more_than_the_queue_holds_is_refused() -> None:
    place = FakeInvoke({"a": [[HANG]], "b": [answer("x")]})
    invoke = Bulkhead(lookup_of(concurrency=1, queue=1)).wrap(place)
    busy = [asyncio.create_task(deltas_of(invoke, chat())) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(Overloaded, match="works on 1 calls and 1 wait") as caught:
        await deltas_of(invoke, chat())
    assert caught.value.attempts == 0
    await deltas_of(invoke, chat(), "b")  # the neighbour is not concerned
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)
    place.scripts["a"].append(answer("x"))
    await asyncio.gather(*(deltas_of(invoke, chat()) for _ in range(2)))  # a place at work and one in the queue again


async def test_a_node_that_was_removed_is_forgotten() -> None:
    bulkhead = Bulkhead(lookup_of(concurrency=1, queue=0))
    invoke = bulkhead.wrap(FakeInvoke({"a": [[HANG], answer("x")]}))
    left = asyncio.create_task(deltas_of(invoke, chat()))
    await asyncio.sleep(0)
    bulkhead.forget("a")
    await deltas_of(invoke, chat())  # another node of that name
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    bulkhead.forget("a")
    assert bulkhead._gates == {}


async def test_a_call_that_is_cancelled_while_it_waits_takes_no_place() -> None:
    place, told = FakeInvoke({"a": [[0.03, *answer("x")]]}), []
    queued = lambda node, waiting, seconds: told.append((node, waiting, (seconds or 0) > 0))  # noqa: E731
    invoke = Bulkhead(lookup_of(concurrency=1, queue=5), queued).wrap(place)
    first = asyncio.create_task(deltas_of(invoke, chat()))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(deltas_of(invoke, chat()))
    await asyncio.sleep(0.005)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await first
    await asyncio.wait_for(deltas_of(invoke, chat()), 5)
    assert len(place.calls) == 2 and told == [("a", 1, False), ("a", 0, True)]


async def test_nobody_waits_beyond_his_deadline() -> None:
    place = FakeInvoke({"a": [[HANG]]})
    invoke = Bulkhead(lookup_of(concurrency=1, queue=5)).wrap(place)
    first = asyncio.create_task(deltas_of(invoke, chat()))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded) as caught:
        await deltas_of(invoke, chat().with_context(deadline=time.time() + 0.02))
    assert (caught.value.limit, len(place.calls)) == ("deadline", 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_a_failure_gives_the_place_back() -> None:
    place = FakeInvoke({"a": [[RuntimeError("bug")], answer("x")]})
    invoke = Bulkhead(lookup_of(concurrency=1, queue=0)).wrap(place)
    with pytest.raises(RuntimeError):
        await deltas_of(invoke, chat())
    await deltas_of(invoke, chat())


async def test_changed_limits_count_for_new_calls() -> None:
    limits = {"concurrency": 1, "queue": 0}
    invoke = Bulkhead(lambda name: spec(name, limits=limits)).wrap(FakeInvoke({"a": [[0.02, *answer("x")]]}))
    first = asyncio.create_task(deltas_of(invoke, chat()))
    await asyncio.sleep(0)
    limits["concurrency"] = 2
    await deltas_of(invoke, chat())
    await first
