"""Plugin point: where state is kept.

A store is three small things: values by key, append-only logs with rising ids, and counters that expire. What they
mean (registry, runs, feedback, spans) is written once, above, in modules that know nothing of SQLite or Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class StateStore(Protocol):
    """Keeps bytes. Every method may be called concurrently; `open` comes first and `aclose` last."""

    async def open(self) -> None:
        """Connect, and create what is missing. Raise `ConnectionError` with the address if that fails."""

    async def aclose(self) -> None:
        """Let go of the connection; what was written stays."""

    async def get(self, table: str, key: str) -> bytes | None:
        """Return the value, or None."""

    async def put(self, table: str, key: str, value: bytes, *, ttl_s: float | None = None) -> None:
        """Set the value; with `ttl_s` it is forgotten after that many seconds."""

    async def delete(self, table: str, key: str) -> bool:
        """Forget the value; say whether there was one."""

    async def swap(
        self, table: str, key: str, expected: bytes | None, value: bytes, *, ttl_s: float | None = None
    ) -> bool:
        """Set the value only if it is `expected` now (None: absent). Atomic; say whether it was set."""

    async def scan(self, table: str) -> dict[str, bytes]:
        """Return every live key and value of a table."""

    async def append(
        self, log: str, items: Sequence[bytes], *, keep: int | None = None, ttl_s: float | None = None
    ) -> int:
        """Add items to a log; return the id of the last. Ids start at 1 and rise by 1.

        `keep` drops the oldest beyond that many; `ttl_s` forgets the whole log that long after its last append.
        """

    async def read(self, log: str, *, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Return up to `limit` items with ids above `after`, in order."""

    async def latest(self, log: str, *, limit: int = 100) -> list[tuple[int, bytes]]:
        """Return the last items of a log, in order."""

    async def drop(self, log: str) -> None:
        """Forget a log."""

    async def add(self, counter: str, amount: float, *, ttl_s: float) -> float:
        """Add to a counter that starts at 0 and is forgotten `ttl_s` after its first use; return the sum."""
