"""Time limits on one attempt at a node: first token, silence between tokens, and the whole."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from graph.errors import DeadlineExceeded, StreamBroken
from graph.node import Invoke, closing_stream
from graph.spec import Limits, NodeSpec
from graph.types import Call, Delta, NodeName


def limited(invoke: Invoke, lookup: Callable[[NodeName], NodeSpec]) -> Invoke:
    """Bound every wait for a node, and refuse an answer that ends without saying so.

    Raises `DeadlineExceeded` that names the limit (`first_token`, `idle`, `total` or the caller's `deadline`), and
    `StreamBroken` for a stream without a finish reason.
    """

    async def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        limits = lookup(node).limits
        finished = False
        async with closing_stream(invoke(node, call)) as deltas:
            iterator = aiter(deltas)
            wait, limit = limits.first_token_s, "first_token"
            with _Clock(node, limits, call.context.deadline) as clock:
                while (delta := await clock.next(iterator, wait, limit)) is not None:
                    wait, limit = limits.idle_s, "idle"
                    finished = finished or delta.finish_reason is not None
                    yield delta
        if not finished:
            raise StreamBroken(f"node {node!r} ended its answer before it was finished", node=node)

    return run


class _Clock:
    """Waits for the next delta, as long as the tightest of the limits allows.

    One timer serves all the waits of a stream, and is set again when it rings: most waits end long before, and
    `asyncio.timeout` around each of them takes longer than all other policies together.
    """

    __slots__ = ("_deadline", "_end", "_expired", "_idle_s", "_limit", "_loop", "_node", "_timer", "_until", "_waiting")

    def __init__(self, node: NodeName, limits: Limits, deadline: float | None) -> None:
        self._node = node
        self._idle_s = limits.idle_s
        self._loop = asyncio.get_running_loop()
        now = time.monotonic()
        self._end = now + limits.total_s, "total", limits.total_s
        left = math.inf if deadline is None else deadline - time.time()
        if left <= 0:
            raise DeadlineExceeded("deadline", 0, node=node)
        self._deadline = now + left, "deadline", left
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._expired = False

    def __enter__(self) -> _Clock:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def next(self, deltas: AsyncIterator[Delta], wait: float, limit: str) -> Delta | None:
        """Return the next delta, None at the end; raise `DeadlineExceeded` if it does not come in time."""
        now = time.monotonic()
        self._limit = min((now + wait, limit, wait), self._end, self._deadline)
        self._until = self._limit[0]
        task = self._waiting = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in a task
        cancelled_before = task.cancelling()
        if self._timer is None:
            self._set(now)
        try:
            return await anext(deltas, None)
        except asyncio.CancelledError:
            if not self._expired or task.cancelling() > cancelled_before + 1:
                raise
            raise DeadlineExceeded(self._limit[1], round(self._limit[2], 3), node=self._node) from None
        finally:
            self._waiting = None
            if self._expired:
                task.uncancel()

    def _set(self, now: float) -> None:
        # No later than the shortest wait that may follow, so that none is over before the timer rings.
        seconds = min(self._until - now, self._idle_s)
        self._timer = self._loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiting is None:
            return  # whoever reads is busy with what came; the next wait sets the timer again
        now = time.monotonic()
        if now < self._until:
            self._set(now)
        else:
            self._expired = True
            self._waiting.cancel()
