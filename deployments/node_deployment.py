"""One hosted node: the class that a Serve replica runs. Plain Python; `node_controller` makes a deployment of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from deployments.heap import spare_the_collector
from deployments.logs import configure_logging, speak_of
from deployments.secrets import resolve_secrets
from deployments.settings import Settings
from deployments.telemetry import Telemetry, configure_telemetry
from graph import telemetry as otel
from graph.errors import ModelyardError, NodeUnavailable
from graph.node import Node, NodeEnvironment, closing_stream, installed_kinds
from graph.spec import NodeSpec
from graph.tracing import in_replica
from graph.types import Call, Delta

log = logging.getLogger("modelyard.node")


class HostedNode:
    """Loads a node of some kind and answers calls with it."""

    def __init__(self, spec: dict[str, Any], settings: Settings) -> None:
        configure_logging(settings)
        self._settings = settings
        self._spec = NodeSpec.model_validate(spec)
        self._node: Node | None = None
        self._error: str | None = None
        self._telemetry: Telemetry = configure_telemetry(
            service_name="modelyard-node",
            otlp_endpoint=settings.otlp_endpoint,
            sample_ratio=settings.trace_ratio,
            max_traces_per_s=settings.traces_per_s,
            slow_s=settings.trace_slow_s,
            keep_errors=settings.trace_errors,
            store_url=settings.store,
            instance_id=self._spec.name,
        )

    async def reconfigure(self, _: Mapping[str, Any]) -> None:
        """Load the model; Serve awaits this before the replica counts as started.

        A model that cannot be loaded is kept as the node's state rather than raised: Serve would only try the same
        again, and the reason would be lost.
        """
        environment = NodeEnvironment(resolve_secrets, self._settings.allow_private)
        try:
            node = installed_kinds()[self._spec.kind](self._spec, environment)
            await node.load()
            self._node = node
            spare_the_collector()
        except Exception as error:  # a boundary: whatever a model's library raises becomes the node's state
            log.exception("node %s cannot be loaded", self._spec.name)
            self._error = f"{type(error).__name__}: {error}"

    async def status(self) -> str | None:
        """Return why the node could not be loaded, or None if it is ready."""
        return self._error

    async def run(self, call: Call) -> AsyncIterator[Delta | ModelyardError]:
        """Answer a call. An expected failure is the last item: raised, it would lose its fields on the way."""
        speak_of(call.context.request_id, otel.trace_id(otel.span_from(call.context.trace)))
        if self._node is None:
            yield NodeUnavailable(f"node {self._spec.name!r} is not loaded: {self._error}", node=self._spec.name)
            return
        try:
            async with closing_stream(self._traced(call)) as deltas:
                async for delta in deltas:
                    yield delta
        except ModelyardError as error:
            error.node = error.node or self._spec.name
            yield error
        except Exception as error:  # a boundary: a bug in a model's library is a failure of this node only
            log.exception("node %s raised", self._spec.name)
            yield NodeUnavailable(f"node {self._spec.name!r} raised {type(error).__name__}", node=self._spec.name)

    def _traced(self, call: Call) -> AsyncIterator[Delta]:
        assert self._node is not None  # noqa: S101  # `run` has looked
        return in_replica(self._node.run, self._spec, call)

    async def check_health(self) -> None:
        """Let Serve replace the replica when its node can no longer answer."""
        if self._node is not None:
            await self._node.check()

    async def __del__(self) -> None:  # Serve awaits it when the replica stops
        if self._node is not None:
            await self._node.aclose()
        await asyncio.to_thread(self._telemetry.shutdown)
