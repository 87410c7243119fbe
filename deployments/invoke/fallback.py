"""Takes another node when one fails, along the `fallback` edges."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from graph.errors import (
    ContentRefused,
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    ModelyardError,
    NodeRejected,
)
from graph.model_graph import ModelGraph
from graph.node import Invoke, closing_stream
from graph.types import Call, Delta, NodeName

CALLERS_FAULT = frozenset({400, 413, 422})
"""Statuses of an upstream that any other node would answer with too."""


def falling_back(
    invoke: Invoke,
    graph: Callable[[], ModelGraph],
    usable: Callable[[NodeName, Call], bool],
    *,
    max_attempts: int,
    on_fallback: Callable[[NodeName, NodeName], None],
) -> Invoke:
    """Follow `fallback` edges in order, breadth first, until a node answers.

    A request that is too long goes only to nodes with a larger context (one that does not say how large its context is
    may always be the larger one, and any node after one that does not say); a content refusal and a wrong request go
    nowhere. When every node fails, the first error is raised: it is the one that explains. Every delta names the
    node that answers, and the last one, or the error, says how many attempts were made at all nodes together.
    """

    async def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        first: ModelyardError | None = None
        most = left = call.context.attempts or max_attempts
        tried: list[NodeName] = []
        ahead = [node]
        while ahead and left > 0:
            current = ahead.pop(0)
            tried.append(current)
            sent = False
            allowed = call if left == call.context.attempts else call.with_context(attempts=left)
            try:
                async with closing_stream(invoke(current, allowed)) as deltas:
                    async for delta in deltas:
                        sent = True
                        yield _named(delta, current, most - left)
                return
            except ModelyardError as error:
                first = first or error
                left -= error.attempts
                first.attempts = error.attempts = most - left
                if (sent and not call.resets) or not may_pass_elsewhere(error, call):
                    raise first if not sent else error from None
                ahead = _next(graph(), current, error, tried, ahead)
                ahead = [name for name in ahead if usable(name, call)]
            if ahead and left > 0:
                on_fallback(current, ahead[0])
                if sent:
                    yield Delta(reset=True)
        assert first is not None  # noqa: S101  # the loop ran at least once
        raise first

    return run


def _named(delta: Delta, node: NodeName, spent: int) -> Delta:
    if delta.finish_reason and spent:
        delta = replace(delta, attempt=spent + (delta.attempt or 1))
    return delta if delta.node else delta.named(node)


def may_pass_elsewhere(error: ModelyardError, call: Call) -> bool:
    """Say whether a call that failed so may succeed at another node, or with another version."""
    deadline = call.context.deadline
    if deadline is not None and time.time() >= deadline:
        return False
    if isinstance(error, ContextTooLong):
        return True
    if isinstance(error, NodeRejected):
        return error.status not in CALLERS_FAULT
    if isinstance(error, DeadlineExceeded):
        return error.limit != "deadline"
    return not isinstance(error, (InvalidRequest, ContentRefused))


def _next(
    graph: ModelGraph, node: NodeName, error: ModelyardError, tried: list[NodeName], ahead: list[NodeName]
) -> list[NodeName]:
    """Return the nodes that are still to be tried, those that were ahead before this failure first."""
    if node not in graph:
        return ahead
    known = {*tried, *ahead}
    targets = ahead + [name for name in graph[node].edges.fallback if name in graph and name not in known]
    if isinstance(error, ContextTooLong):
        targets = [name for name in targets if _may_be_larger(graph[name].context_window, graph[node].context_window)]
    return targets


def _may_be_larger(window: int | None, too_small: int | None) -> bool:
    return window is None or too_small is None or window > too_small
