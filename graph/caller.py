"""`Caller`: who asks, as far as nodes and runs need to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever is behind a request; it travels with the call, also to a process that takes a run over."""

    id: str
    nodes: frozenset[str] | None = None
    """The nodes that exist for this caller; None: every one."""
    max_runs: int | None = None
    """Most runs of this caller that may be in progress; None: as many as there is room for."""
    metered: bool = False
    """Whether what its calls take is counted, for a limit on tokens or a budget."""

    def sees(self, node: str) -> bool:
        """Whether a node exists for this caller."""
        return self.nodes is None or node in self.nodes

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form that `from_json` reads back."""
        nodes = None if self.nodes is None else sorted(self.nodes)
        return {"id": self.id, "nodes": nodes, "max_runs": self.max_runs, "metered": self.metered}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Caller | None:
        """Read what `to_json` wrote; None where there was no caller."""
        if data is None:
            return None
        nodes = None if data["nodes"] is None else frozenset(data["nodes"])
        return cls(data["id"], nodes, data["max_runs"], data["metered"])
