"""How many streams of events each caller has open: each holds a place of the gateway for as long as its run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator

from graph.errors import RateLimited

MOST = 250
"""Of one caller at one gateway: a quarter of the places that it has unless `max_requests` says otherwise."""


class Followers:
    """The streams of events that are open in this process."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def check(self, caller: str) -> None:
        """Raise `RateLimited` if a caller has as many streams open as it may."""
        if self._open[caller] >= MOST:
            raise RateLimited(
                f"{MOST} streams of events of this key are open here, the most it may have", retry_after=1
            )

    async def counted(self, caller: str, events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Count a stream for as long as it is read, and close it at its end."""
        self._open[caller] += 1
        try:
            async for event in events:
                yield event
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]
            await events.aclose()
