"""The audit record: who did which administrative act, when, and what it changed. Never a secret."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from graph.stores.base import StateStore

AUDIT = "audit"
"""Log of every administrative act."""


class AuditLog:
    """Writes and reads the record in a store. Entries are only ever added."""

    def __init__(self, store: StateStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def write(self, act: str, by: str, changed: Mapping[str, Any]) -> None:
        """Note an act: `node.put`, `node.remove`, `key.create` or `key.revoke`."""
        entry = {"act": act, "at": self._clock(), "by": by} | dict(changed)
        await self._store.append(AUDIT, [json.dumps(entry).encode()])

    async def read(self, *, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """Return entries with their ids: the latest, oldest first, or those that follow an id."""
        found = await (self._store.read(AUDIT, after=after, limit=limit) if after else
                       self._store.latest(AUDIT, limit=limit))  # fmt: skip
        return [{"id": number} | json.loads(raw) for number, raw in found]
