"""What was answered to a request with an `Idempotency-Key`, so that asking again gives the same.

The first request with a key claims it in the store; the others wait for its answer. A claim is a lease: when the
process that answers dies, the next request takes it over, with the id of the run that was perhaps already started.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import orjson

from graph.errors import DeadlineExceeded, IdempotencyConflict
from graph.stores.base import StateStore

KEPT_S = 86400.0
"""How long an answer is kept."""
LEASE_S = 15.0
LOOK_S = 0.1
"""How often a request looks for the answer that another one is making."""
_TABLE = "idempotency"


@dataclass(frozen=True, slots=True)
class Kept:
    """A request that is being answered, or its answer."""

    request: str
    """Hash of what was asked."""
    run: str
    """Id for the run that it starts, if it starts one."""
    until: float = 0.0
    """When the lease of whoever answers ends, in seconds since the epoch."""
    status: int = 0
    """HTTP status of the answer; 0 while there is none."""
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Kept:
        """Read what `to_bytes` wrote."""
        data = orjson.loads(raw)
        return cls(**data | {"headers": tuple((name, value) for name, value in data["headers"])})


class IdempotencyStore:
    """Claims and answers in a store, shared by all gateways."""

    def __init__(self, store: StateStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def claim(self, name: str, wanted: Kept, *, until: float | None = None) -> tuple[Kept, bool]:
        """Return what is kept under a name, once it is an answer; or what to answer with, and True, if it is ours to.

        Raises `IdempotencyConflict` if another request has the name, and `DeadlineExceeded` if the answer is still
        being made at the moment `until`, in seconds since the epoch.
        """
        until = math.inf if until is None else until
        given = until - self._clock()
        while True:
            raw = await self._store.get(_TABLE, name)
            found = None if raw is None else Kept.from_bytes(raw)
            if found is not None and found.request != wanted.request:
                raise IdempotencyConflict(
                    "this Idempotency-Key came with another request before; a new request needs a new key",
                    param="Idempotency-Key",
                )
            if found is not None and found.status:
                return found, False
            if found is None or found.until <= self._clock():
                mine = replace(found or wanted, until=self._clock() + LEASE_S)
                if await self._store.swap(_TABLE, name, raw, mine.to_bytes(), ttl_s=KEPT_S):
                    return mine, True
            else:
                left = until - self._clock()
                if left <= 0:
                    raise DeadlineExceeded("deadline", round(max(given, 0.0), 3))
                await asyncio.sleep(min(LOOK_S, left))

    async def renew(self, name: str, mine: Kept) -> None:
        """Hold a claim until cancelled."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            await self._put(name, replace(mine, until=self._clock() + LEASE_S))

    async def keep(self, name: str, answer: Kept) -> None:
        """Keep an answer for a day."""
        await self._put(name, answer)

    async def release(self, name: str, mine: Kept) -> None:
        """Let go of a claim: what came of it is no answer, and asking again may try again, for the same run."""
        await self._put(name, replace(mine, until=0.0))

    async def forget(self, name: str) -> None:
        """Give a name back of which nothing came: it may be another request's."""
        if not await self._is_answered(name):
            await self._store.delete(_TABLE, name)

    async def _put(self, name: str, kept: Kept) -> None:
        if not await self._is_answered(name):
            await self._store.put(_TABLE, name, kept.to_bytes(), ttl_s=KEPT_S)

    async def _is_answered(self, name: str) -> bool:
        """Say whether another process has made an answer meanwhile, because this one was too slow."""
        raw = await self._store.get(_TABLE, name)
        return raw is not None and bool(Kept.from_bytes(raw).status)


def fingerprint(*parts: bytes) -> str:
    """Return a hash of parts that tells where each ends."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.hexdigest()
