"""Following a log of the store: each item once, in order, and work that is done over and over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson

from graph.stores.base import StateStore

PAGE = 1000


class LogReader:
    """Reads what is new in a log. An item whose handling fails is read again."""

    def __init__(self, store: StateStore, log: str, *, from_now: bool = False) -> None:
        """`from_now` leaves out what stands in the log at the first look."""
        self._store = store
        self._log = log
        self._seen: int | None = None if from_now else 0

    async def new(self) -> AsyncIterator[Any]:
        """Yield each new item, read from JSON."""
        if self._seen is None:
            latest = await self._store.latest(self._log, limit=1)
            self._seen = latest[-1][0] if latest else 0
        while page := await self._store.read(self._log, after=self._seen, limit=PAGE):
            for number, raw in page:
                if number > self._seen:  # not read meanwhile by somebody else who asked for what is new
                    yield orjson.loads(raw)
                    self._seen = number


async def keep_up(catch_up: Callable[[], Awaitable[None]], every_s: float, log: logging.Logger, failure: str) -> None:
    """Catch up over and over, until cancelled."""
    while True:
        try:
            await catch_up()
        except Exception:  # a boundary: the store may be away for a while, and requests go on with what is known
            log.exception("%s; trying again", failure)
        await asyncio.sleep(every_s)
