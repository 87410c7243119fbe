"""How many requests the HAProxy in front lets into this gateway at a time: more load must not mean fewer answers.

A gateway that has more requests than it has time for answers all of them late, and refusing one costs it nearly as much
as answering. HAProxy keeps what is too much in a queue, in order, and refuses it after a second, at no cost to us.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("modelyard.gateway")

TICK_S = 0.1
TURNS = 4
"""Turns of the event loop that a request takes, about."""
LONG_S = 0.15
"""A request that waits so long for its turns has too many beside it."""
LEAST = 64
"""Never fewer at a time: on a machine that does much else, turns are slow by themselves."""
ANSWER_S = 1.0
REPEAT_TICKS = 20
"""After so many ticks HAProxy is told again, for it may have been started anew."""


class Intake:
    """Follows how long a request waits for its turns, and has HAProxy let in fewer or more."""

    def __init__(self, socket: Path | None = None, server: str = "", most: int = 1000) -> None:
        """`socket` is HAProxy's for commands; `server` is what it calls this process, as `backend/server`."""
        self.requests = 0
        """Requests that are in this gateway now."""
        self._socket, self._server, self._most = socket, server, most
        self._follower: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the running loop, if there is a HAProxy."""
        if self._socket is not None:
            self._follower = asyncio.create_task(self._follow(self._socket))

    async def stop(self) -> None:
        """Stop watching."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)

    async def _follow(self, socket: Path) -> None:
        limit, told, ticks = LEAST, 0, 0
        while True:
            await asyncio.sleep(TICK_S)
            limit = next_limit(limit, self.requests, await _wait_for_turns(), self._most)
            ticks += 1
            if limit != told or ticks >= REPEAT_TICKS:
                told, ticks = limit, 0
                with suppress(OSError, TimeoutError):  # HAProxy may be starting; it is told again
                    # Before the first requests come, HAProxy need not know of this process.
                    level = logging.WARNING if self.requests else logging.DEBUG
                    await _command(socket, f"set maxconn server {self._server} {limit}", level)


def next_limit(limit: int, requests: int, wait_s: float, most: int) -> int:
    """Return how many requests may be in the gateway next, given how many are and how long one waits for its turns.

    Below the limit nothing is known of it, so it grows only with what is used of it: fast while turns are quick.
    """
    if wait_s > LONG_S:
        return max(LEAST, limit * 3 // 4)
    if requests * 2 < limit:
        return max(LEAST, limit * 9 // 10)
    return min(most, limit * 2 if wait_s < LONG_S / 4 else limit + max(1, limit // 20))


async def _wait_for_turns() -> float:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for _ in range(TURNS):
        await asyncio.sleep(0)
    return loop.time() - begun


async def _command(socket: Path, text: str, level: int) -> None:
    async with asyncio.timeout(ANSWER_S):
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            writer.write(f"{text}\n".encode())
            if answer := (await reader.read()).strip():
                log.log(level, "HAProxy did not take %r: %s", text, answer.decode(errors="replace"))
        finally:
            writer.close()
