"""Time limits on one attempt at a node: first token, silence between tokens, and the whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from graph.errors import DeadlineExceeded, StreamBroken
from graph.node import Invoke, closing_stream
from graph.spec import NodeSpec
from graph.types import Call, Delta, NodeName


def limited(invoke: Invoke, lookup: Callable[[NodeName], NodeSpec]) -> Invoke:
    """Bound every wait for a node, and refuse an answer that ends without saying so.

    Raises `DeadlineExceeded` that names the limit (`first_token`, `idle`, `total` or the caller's `deadline`), and
    `StreamBroken` for a stream without a finish reason.
    """

    async def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        limits = lookup(node).limits
        clock = _Clock(node, limits.total_s, call.context.deadline)
        finished = False
        async with closing_stream(invoke(node, call)) as deltas:
            iterator = aiter(deltas)
            wait, limit = limits.first_token_s, "first_token"
            while (delta := await clock.next(iterator, wait, limit)) is not None:
                wait, limit = limits.idle_s, "idle"
                finished = finished or delta.finish_reason is not None
                yield delta
        if not finished:
            raise StreamBroken(f"node {node!r} ended its answer before it was finished", node=node)

    return run


class _Clock:
    """Waits for the next delta, as long as the tightest of the limits allows."""

    def __init__(self, node: NodeName, total_s: float, deadline: float | None) -> None:
        self._node = node
        self._total_s = total_s
        self._end = time.monotonic() + total_s
        left = None if deadline is None else deadline - time.time()
        self._deadline_s = left or 0.0
        self._deadline = float("inf") if left is None else time.monotonic() + left
        if left is not None and left <= 0:
            raise DeadlineExceeded("deadline", 0, node=node)

    async def next(self, deltas: AsyncIterator[Delta], wait: float, limit: str) -> Delta | None:
        now = time.monotonic()
        until, name, seconds = min(
            (now + wait, limit, wait),
            (self._end, "total", self._total_s),
            (self._deadline, "deadline", self._deadline_s),
        )
        try:
            async with asyncio.timeout(until - now):
                return await anext(deltas, None)
        except TimeoutError:
            raise DeadlineExceeded(name, round(seconds, 3), node=self._node) from None
