"""Asks a node a second time when its answer is late in beginning, and takes the answer that begins first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

from deployments.invoke.budget import Budget
from graph.errors import ModelyardError
from graph.node import Invoke, close_stream
from graph.spec import NodeSpec
from graph.types import Call, Delta, NodeName

Leave = Callable[[], None]
TakePlace = Callable[[NodeName], Awaitable[Leave | None]]
"""Takes one more place at a node if one is free now; returns what gives it back."""


def hedged(invoke: Invoke, lookup: Callable[[NodeName], NodeSpec], budget: Budget, take_place: TakePlace) -> Invoke:
    """Hedge the calls to nodes that ask for it (`limits.hedge_s`), within a budget; the slower call is cancelled.

    A hedge counts as an attempt, needs a free place at the node, and is never made when others wait for one. If one of
    the two calls fails before it has begun to answer, the other is waited for; if both do, the first one's error is
    raised.
    """

    def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        limits = lookup(node).limits
        if limits.hedge_s is None or min(limits.attempts, call.context.attempts or limits.attempts) < 2:
            return invoke(node, call)  # not even a generator is added
        budget.called(node)

        async def may_hedge() -> Leave | None:
            leave = await take_place(node)
            if leave is not None and not budget.spend(node):
                leave()
                return None
            return leave

        return _raced(lambda: _Runner(invoke(node, call)), limits.hedge_s, may_hedge)

    return run


class _Runner:
    """One of the calls in the race."""

    def __init__(self, deltas: AsyncIterator[Delta]) -> None:
        self.deltas = deltas
        self.first = asyncio.create_task(_first(deltas))

    async def aclose(self) -> None:
        self.first.cancel()
        await asyncio.wait([self.first])
        if not self.first.cancelled():
            self.first.exception()  # seen, so that the loop does not complain of it
        await close_stream(self.deltas)


async def _first(deltas: AsyncIterator[Delta]) -> Delta | None:
    return await anext(deltas, None)


async def _raced(
    start: Callable[[], _Runner], hedge_s: float, may_hedge: Callable[[], Awaitable[Leave | None]]
) -> AsyncIterator[Delta]:
    runners = [start()]
    leave: Leave | None = None
    try:
        await asyncio.wait([runners[0].first], timeout=hedge_s)
        if not runners[0].first.done() and (leave := await may_hedge()) is not None:
            runners.append(start())
        winner = await _fastest(runners)
        if leave is not None:
            await asyncio.gather(*(runner.aclose() for runner in runners if runner is not winner))
            leave()
            leave = None
        delta = await winner.first
        while delta is not None:
            yield replace(delta, attempt=len(runners)) if len(runners) > 1 and delta.finish_reason else delta
            delta = await anext(winner.deltas, None)
    except ModelyardError as error:
        error.attempts = len(runners)
        raise
    finally:
        if leave is not None:
            leave()
        await asyncio.gather(*(runner.aclose() for runner in runners))


async def _fastest(runners: Sequence[_Runner]) -> _Runner:
    """Return the one that begins to answer first, or the first of all if none does."""
    waiting = {runner.first: runner for runner in runners}
    while waiting:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for runner in [waiting.pop(task) for task in list(waiting) if task in done]:
            if runner.first.exception() is None:
                return runner
    return runners[0]
