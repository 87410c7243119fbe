"""Where runs lie in the store, and how much the ended ones of a caller may take there: the oldest are forgotten first.

Sizes are added up as runs end. The sum is a counter, which may be wrong by what expired or was forgotten twice; it is
corrected when it says that there is too much.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from graph.stores.base import StateStore

MOST_BYTES = 2**30
"""What the ended runs of one caller may take, about."""
RUNS = "runs"
_KEEP = 10_000
_ENDED, _FREED = "run-space", "run-space-freed"


def outcomes_log(id: str) -> str:
    """Return the log of a run's outcomes."""
    return f"run-outcomes/{id}"


def events_log(id: str) -> str:
    """Return the log of a run's events."""
    return f"run-events/{id}"


class RunSpace:
    """What ended runs take, by caller."""

    def __init__(self, store: StateStore, retention_s: float, most: int = MOST_BYTES) -> None:
        self._store = store
        self._retention_s = retention_s
        self._most = most
        self._written: dict[str, int] = {}
        """Bytes of outcomes and events, of runs in progress here."""

    def wrote(self, id: str, size: int) -> None:
        """Note that so much was written of a run."""
        self._written[id] = self._written.get(id, 0) + size

    def lost(self, id: str) -> None:
        """Note that a run is another process's now."""
        self._written.pop(id, None)

    async def ended(self, id: str, caller: str | None, head: int, now: float) -> None:
        """Note that a run ended, whose record has so many bytes, and make room where the caller's are too much."""
        size = head + self._written.pop(id, 0)
        with suppress(ConnectionError):  # the run has ended, whether or not room can be made now
            await self._make_room(f"{_ENDED}/{caller or ''}", json.dumps([id, size, now]).encode(), size, now)

    async def _make_room(self, log: str, note: bytes, size: int, now: float) -> None:
        await self._store.append(log, [note], keep=_KEEP, ttl_s=self._retention_s)
        known = await self._store.add(log, size, ttl_s=self._retention_s)
        if known > self._most:
            left = await self._clear(log, now)
            await self._store.add(log, left - known, ttl_s=self._retention_s)

    async def _clear(self, log: str, now: float) -> int:
        """Forget the oldest runs, until nine tenths of what there may be are left; return how much that is."""
        freed = last = int(await self._store.get(_FREED, log) or 0)
        there: list[tuple[int, str, int]] = []
        while items := await self._store.read(log, after=last):
            last = items[-1][0]
            notes = [(number, json.loads(note)) for number, note in items]
            there += [(number, id, size) for number, (id, size, at) in notes if at > now - self._retention_s]
        left = sum(size for _, _, size in there)
        for number, id, size in there[:-1]:  # the newest stays, however large
            if left <= self._most * 9 // 10:
                break
            await self._forget(id)
            left, freed = left - size, number
        await self._store.put(_FREED, log, str(freed).encode(), ttl_s=self._retention_s)
        return left

    async def _forget(self, id: str) -> None:
        await asyncio.gather(
            self._store.delete(RUNS, id), self._store.drop(outcomes_log(id)), self._store.drop(events_log(id))
        )
