"""What kinds that run a model in their own process share: loading in a thread, work on threads, freeing."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from deployments.nodes.workers import Workers
from graph.errors import NodeUnreachable
from graph.spec import NodeSpec

M = TypeVar("M")


class LoadedNode(Generic[M]):
    """Base of a node that holds a model. A kind writes `_load`, which blocks, and gets its model by `_ready`."""

    def __init__(self, spec: NodeSpec, *, workers: int) -> None:
        self.spec = spec
        self._model: M | None = None
        self._workers = Workers(f"{spec.kind}-{spec.name}", workers)

    async def load(self) -> None:
        """Load the model. Raises `InvalidSpec` naming what is wrong if that is impossible."""
        self._model = await asyncio.to_thread(self._load)

    def _load(self) -> M:
        raise NotImplementedError

    async def check(self) -> None:
        """Raise `NodeUnreachable` if no model is loaded."""
        self._ready()

    async def aclose(self) -> None:
        """Stop every call and free the model."""
        await self._workers.aclose()
        self._model = None

    def _ready(self) -> M:
        if self._model is None:
            raise NodeUnreachable(f"node {self.spec.name!r} has no model loaded", node=self.spec.name)
        return self._model
