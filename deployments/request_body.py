"""The body of a request, within its limits: its size, and the time that the client takes to send it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from graph.errors import DeadlineExceeded, PayloadTooLarge

PIECE_S = 10.0
"""How long the next piece of a body may take."""
LEAST_PER_S = 10_000
"""Bytes of a body that must have come for each second after the first ten: who sends less holds a place for nothing."""
DRAIN_S = 0.05
LINGER_S = 1.0
"""How long what is left of a body is waited for after the answer; each megabyte that comes buys another such time."""
LINGER_MOST_S = 30.0


class RequestBody:
    """`receive` of one request. Raises `PayloadTooLarge` and `DeadlineExceeded`."""

    __slots__ = ("_began", "_limit", "_receive", "_seen", "_tell_when_gone", "ended")

    def __init__(self, receive: Receive, headers: Headers, limit: int, *, tell_when_gone: bool) -> None:
        """Bytes are counted: a length may not be declared, or declared wrong."""
        self._receive = receive
        self._limit = limit
        self._tell_when_gone = tell_when_gone
        self._began = time.monotonic()
        self._seen = 0
        self.ended = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        """Whether nothing more of the body is to come."""

    async def __call__(self) -> Message:
        """Return the next message."""
        message = await (self._receive() if self.ended else self._in_time())
        if message["type"] == "http.request":
            self.ended = not message.get("more_body", False)
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                raise PayloadTooLarge(f"the body has more than {self._limit} bytes")
        elif not self._tell_when_gone:
            # Serve cancels the handler by itself. Told as well, the handler would cancel itself at the same moment, and
            # a second cancellation can interrupt the closing of its streams.
            await asyncio.get_running_loop().create_future()
        return message

    async def drain(self) -> None:
        """Read what has come already, for a request that is refused: its connection can then be used again."""
        with suppress(TimeoutError, PayloadTooLarge, DeadlineExceeded):
            async with asyncio.timeout(DRAIN_S):
                while not self.ended:
                    await self()

    async def linger(self) -> None:
        """Throw away what still comes after the answer, before the connection ends.

        A connection that ended under a HAProxy that is writing to it would stay with HAProxy, its client unanswered.
        """
        began = asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S) as patience:
                seen = 0
                while not self.ended:
                    message = await self._receive()
                    seen += len(message.get("body", b""))
                    self.ended = not message.get("more_body", False)
                    patience.reschedule(began + min(LINGER_MOST_S, LINGER_S * (1 + seen / 2**20)))

    async def _in_time(self) -> Message:
        taken = time.monotonic() - self._began
        if taken > PIECE_S + self._seen / LEAST_PER_S:
            raise DeadlineExceeded("body", round(taken, 1))
        try:
            async with asyncio.timeout(PIECE_S):
                return await self._receive()
        except TimeoutError:
            raise DeadlineExceeded("body", PIECE_S) from None
