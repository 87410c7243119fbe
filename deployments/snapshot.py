"""What a gateway knows of the nodes at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import NodeName

State: TypeAlias = Literal["loading", "ready", "failed", "draining"]


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
    def unavailable(self) -> dict[NodeName, str]:
        """Why nodes cannot take calls now."""
        return {
            name: f"is {status.state}" + (f": {status.error}" if status.error else "")
            for name, status in self.nodes.items()
            if status.serving is None
        }
