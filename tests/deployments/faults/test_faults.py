"""Every fault of the catalogue in every way, through the real application and real sockets, seen from both sides."""

from __future__ import annotations

import asyncio

import pytest
from faulty_service import QUESTION, FaultyService, Play
from waiting import until

from benchmarks.fault_cells import Got, ask, run, served, verdict
from benchmarks.fault_upstream import FAULTS

WAYS = ("routed", "streamed", "named", "task", "task-streamed")
ENDS_S = 30
"""No cell takes as long: the upstream's own silences are hours or 20 s and more."""


async def asked(faulty: FaultyService, fault: str, way: str) -> Got:
    http = faulty.service.http
    if way == "task":
        before = upstream_calls(faulty)
        got, found = await run(http, fault, QUESTION)
        second = found["outcomes"][1]["status"]
        assert (found["status"], second) == (("ok", "ok") if got.text is not None else ("failed", "skipped"))
        assert found["outcomes"][0]["attempts"] == upstream_calls(faulty) - before
        return got
    model = {"routed": "auto", "streamed": "auto", "named": fault, "task-streamed": "plan"}[way]
    return await ask(http, model, QUESTION, stream="streamed" in way)


def upstream_calls(faulty: FaultyService) -> int:
    """Attempts at the node that fails and at its fallbacks."""
    return len(faulty.upstream.attempts) - len(faulty.upstream.asked("steady"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "f15"])
async def test_a_fault_in_a_way(play: Play, fault: str, way: str) -> None:
    faulty = await play(fault)
    async with asyncio.timeout(ENDS_S):
        got = await asked(faulty, fault, way)
    assert verdict(fault, got, faulty.upstream) is None
    assert faulty.upstream.asked(fault), "the node that was to fail was never asked"
    if "streamed" not in way and fault != "f13":
        assert got.text is not None  # who does not read along always gets the whole answer
    await until(lambda: not faulty.at_work())


@pytest.mark.parametrize("way", WAYS)
async def test_down_under_traffic(play: Play, way: str) -> None:
    faulty = await play("f15")
    now = [1000.0]
    faulty.service.gateway._breaker._clock = lambda: now[0]
    faulty.upstream.down = True
    for _ in range(20):  # a minute, a request every three seconds
        assert served("f15", await asked(faulty, "f15", way)) == "backup"
        now[0] += 3
    hammered = len(faulty.upstream.asked("f15"))
    assert hammered <= 20  # sixty without a breaker, and no more than its probes and a few retries with it
    faulty.upstream.down = False
    for _ in range(10):
        now[0] += 3
        last = served("f15", await asked(faulty, "f15", way))
        assert last in ("primary", "backup")
    assert last == "primary"
    await until(lambda: not faulty.at_work())


@pytest.mark.parametrize("way", WAYS)
async def test_a_hedge_answers_for_a_silent_call(play: Play, way: str) -> None:
    faulty = await play("silent-once", hedge_s=0.1)
    got = await asked(faulty, "silent-once", way)
    assert served("silent-once", got) == "primary"
    assert len(faulty.upstream.asked("silent-once")) == 2
    await until(lambda: not faulty.at_work())


async def test_the_first_error_is_told_when_the_fallback_fails_too(play: Play) -> None:
    faulty = await play("f14", fallback="f04")
    for way in ("routed", "named"):
        got = await asked(faulty, "f14", way)
        assert (got.status, (got.error or {})["code"]) == (502, "stream_broken")


async def test_a_dead_upstream_is_not_hammered(play: Play) -> None:
    faulty = await play("f04", concurrency=100)
    got = await asyncio.gather(*(asked(faulty, "f04", "routed") for _ in range(40)))
    assert {served("f04", each) for each in got} == {"backup"}
    assert len(faulty.upstream.asked("f04")) <= 40 + 20  # a hundred and twenty without a retry budget
    await until(lambda: not faulty.at_work())
