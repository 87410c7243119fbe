"""Answers that stop working when the client leaves: nobody would read the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


@asynccontextmanager
async def while_client_stays(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block when the client leaves; it then ends with `ClientDisconnect`. The body must have been read."""
    work = asyncio.current_task()
    assert work is not None  # noqa: S101  # a coroutine runs in a task
    gone = asyncio.create_task(_leave(receive, work))
    try:
        yield
    except asyncio.CancelledError:
        if not gone.done():
            raise
        work.uncancel()
        raise ClientDisconnect from None
    finally:
        gone.cancel()


async def _leave(receive: Receive, work: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    work.cancel()


class EventStream(Response):
    """Server-sent events. Their iterator is closed at the end, whatever ends it: the client leaving, too."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events as they come."""
        try:
            async with while_client_stays(receive):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for chunk in self._events:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._events.aclose()  # type: ignore[attr-defined]  # a generator
