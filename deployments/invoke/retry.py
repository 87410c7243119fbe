"""Tries the same node again when that can help."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from deployments.invoke.budget import Budget
from graph.errors import ModelyardError, NodeFailed
from graph.node import Invoke, closing_stream
from graph.spec import NodeSpec
from graph.types import Call, Delta, NodeName

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 30.0
PATIENCE_S = 5.0
"""Longest wait, all retries together, at a node that has a fallback."""


def retrying(
    invoke: Invoke,
    lookup: Callable[[NodeName], NodeSpec],
    budget: Budget,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    jitter: Callable[[], float] = random.random,
) -> Invoke:
    """Repeat a call that failed in a way that may pass (408, 429, 5xx, connection refused or reset).

    Waits as long as the node asks for (`Retry-After`), else exponentially with jitter. The budget bounds what a failing
    node gets of all callers' retries. An answer that the caller has begun to read is never begun anew, unless the
    caller takes resets. A caller who does not stream gets nothing until an attempt has succeeded, so a failure midway
    leaves nothing to take back.
    """

    async def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        spec = lookup(node)
        most = min(spec.limits.attempts, call.context.attempts or 1000)
        patience = PATIENCE_S if spec.edges.fallback else math.inf
        budget.called(node)
        made = 0
        while True:
            held: list[Delta] = []
            sent = False
            try:
                within = call.with_context(attempts=most - made) if made else call
                async with closing_stream(invoke(node, within)) as deltas:
                    async for delta in deltas:
                        if made and delta.finish_reason:
                            delta = replace(delta, attempt=made + (delta.attempt or 1))
                        if not call.stream:
                            held.append(delta)
                            continue
                        sent = True
                        yield delta
                for delta in held:
                    yield delta
                return
            except ModelyardError as error:
                made += max(1, error.attempts)
                error.attempts = made
                wait = _wait_before(made, error, jitter)
                give_up = made >= most or (sent and not call.resets) or _too_late(wait, call)
                if wait is None or wait > patience or give_up or not budget.spend(node):
                    raise
            if sent:
                yield Delta(reset=True)
            patience -= wait
            await sleep(wait)

    return run


def _wait_before(made: int, error: ModelyardError, jitter: Callable[[], float]) -> float | None:
    """Seconds to wait after so many attempts before the next one, or None if there should be none."""
    if not isinstance(error, NodeFailed) or not error.retryable:
        return None
    asked: float | None = getattr(error, "retry_after", None)
    if asked is not None:
        return asked if asked <= LONGEST_WAIT_S else None
    return float(min(FIRST_WAIT_S * 2 ** (made - 1), LONGEST_WAIT_S) * (0.5 + 0.5 * jitter()))


def _too_late(wait: float | None, call: Call) -> bool:
    deadline = call.context.deadline
    return wait is not None and deadline is not None and time.time() + wait >= deadline
