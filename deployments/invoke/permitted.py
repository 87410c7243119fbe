"""Keeps a caller to the nodes that exist for it, whatever decided on a node before."""

from __future__ import annotations

from collections.abc import AsyncIterator

from graph.errors import NodeNotFound
from graph.node import Invoke
from graph.types import Call, Delta, NodeName


def permitted(invoke: Invoke) -> Invoke:
    """Refuse a call to a node that its caller may not use, as if there were no such node."""

    def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        caller = call.context.caller
        if caller is not None and not caller.sees(node):
            raise NodeNotFound(f"no node is called {node!r}", param="model", node=node)
        return invoke(node, call)

    return run
