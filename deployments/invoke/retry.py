"""Tries the same node again when that can help."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from graph.errors import ModelyardError, NodeFailed
from graph.node import Invoke, closing_stream
from graph.spec import NodeSpec
from graph.types import Call, Delta, NodeName

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 30.0


def retrying(
    invoke: Invoke,
    lookup: Callable[[NodeName], NodeSpec],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    jitter: Callable[[], float] = random.random,
) -> Invoke:
    """Repeat a call that failed in a way that may pass (408, 429, 5xx, connection refused or reset).

    Waits as long as the node asks for (`Retry-After`), else exponentially with jitter. An answer that the caller
    has begun to read is never begun anew, unless the caller takes resets. A caller who does not stream gets nothing
    until an attempt has succeeded, so a failure midway leaves nothing to take back.
    """

    async def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        most = min(lookup(node).limits.attempts, call.context.attempts or 1000)
        for attempt in range(1, most + 1):
            held: list[Delta] = []
            sent = False
            try:
                async with closing_stream(invoke(node, call)) as deltas:
                    async for delta in deltas:
                        if attempt > 1 and delta.finish_reason:
                            delta = replace(delta, attempt=attempt)
                        if not call.stream:
                            held.append(delta)
                            continue
                        sent = True
                        yield delta
                for delta in held:
                    yield delta
                return
            except ModelyardError as error:
                error.attempts = attempt
                wait = _wait_before(attempt, error, jitter)
                give_up = attempt == most or (sent and not call.resets) or _too_late(wait, call)
                if wait is None or give_up:
                    raise
            if sent:
                yield Delta(reset=True)
            await sleep(wait)

    return run


def _wait_before(attempt: int, error: ModelyardError, jitter: Callable[[], float]) -> float | None:
    """Seconds to wait before the next attempt, or None if there should be none."""
    if not isinstance(error, NodeFailed) or not error.retryable:
        return None
    asked: float | None = getattr(error, "retry_after", None)
    if asked is not None:
        return asked if asked <= LONGEST_WAIT_S else None
    return float(min(FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S) * (0.5 + 0.5 * jitter()))


def _too_late(wait: float | None, call: Call) -> bool:
    deadline = call.context.deadline
    return wait is not None and deadline is not None and time.time() + wait >= deadline
