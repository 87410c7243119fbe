"""How many requests HAProxy is told to let in."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.intake import LEAST, LONG_S, Intake, next_limit

QUICK, SLOW = LONG_S / 10, LONG_S * 2


def test_what_is_used_grows_while_turns_are_quick() -> None:
    limits = [LEAST]
    while limits[-1] < 1000:
        limits.append(next_limit(limits[-1], limits[-1], QUICK, 1000))
    assert limits[-1] == 1000 and len(limits) <= 6
    assert all(later > earlier for earlier, later in pairwise(limits))


def test_slow_turns_let_in_fewer_down_to_the_least() -> None:
    limit = 1000
    for _ in range(20):
        limit = next_limit(limit, limit, SLOW, 1000)
    assert limit == LEAST


def test_what_nobody_uses_is_taken_back() -> None:
    assert next_limit(1000, 3, QUICK, 1000) < 1000
    assert next_limit(LEAST, 0, QUICK, 1000) == LEAST


@given(st.integers(LEAST, 5000), st.integers(0, 5000), st.floats(0, 100), st.integers(LEAST, 5000))
def test_limits_stay_within_their_bounds(limit: int, requests: int, wait_s: float, most: int) -> None:
    assert LEAST <= next_limit(min(limit, most), requests, wait_s, most) <= most


class HAProxy:
    """Takes commands as HAProxy does, one for each connection."""

    def __init__(self, answer: bytes = b"\n") -> None:
        self.commands: asyncio.Queue[str] = asyncio.Queue()
        self._answer = answer

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.commands.put_nowait((await reader.readline()).decode().strip())
        writer.write(self._answer)
        writer.close()


async def test_haproxy_is_told_at_once_and_when_more_are_there(tmp_path: Path) -> None:
    haproxy = HAProxy()
    async with await asyncio.start_unix_server(haproxy.take, tmp_path / "h.sock"):
        intake = Intake(tmp_path / "h.sock", "back/end")
        intake.start()
        try:
            first = await asyncio.wait_for(haproxy.commands.get(), 10)
            intake.requests = 64
            second = await asyncio.wait_for(haproxy.commands.get(), 10)
        finally:
            await intake.stop()
    assert first == f"set maxconn server back/end {LEAST}"
    assert second.startswith("set maxconn server back/end ") and int(second.split()[-1]) > LEAST


async def test_a_haproxy_that_comes_later_is_told(tmp_path: Path) -> None:
    haproxy = HAProxy()
    intake = Intake(tmp_path / "h.sock", "back/end")
    intake.start()
    try:
        await asyncio.sleep(0.2)
        async with await asyncio.start_unix_server(haproxy.take, tmp_path / "h.sock"):
            assert (await asyncio.wait_for(haproxy.commands.get(), 10)).endswith(f" {LEAST}")
    finally:
        await intake.stop()


async def test_what_haproxy_does_not_take_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    haproxy = HAProxy(b"No such server.\n\n")
    async with await asyncio.start_unix_server(haproxy.take, tmp_path / "h.sock"):
        intake = Intake(tmp_path / "h.sock", "back/end")
        intake.start()
        try:
            for _ in range(2):  # the second command comes after the answer to the first was read
                intake.requests += 64
                await asyncio.wait_for(haproxy.commands.get(), 10)
        finally:
            await intake.stop()
    assert "back/end" in caplog.text and "No such server" in caplog.text
