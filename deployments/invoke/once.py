"""Tries a call once where its node must not be asked twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from graph.node import Invoke
from graph.spec import NodeSpec
from graph.types import Call, Delta, NodeName


def tried_once(invoke: Invoke, lookup: Callable[[NodeName], NodeSpec]) -> Invoke:
    """Give a call to a node that is not idempotent a single attempt, for retries, hedges and fallbacks together."""

    def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        return invoke(node, call if lookup(node).idempotent else call.with_context(attempts=1))

    return run
