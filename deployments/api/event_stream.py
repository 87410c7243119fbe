"""Answers that stop working when the client leaves: nobody would read the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

WATCH_AFTER_S = 0.02
"""Answers that come sooner cost no task that waits for the client to leave: most of what it costs to wait for them."""


class while_client_stays:  # lower case, for it reads as a verb
    """Cancel the block when the client leaves; it then ends with `ClientDisconnect`. The body must have been read.

    Does nothing where the server around us cancels by itself.
    """

    __slots__ = ("_gone", "_needed", "_receive", "_timer", "_work")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._timer: asyncio.TimerHandle | None = None
        self._gone: asyncio.Task[None] | None = None
        self._needed = scope["state"]["exchange"].standalone

    async def __aenter__(self) -> None:
        if not self._needed:
            return
        work = asyncio.current_task()
        assert work is not None  # noqa: S101  # a coroutine runs in a task
        self._work = work
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._watch)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        gone = self._gone
        if gone is None:
            return
        if kind is asyncio.CancelledError and gone.done():
            self._work.uncancel()
            raise ClientDisconnect from None
        gone.cancel()

    def _watch(self) -> None:
        self._gone = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._work.cancel()


class EventStream(Response):
    """Server-sent events. Their iterator is closed at the end, whatever ends it: the client leaving, too."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events as they come."""
        try:
            async with while_client_stays(scope, receive):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for chunk in self._events:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._events.aclose()
