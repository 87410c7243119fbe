"""How many runs of one key are in progress, over all gateways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from graph.caller import Caller
from graph.errors import RateLimited
from graph.stores.base import StateStore

MARGIN_S = 60.0
"""How long after the longest run a place comes back by itself, if nobody gave it back."""


class RunSlots:
    """Places for runs, a record each in the store, so that whoever ends a run can give its place back."""

    def __init__(self, store: StateStore, total_s: float) -> None:
        """`total_s` is how long a run may take in all."""
        self._store = store
        self._ttl_s = total_s + MARGIN_S

    async def take(self, caller: Caller | None, run: str) -> None:
        """Take a place for a run. Raises `RateLimited` when the caller has as many runs in progress as it may."""
        if caller is None or caller.max_runs is None:
            return
        table = _table(caller)
        await self._store.put(table, run, b"", ttl_s=self._ttl_s)
        if len(await self._store.scan(table)) > caller.max_runs:
            await self._store.delete(table, run)
            raise RateLimited(f"{caller.max_runs} runs of this key are in progress, the most it may have",
                              retry_after=1)  # fmt: skip

    @asynccontextmanager
    async def taken(self, caller: Caller | None, run: str) -> AsyncIterator[None]:
        """Take a place as `take` does; what fails inside gives it back."""
        await self.take(caller, run)
        try:
            yield
        except BaseException:  # raised again: also when the caller leaves, the place is free
            await self.free(caller, run)
            raise

    async def free(self, caller: Caller | None, run: str) -> None:
        """Give the place of a run back."""
        if caller is not None and caller.max_runs is not None:
            await self._store.delete(_table(caller), run)


def _table(caller: Caller) -> str:
    return f"run-slots/{caller.id}"
