"""A store in the memory of one process: for tests and for trying things out. Nothing survives."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

SWEEP_EVERY = 1000
"""Writes between two sweeps that free what has expired."""


@dataclass(slots=True)
class _Expiring:
    expires: float | None = None


@dataclass(slots=True)
class _Value(_Expiring):
    value: bytes = b""


@dataclass(slots=True)
class _Log(_Expiring):
    items: list[tuple[int, bytes]] = field(default_factory=list)
    last: int = 0


@dataclass(slots=True)
class _Counter(_Expiring):
    total: float = 0.0


_T = TypeVar("_T", bound=_Expiring)


class MemoryStore:
    """`StateStore` in dicts. No method awaits while it works, so each is atomic on one event loop."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._tables: dict[str, dict[str, _Value]] = {}
        self._logs: dict[str, _Log] = {}
        self._counters: dict[str, _Counter] = {}
        self._writes = 0

    async def open(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def aclose(self) -> None:
        """Do nothing: what was written stays as long as this object."""

    async def get(self, table: str, key: str) -> bytes | None:
        """Return the value, or None."""
        return self._get(table, key)

    async def put(self, table: str, key: str, value: bytes, *, ttl_s: float | None = None) -> None:
        """Set the value; with `ttl_s` it is forgotten after that many seconds."""
        self._put(table, key, value, ttl_s)

    async def delete(self, table: str, key: str) -> bool:
        """Forget the value; say whether there was one."""
        found = self._tables.get(table, {}).pop(key, None)
        return found is not None and self._lives(found)

    async def swap(
        self, table: str, key: str, expected: bytes | None, value: bytes, *, ttl_s: float | None = None
    ) -> bool:
        """Set the value only if it is `expected` now (None: absent)."""
        if self._get(table, key) != expected:
            return False
        self._put(table, key, value, ttl_s)
        return True

    async def scan(self, table: str) -> dict[str, bytes]:
        """Return every live key and value of a table."""
        return {key: item.value for key, item in self._tables.get(table, {}).items() if self._lives(item)}

    async def append(
        self, log: str, items: Sequence[bytes], *, keep: int | None = None, ttl_s: float | None = None
    ) -> int:
        """Add items to a log; return the id of the last."""
        found = self._log(log)
        if not items:
            return found.last
        self._logs[log] = found
        found.items.extend(enumerate(map(bytes, items), found.last + 1))
        found.last += len(items)
        found.expires = self._expiry(ttl_s)
        if keep is not None:
            del found.items[: max(0, len(found.items) - keep)]
        self._count_write()
        return found.last

    async def read(self, log: str, *, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Return up to `limit` items with ids above `after`, in order."""
        items = self._log(log).items
        start = max(0, after - items[0][0] + 1) if items else 0
        return items[start : start + limit]

    async def latest(self, log: str, *, limit: int = 100) -> list[tuple[int, bytes]]:
        """Return the last items of a log, in order."""
        items = self._log(log).items
        return items[max(0, len(items) - limit) :]

    async def drop(self, log: str) -> None:
        """Forget a log; its ids start at 1 again."""
        self._logs.pop(log, None)

    async def add(self, counter: str, amount: float, *, ttl_s: float) -> float:
        """Add to a counter that is forgotten `ttl_s` after its first use; return the sum."""
        found = self._counters.get(counter)
        if found is None or not self._lives(found):
            found = self._counters[counter] = _Counter(self._expiry(ttl_s))
        found.total += amount
        self._count_write()
        return found.total

    def _get(self, table: str, key: str) -> bytes | None:
        found = self._tables.get(table, {}).get(key)
        return found.value if found is not None and self._lives(found) else None

    def _put(self, table: str, key: str, value: bytes, ttl_s: float | None) -> None:
        self._tables.setdefault(table, {})[key] = _Value(self._expiry(ttl_s), bytes(value))
        self._count_write()

    def _log(self, log: str) -> _Log:
        found = self._logs.get(log)
        return found if found is not None and self._lives(found) else _Log()

    def _expiry(self, ttl_s: float | None) -> float | None:
        return None if ttl_s is None else self._clock() + ttl_s

    def _lives(self, item: _Expiring) -> bool:
        return item.expires is None or item.expires > self._clock()

    def _count_write(self) -> None:
        self._writes += 1
        if self._writes % SWEEP_EVERY == 0:
            self._tables = {name: self._alive(table) for name, table in self._tables.items()}
            self._logs = self._alive(self._logs)
            self._counters = self._alive(self._counters)

    def _alive(self, items: dict[str, _T]) -> dict[str, _T]:
        return {key: item for key, item in items.items() if self._lives(item)}
