"""Circuits, with a clock that the test turns."""

from __future__ import annotations

import asyncio

import pytest
from fakes import HANG, FakeInvoke, Step, answer, chat
from invoke_parts import deltas_of

from deployments.invoke.breaker import BreakerSettings, CircuitBreaker
from graph.errors import DeadlineExceeded, InvalidRequest, NodeRejected, NodeUnavailable, StreamBroken
from graph.node import Invoke


class Watched:
    """A breaker over one scripted node."""

    def __init__(self, *attempts: list[Step]) -> None:
        self.now = 100.0
        self.changes: list[str] = []
        self.place = FakeInvoke({"a": list(attempts)})
        self.breaker = CircuitBreaker(
            BreakerSettings(failures=2, open_s=5, longest_open_s=12),
            clock=lambda: self.now,
            on_change=lambda node, state: self.changes.append(state),
        )
        self.invoke: Invoke = self.breaker.wrap(self.place)

    async def ask(self) -> str:
        """Ask once; say how it went."""
        try:
            await deltas_of(self.invoke, chat())
        except Exception as error:
            return type(error).__name__ + (" refused" if "failed repeatedly" in str(error) else "")
        return "ok"


def down() -> list[Step]:
    return [NodeUnavailable("down")]


async def test_it_opens_refuses_probes_and_closes() -> None:
    watched = Watched(down(), down(), answer("well"))
    assert [await watched.ask() for _ in range(3)] == ["NodeUnavailable"] * 2 + ["NodeUnavailable refused"]
    assert (watched.changes, len(watched.place.calls)) == (["open"], 2)
    watched.now += 5
    assert await watched.ask() == "ok"
    assert watched.changes == ["open", "half_open", "closed"]


async def test_a_refusal_says_when_to_come_back_and_counts_as_no_attempt() -> None:
    watched = Watched(down())
    for _ in range(2):
        await watched.ask()
    watched.now += 2
    with pytest.raises(NodeUnavailable) as caught:
        await deltas_of(watched.invoke, chat())
    assert (caught.value.retry_after, caught.value.attempts) == (3.0, 0)


async def test_each_failed_probe_doubles_the_wait_up_to_the_longest() -> None:
    watched = Watched(down())
    for _ in range(2):
        await watched.ask()
    for wait in (5, 10, 12, 12):
        watched.now += wait - 0.5
        assert await watched.ask() == "NodeUnavailable refused"
        watched.now += 0.5
        assert await watched.ask() == "NodeUnavailable"


async def test_only_one_probe_at_a_time() -> None:
    watched = Watched(down(), down(), [0.05, *answer("well")])
    for _ in range(2):
        await watched.ask()
    watched.now += 5
    assert sorted(await asyncio.gather(watched.ask(), watched.ask())) == ["NodeUnavailable refused", "ok"]


async def test_calls_that_were_under_way_do_not_lengthen_the_wait() -> None:
    watched = Watched([0.02, *down()])
    await asyncio.gather(*(watched.ask() for _ in range(8)))
    watched.now += 5
    assert await watched.ask() == "NodeUnavailable"  # the probe was let through
    assert watched.changes == ["open", "half_open", "open"]


async def test_a_success_between_failures_begins_the_count_anew() -> None:
    watched = Watched(down(), answer("well"), down(), answer("well"))
    assert [await watched.ask() for _ in range(4)] == ["NodeUnavailable", "ok", "NodeUnavailable", "ok"]
    assert watched.changes == []


@pytest.mark.parametrize("error", [InvalidRequest("x"), NodeRejected("x"), DeadlineExceeded("deadline", 1)])
async def test_what_is_not_the_nodes_fault_opens_nothing(error: Exception) -> None:
    watched = Watched([error])
    for _ in range(5):
        assert await watched.ask() == type(error).__name__
    assert watched.changes == []


@pytest.mark.parametrize("error", [StreamBroken("x"), DeadlineExceeded("idle", 1)])
async def test_broken_and_silent_streams_open_it(error: Exception) -> None:
    watched = Watched([error])
    for _ in range(2):
        await watched.ask()
    assert watched.changes == ["open"]


async def test_a_callers_own_deadline_teaches_nothing_about_the_node() -> None:
    watched = Watched(down(), [DeadlineExceeded("deadline", 1)], down())
    assert [await watched.ask() for _ in range(3)] == ["NodeUnavailable", "DeadlineExceeded", "NodeUnavailable"]
    assert watched.changes == ["open"]


async def test_a_cancelled_probe_leaves_the_next_call_to_probe() -> None:
    watched = Watched(down(), down(), [HANG], answer("well"))
    for _ in range(2):
        await watched.ask()
    watched.now += 5
    probe = asyncio.create_task(watched.ask())
    await asyncio.sleep(0.01)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert await watched.ask() == "ok"


async def test_a_node_that_was_removed_is_forgotten() -> None:
    watched = Watched(down(), down(), answer("another node of that name"))
    for _ in range(2):
        await watched.ask()
    watched.breaker.forget("a")
    assert watched.breaker._circuits == {}
    assert await watched.ask() == "ok"
    watched.breaker.forget("nobody")


async def test_a_probe_is_a_single_attempt() -> None:
    watched = Watched(down(), down(), answer("well"))
    for _ in range(2):
        await watched.ask()
    watched.now += 5
    for _ in range(2):
        assert await watched.ask() == "ok"
    assert [call.context.attempts for _, call in watched.place.calls] == [None, None, 1, None]
