"""What an import made, and what it could not make, with the reason for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from graph.spec import NodeSpec
from graph.types import NodeName


@dataclass(frozen=True, slots=True)
class Made:
    """One operation that became a node."""

    source: str
    """The operation as the document names it: `GET /orders/{id}`."""
    spec: NodeSpec
    notes: tuple[str, ...] = ()
    """What of the operation the node does not say."""


@dataclass(frozen=True, slots=True)
class Left:
    """One operation that became none."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """All operations of a source."""

    title: str
    made: tuple[Made, ...]
    left: tuple[Left, ...] = ()
    unselected: int = 0
    """Operations that the caller did not want."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Variables that must be set where the service runs, and what for."""

    @property
    def specs(self) -> tuple[NodeSpec, ...]:
        """The nodes."""
        return tuple(item.spec for item in self.made)

    def to_json(self) -> dict[str, Any]:
        """Return the report, without the nodes' declarations."""
        return {
            "title": self.title,
            "nodes": [{"name": m.spec.name, "source": m.source, "notes": list(m.notes)} for m in self.made],
            "not_imported": [{"source": item.source, "reason": item.reason} for item in self.left],
            "not_selected": self.unselected,
            "secrets": dict(self.secrets),
        }


def with_feeds(made: Mapping[NodeName, Made], hints: Mapping[NodeName, tuple[NodeName, ...]]) -> tuple[Made, ...]:
    """Return what was made, with the hints as `feeds` edges."""
    return tuple(_with(item, hints[name]) if name in hints else item for name, item in made.items())


def _with(item: Made, targets: tuple[NodeName, ...]) -> Made:
    edges = item.spec.edges.model_copy(update={"feeds": targets})
    return replace(item, spec=item.spec.model_copy(update={"edges": edges}))
