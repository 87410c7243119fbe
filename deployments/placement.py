"""Sends a call to where its node runs: a Serve application, or this process."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException

from deployments.secrets import resolve_secrets
from deployments.settings import Settings
from deployments.snapshot import NodeStatus, Snapshot, State
from graph.errors import ModelyardError, NodeNotFound, NodeUnavailable, NodeUnreachable, Overloaded, StreamBroken
from graph.model_graph import ModelGraph
from graph.node import Invoke, KindRegistry, Node, NodeEnvironment, closing_stream
from graph.spec import NodeSpec
from graph.types import Call, Delta, NodeName

log = logging.getLogger("modelyard.placement")


class Placement:
    """Where every ready node runs. `update` follows the snapshots; `invoke` is the innermost `Invoke`."""

    def __init__(
        self,
        kinds: KindRegistry,
        settings: Settings,
        ask: Invoke | None = None,
        graph: Callable[[], ModelGraph] | None = None,
    ) -> None:
        """`ask` and `graph` are lent to nodes that ask other nodes."""
        self._kinds = kinds
        self._environment = NodeEnvironment(
            resolve_secrets, settings.allow_private, ask, graph, settings.mcp_commands()
        )
        self._local: dict[NodeName, _Local] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._handles: dict[NodeName, tuple[str, Any]] = {}
        self._failed: dict[NodeName, str] = {}
        """Nodes of this process that could not be loaded, and why."""

    async def update(self, snapshot: Snapshot) -> Snapshot:
        """Load what is new in this process, take handles of what is new in Serve, let go of the rest.

        Returns the snapshot as this process can serve it: without what could not be loaded here.
        """
        serving = {name: (s.serving, s.app) for name, s in snapshot.nodes.items() if s.serving is not None}
        serving |= {canary.place: (canary.spec, canary.app) for canary in snapshot.canaries.values()}
        for place, (spec, app) in serving.items():
            if app is None:
                await self._load(place, spec)
            elif self._handles.get(place, ("", None))[0] != app:
                self._handles[place] = (app, serve.get_app_handle(app).options(stream=True))
        self._handles = {n: h for n, h in self._handles.items() if n in serving and serving[n][1] is not None}
        self._failed = {name: why for name, why in self._failed.items() if name in serving}
        for place in [n for n in self._local if n not in serving or serving[n][1] is not None]:
            self._retire(self._local.pop(place))
        return replace(snapshot, nodes={name: self._seen(status) for name, status in snapshot.nodes.items()})

    def _seen(self, status: NodeStatus) -> NodeStatus:
        if status.canary is not None and (why := self._failed.get(status.canary.place)) is not None:
            status = replace(status, canary=None, error=why)
        why = self._failed.get(status.name)
        if why is None:
            return status
        local = self._local.get(status.name)  # an older version, which goes on serving
        state: State = "ready" if local else "failed"
        return replace(status, state=state, serving=local.spec if local else None, serving_version=None, error=why)

    async def _load(self, place: NodeName, spec: NodeSpec) -> None:
        known = self._local.get(place)
        if known is not None and known.spec == spec:
            return
        try:
            node = self._kinds[spec.kind](spec, self._environment)
            await node.load()
        except Exception as error:  # a boundary: whatever a kind raises becomes the node's state
            log.warning("node %s cannot be loaded: %s", spec.name, error)
            self._failed[place] = f"{type(error).__name__}: {error}"
            return
        self._failed.pop(place, None)
        self._local[place] = _Local(spec, node)
        if known is not None:
            self._retire(known)

    def _retire(self, local: _Local) -> None:
        """Close a node once the calls that it is answering have ended."""
        task = asyncio.create_task(local.close())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def invoke(self, node: NodeName, call: Call) -> AsyncIterator[Delta]:
        """Answer a call at its node."""
        local = self._local.get(node)
        if local is not None:
            return local.run(call)
        if node in self._handles:
            return _remote(self._handles[node][1], node, call)
        raise NodeNotFound(f"node {node!r} is not ready", param="model", node=node)

    async def aclose(self) -> None:
        """Close every node of this process."""
        for task in list(self._leaving):
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        for local in self._local.values():
            await local.node.aclose()
        self._local = {}


class _Local:
    """A node in this process, and how many calls it is answering."""

    def __init__(self, spec: NodeSpec, node: Node) -> None:
        self.spec = spec
        self.node = node
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self, call: Call) -> AsyncIterator[Delta]:
        self._calls += 1
        self._idle.clear()
        try:
            async with closing_stream(self.node.run(call)) as deltas:
                async for delta in deltas:
                    yield delta
        except ModelyardError as error:
            error.node = error.node or self.spec.name
            raise
        except Exception as error:  # a boundary: a kind's bug is a failure of this node only
            log.exception("node %s raised", self.spec.name)
            message = f"node {self.spec.name!r} raised {type(error).__name__}"
            raise NodeUnavailable(message, node=self.spec.name) from error
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def close(self) -> None:
        try:
            await self._idle.wait()
        finally:
            await self.node.aclose()


async def _remote(handle: Any, node: NodeName, call: Call) -> AsyncIterator[Delta]:
    """Stream a call through a Serve handle; Ray's errors become ours."""
    response = handle.run.remote(call)
    begun = False
    finished = False
    try:
        async for item in response:
            if isinstance(item, ModelyardError):
                raise item
            begun = True
            yield item
        finished = True
    except BackPressureError as error:
        raise Overloaded(f"node {node!r} has too many calls waiting", node=node) from error
    except (RayError, RayServeException) as error:
        if begun:
            raise StreamBroken(f"the process of node {node!r} ended while it was answering", node=node) from error
        raise NodeUnreachable(f"the process of node {node!r} is gone", node=node) from error
    finally:
        if not finished:
            response.cancel()


def capabilities(kinds: KindRegistry, spec: NodeSpec, call: Call) -> str | None:
    """Return why a node's kind cannot take a call, or None if it can."""
    kind = kinds.get(spec.kind)
    if kind is None:
        return f"its kind {spec.kind!r} is not installed"
    if call.operation not in kind.operations:
        return f"does not do {call.operation}; its kind does {', '.join(sorted(kind.operations))}"
    if call.operation == "chat":
        missing = sorted(name for name in call.params if name not in kind.honours)
        if missing:
            return f"does not support {', '.join(missing[:20])}"
    return None


def fields_of_no_node(kinds: KindRegistry, specs: Iterable[NodeSpec], call: Call) -> dict[str, str | None]:
    """Return the fields of a chat call that none of these nodes takes, each with one that is spelt much like it."""
    chats = [kind for name in {spec.kind for spec in specs} if (kind := kinds.get(name)) and "chat" in kind.operations]
    if not chats:
        return {}
    taken = frozenset[str]().union(*(kind.honours for kind in chats))
    strange = sorted(set(call.params) - taken)
    return {name: next(iter(difflib.get_close_matches(name, taken, 1)), None) for name in strange}
