"""What a gateway knows of the nodes at one moment."""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import NodeName

State: TypeAlias = Literal["loading", "ready", "failed", "draining"]


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that is loaded and takes a share of its node's calls."""

    spec: NodeSpec
    version: int
    share: float
    app: str | None = None
    """Its Serve application; None if the node runs in the gateway's process."""

    @property
    def place(self) -> NodeName:
        """Name under which it is called, apart from the version that serves. No node can have such a name."""
        return f"{self.spec.name}@v{self.version}"

    def takes(self, request_id: str) -> bool:
        """Say whether a request is the new version's: the same for a request in every gateway."""
        if not request_id:
            return random.random() < self.share  # noqa: S311  # no secret
        return zlib.crc32(f"{self.place} {request_id}".encode()) < self.share * 2**32


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node: what was asked for, and what serves."""

    name: NodeName
    version: int
    """The version that was registered last."""
    spec: NodeSpec
    """The spec of that version."""
    state: State
    """`ready` also while a newer version loads behind a serving one; `failed` if nothing serves."""
    serving: NodeSpec | None = None
    """The spec that answers calls now; an older version's while the newest is loading or failed."""
    serving_version: int | None = None
    app: str | None = None
    """Serve application of the serving version; None if the node runs in the gateway's process."""
    error: str | None = None
    """Why the newest version could not be loaded."""
    canary: Canary | None = None
    """The newest version while it takes a share of the calls only; `serving` is then the older one."""


@dataclass(frozen=True)
class Snapshot:
    """All nodes at one moment. `number` rises with every change."""

    number: int = 0
    nodes: Mapping[NodeName, NodeStatus] = field(default_factory=dict)

    @cached_property
    def graph(self) -> ModelGraph:
        """The graph as it should be answered for: what serves, and what is still loading for the first time."""
        return ModelGraph(status.serving or status.spec for status in self.nodes.values())

    @cached_property
    def canaries(self) -> dict[NodeName, Canary]:
        """The versions that take a share of their node's calls, by the node's name."""
        return {name: status.canary for name, status in self.nodes.items() if status.canary is not None}

    @cached_property
    def _places(self) -> dict[NodeName, NodeSpec]:
        return {canary.place: canary.spec for canary in self.canaries.values()}

    def spec_at(self, place: NodeName) -> NodeSpec:
        """Return the spec that answers at a node's name, or at a canary's place. Raises `NodeNotFound`."""
        return self._places.get(place) or self.graph[place]

    @cached_property
    def unavailable(self) -> dict[NodeName, str]:
        """Why nodes cannot take calls now."""
        return {
            name: f"is {status.state}" + (f": {status.error}" if status.error else "")
            for name, status in self.nodes.items()
            if status.serving is None
        }
