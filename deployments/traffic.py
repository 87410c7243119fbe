"""Recent requests and what the router decided about them: what the gate, the bandit and the labelling queue look at.

They are kept in a ring in the memory of this process and nowhere else, unless `recent_in_store` says so: then the store
holds as many, for all gateways together.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import orjson

from graph.stores.base import StateStore
from graph.types import Call, CallContext, NodeName
from router.router import routing_text
from router.suggestions import margin
from router.types import Decision

log = logging.getLogger("modelyard.traffic")

LOG = "recent-requests"
MAX_CHARACTERS = 2000
"""Longest text that is kept; what a request wants is said in fewer."""
FLUSH_S = 1.0


@dataclass(frozen=True, slots=True)
class Routed:
    """A request of text alone, and the decision about it."""

    text: str
    node: NodeName | None
    probability: float
    """Of the best candidate."""
    margin: float
    """By how much the best candidate is likelier than the second."""
    out_of_scope: bool
    at: float
    """Seconds since the epoch."""
    request_id: str
    trace_id: str

    def known_as(self, id: str) -> bool:
        """Whether a client may mean this request by that id."""
        return id in (self.request_id, self.trace_id)


class Traffic:
    """The last so many requests that were routed. Used from one event loop."""

    def __init__(self, size: int, *, shared: StateStore | None = None) -> None:
        """`shared` is the store to keep them in as well; None keeps them in this process only."""
        self._ring: deque[_Seen] = deque(maxlen=size)
        self._size = size
        self._shared = shared
        self._unwritten: deque[_Seen] = deque(maxlen=size)
        self._writer: asyncio.Task[None] | None = None

    def add(self, call: Call, decision: Decision) -> None:
        """Remember a decision; one with attachments is not about text alone and is left out."""
        if not self._size or call.attachments or not (text := routing_text(call)):
            return
        if len(decision.query) > MAX_CHARACTERS:
            decision = replace(decision, query="")  # a thousand requests of megabytes are not kept for their decisions
        seen = _Seen(text[:MAX_CHARACTERS], decision, time.time(), call.context)
        self._ring.append(seen)
        if self._shared is not None:
            self._unwritten.append(seen)

    def local(self) -> tuple[Routed, ...]:
        """Return what this process remembers, oldest first."""
        return tuple(seen.routed() for seen in self._ring)

    async def recent(self) -> tuple[Routed, ...]:
        """Return what is remembered, of every gateway if they share it; oldest first."""
        if self._shared is None:
            return self.local()
        await self.flush()
        return tuple(_parse(raw) for _, raw in await self._shared.latest(LOG, limit=self._size))

    async def find(self, id: str) -> Routed | None:
        """Return the newest request that goes by this id (request id or trace id), if it is remembered."""
        here = next((entry for seen in reversed(self._ring) if (entry := seen.routed()).known_as(id)), None)
        if here is not None or self._shared is None:
            return here
        return next((entry for entry in reversed(await self.recent()) if entry.known_as(id)), None)

    def open(self) -> None:
        """Begin to write to the store, if that is wanted. Call it on the event loop."""
        if self._shared is not None:
            self._writer = asyncio.create_task(self._write())

    async def aclose(self) -> None:
        """Stop writing; what was not written yet is."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            await self.flush()

    async def flush(self) -> None:
        """Write what has not been written."""
        if self._shared is None or not self._unwritten:
            return
        items = [orjson.dumps(asdict(seen.routed())) for seen in self._unwritten]
        self._unwritten.clear()
        await self._shared.append(LOG, items, keep=self._size)

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
            except Exception:  # a boundary: the store may be away for a while, and requests must not feel it
                log.exception("recent requests could not be written")


def _parse(raw: bytes) -> Routed:
    data: dict[str, Any] = orjson.loads(raw)
    return Routed(**data)


class _Seen(NamedTuple):
    """What is noted of a request while it waits; the rest is worked out by whoever looks."""

    text: str
    decision: Decision
    at: float
    context: CallContext

    def routed(self) -> Routed:
        decision = self.decision
        parts = self.context.trace.get("traceparent", "").split("-")
        return Routed(
            self.text,
            decision.node,
            decision.probability,
            margin(decision),
            decision.out_of_scope,
            self.at,
            self.context.request_id,
            parts[1] if len(parts) == 4 else "",
        )
