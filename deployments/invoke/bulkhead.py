"""Keeps one slow node from taking the whole gateway: bounded calls at work, bounded calls waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from graph.errors import DeadlineExceeded, Overloaded
from graph.node import Invoke, closing_stream
from graph.spec import NodeSpec
from graph.types import Call, Delta, NodeName

OnQueued: TypeAlias = Callable[[NodeName, int, float | None], None]
"""Told how many calls wait for a place at a node, whenever that changes, and for how long the one that left waited."""


class Bulkhead:
    """Places of one gateway process at every node."""

    def __init__(
        self,
        lookup: Callable[[NodeName], NodeSpec],
        on_queued: OnQueued = lambda node, waiting, seconds: None,
    ) -> None:
        self._lookup = lookup
        self._on_queued = on_queued
        self._gates: dict[NodeName, _Gate] = {}

    def wrap(self, invoke: Invoke) -> Invoke:
        """Let a call wait for a place; refuse it with `Overloaded` when too many wait already."""

        async def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
            gate = self._gate(node)
            await gate.enter(node, call.context.deadline)
            try:
                async with closing_stream(invoke(node, call)) as deltas:
                    async for delta in deltas:
                        yield delta
            finally:
                gate.leave()

        return run

    async def take_place(self, node: NodeName) -> Callable[[], None] | None:
        """Take one more place if one is free now, without waiting; return what gives it back."""
        gate = self._gate(node)
        return gate.leave if await gate.try_enter() else None

    def forget(self, node: NodeName) -> None:
        """Drop the gate of a node that was removed; calls inside it end as they would have."""
        self._gates.pop(node, None)

    def _gate(self, node: NodeName) -> _Gate:
        spec = self._lookup(node)
        places = spec.limits.concurrency * spec.scale.max
        gate = self._gates.get(node)
        if gate is None or (gate.places, gate.queue) != (places, spec.limits.queue):
            gate = self._gates[node] = _Gate(places, spec.limits.queue, self._on_queued)
        return gate


class _Gate:
    def __init__(self, places: int, queue: int, on_queued: OnQueued) -> None:
        self._on_queued = on_queued
        self.places = places
        self.queue = queue
        self.waiting = 0
        self._semaphore = asyncio.Semaphore(places)

    async def enter(self, node: NodeName, deadline: float | None) -> None:
        if not self._semaphore.locked():
            await self._semaphore.acquire()
            return
        if self.waiting >= self.queue:
            message = f"node {node!r} works on {self.places} calls and {self.queue} wait already"
            refusal = Overloaded(message, node=node)
            refusal.attempts = 0
            raise refusal
        left = None if deadline is None else deadline - time.time()
        began = time.perf_counter()
        self.waiting += 1
        self._on_queued(node, self.waiting, None)
        try:
            async with asyncio.timeout(left):
                await self._semaphore.acquire()
        except TimeoutError:
            raise DeadlineExceeded("deadline", round(max(left or 0.0, 0.0), 3), node=node) from None
        finally:
            self.waiting -= 1
            self._on_queued(node, self.waiting, time.perf_counter() - began)

    async def try_enter(self) -> bool:
        if self._semaphore.locked():
            return False
        return await self._semaphore.acquire()

    def leave(self) -> None:
        self._semaphore.release()
