"""Limits hold whatever gateways ask in whatever order, at whatever times."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.access.meters import BATCHES, MINUTE_S, RequestMeter, SumMeter
from graph.stores.memory import MemoryStore

ASKED = st.lists(st.tuples(st.integers(0, 2), st.floats(0, 20)), max_size=60)
"""Which gateway is asked, and how many seconds after the last time."""


@given(st.integers(1, 120), ASKED, st.integers(1, 5))
def test_no_more_requests_pass_in_a_minute_than_the_limit(
    limit: int, asked: list[tuple[int, float]], each: int
) -> None:
    now = [1_000_000.0]

    async def run() -> None:
        store = MemoryStore()
        meters = [RequestMeter(store, lambda: now[0]) for _ in range(3)]
        passed, refused = Counter[int](), Counter[int]()
        for which, pause in asked:
            now[0] += pause
            minute = int(now[0] // MINUTE_S)
            for _ in range(each):
                granted, left, wait = await meters[which].take("key", limit)
                (passed if granted else refused)[minute] += 1
                assert 0 <= left <= limit and 0 < wait <= MINUTE_S
                assert int((now[0] + wait) // MINUTE_S) == minute + 1, "what is told to wait for comes"
        assert all(count <= limit for count in passed.values())
        stranded = 2 * max(1, limit // BATCHES)  # the batches that two other gateways may hold
        assert all(passed[minute] >= limit - stranded for minute in refused)

    asyncio.run(run())


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 20), st.integers(0, 1000)), max_size=40), st.booleans())
def test_nothing_that_was_used_is_lost_or_counted_twice(used: list[tuple[int, float, int]], monthly: bool) -> None:
    now = [1_700_000_000.0]  # in the middle of a month

    async def run() -> None:
        store = MemoryStore()
        meters = [SumMeter(store, "x", monthly=monthly, clock=lambda: now[0]) for _ in range(3)]
        sums = Counter[int]()
        for which, pause, amount in used:
            now[0] += pause
            meters[which].add("key", amount)
            sums[0 if monthly else int(now[0] // MINUTE_S)] += amount
            assert (await meters[which].spent("key"))[0] <= sums.total()
            await meters[which].flush()
        now[0] += 1.1
        told = [(await meter.spent("key"))[0] for meter in meters]
        expected = sums[0 if monthly else int(now[0] // MINUTE_S)]
        assert told == pytest.approx([expected] * 3)

    asyncio.run(run())
