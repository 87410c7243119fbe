"""Blocking work seen as streams that can be closed."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import pytest

from deployments.nodes.workers import Emit, Workers


async def test_items_come_in_order_and_then_the_error() -> None:
    workers = Workers("t", 1)

    def work(emit: Emit[int]) -> None:
        emit(1)
        emit(2)
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        async for item in workers.stream(work):
            seen += [item]
    assert seen == [1, 2]
    await workers.aclose()


async def test_closing_tells_the_work_to_stop() -> None:
    workers = Workers("t", 1)
    ended = threading.Event()

    def work(emit: Emit[int]) -> None:
        while not emit(1):
            pass
        ended.set()

    async with aclosing(workers.stream(work)) as stream:
        assert await anext(stream) == 1
    await workers.aclose()
    assert ended.is_set()


async def test_work_that_waits_is_never_started_once_closed() -> None:
    workers = Workers("t", 1)
    release, started = threading.Event(), threading.Event()

    def first(emit: Emit[int]) -> None:
        emit(1)
        release.wait(30)

    def second(emit: Emit[int]) -> None:
        started.set()

    async with aclosing(workers.stream(first)) as running:
        await anext(running)
        waiting = asyncio.ensure_future(anext(workers.stream(second)))
        await asyncio.sleep(0)  # it is in line now
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        release.set()
    await workers.aclose()
    assert not started.is_set()


async def test_closing_workers_ends_running_work() -> None:
    workers = Workers("t", 1)

    def work(emit: Emit[int]) -> None:
        while not emit(1):
            pass

    stream = workers.stream(work)
    await anext(stream)
    await workers.aclose()
    await stream.aclose()
    await workers.aclose()
