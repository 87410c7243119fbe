"""Counts what a key uses, together with the other gateways, without asking the store at every request.

Requests are taken from the store in small batches, which other gateways then cannot take: all together never let more
pass than the limit. Tokens and cost are known only afterwards: they are added up here and written a moment later, and
what the others added is read at most a second late.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable
from dataclasses import dataclass

from graph.stores.base import StateStore

MINUTE_S = 60
BATCHES = 50
"""Batches that a limit on requests is taken in: a gateway that leaves strands at most one."""
FRESH_S = 1.0
"""How old a sum may be that tokens and cost are judged by."""
IDLE_S = 60.0
"""How long the sum of a key that asks for nothing is remembered here; the store has it."""


@dataclass(slots=True)
class _Batch:
    left: int = 0
    taken: float = 0.0
    """By all gateways, as far as this one knows."""
    exhausted: bool = False


class RequestMeter:
    """Requests of each key in the minute that runs."""

    def __init__(self, store: StateStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._window = 0
        self._batches: dict[str, _Batch] = {}
        """Of the minute that runs."""

    async def take(self, key: str, limit: int) -> tuple[bool, int, float]:
        """Take one request; return whether it may pass, how many are left, and the seconds until all are back."""
        now = self._clock()
        window = int(now // MINUTE_S)
        if window != self._window:
            self._window, self._batches = window, {}
        batch = self._batches.get(key)
        if batch is None:
            batch = self._batches[key] = _Batch()
        if not batch.left and not batch.exhausted:
            await self._fetch(f"requests/{key}/{window}", batch, limit)
        granted = batch.left > 0
        if granted:
            batch.left -= 1
        remaining = max(0, int(limit - batch.taken)) + batch.left
        return granted, remaining, (window + 1) * MINUTE_S - now

    async def _fetch(self, counter: str, batch: _Batch, limit: int) -> None:
        size = max(1, limit // BATCHES)
        batch.taken = await self._store.add(counter, size, ttl_s=2 * MINUTE_S)
        granted = size - max(0, int(batch.taken) - limit)
        batch.exhausted = granted <= 0
        batch.left += max(0, granted)


@dataclass(slots=True)
class _Sum:
    window: int
    known: float = 0.0
    pending: float = 0.0
    at: float = 0.0
    """When `known` was read."""
    used: float = 0.0
    """When it was last asked for or added to."""


class SumMeter:
    """A sum of each key, of tokens in a minute or of cost in a month."""

    def __init__(
        self, store: StateStore, name: str, *, monthly: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._name = name
        self._monthly = monthly
        self._clock = clock
        self._sums: dict[str, _Sum] = {}
        self._cleared = 0.0

    async def spent(self, key: str) -> tuple[float, float]:
        """Return what a key has used of the window that runs, and the seconds until the next one."""
        now = self._clock()
        window, ends = _month(now) if self._monthly else _minute(now)
        found = self._sum(key, window, now)
        if now - found.at > FRESH_S:
            await self._write(key, found)
        return found.known + found.pending, ends - now

    def add(self, key: str, amount: float) -> None:
        """Add to what a key has used; `flush` writes it."""
        now = self._clock()
        window, _ = _month(now) if self._monthly else _minute(now)
        self._sum(key, window, now).pending += amount

    async def flush(self) -> None:
        """Write what was added."""
        for key, found in list(self._sums.items()):
            if found.pending:
                await self._write(key, found)

    def _sum(self, key: str, window: int, now: float) -> _Sum:
        if now - self._cleared > IDLE_S:
            self._cleared = now
            self._sums = {name: kept for name, kept in self._sums.items() if kept.pending or now - kept.used <= IDLE_S}
        found = self._sums.get(key)
        if found is None or found.window != window:
            found = self._sums[key] = _Sum(window)
        found.used = now
        return found

    async def _write(self, key: str, found: _Sum) -> None:
        amount, found.pending = found.pending, 0.0
        try:
            ttl = 40 * 86400 if self._monthly else 2 * MINUTE_S
            found.known = await self._store.add(f"{self._name}/{key}/{found.window}", amount, ttl_s=ttl)
        except BaseException:  # raised again: what could not be written goes with the next attempt
            found.pending += amount
            raise
        found.at = self._clock()


def _minute(now: float) -> tuple[int, float]:
    window = int(now // MINUTE_S)
    return window, (window + 1) * MINUTE_S


def _month(now: float) -> tuple[int, float]:
    """Return the month as a number and its end, in UTC."""
    year, month = time.gmtime(now)[:2]
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    return year * 12 + month, calendar.timegm((*following, 1, 0, 0, 0))
