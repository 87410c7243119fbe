"""What routing and planning are made of: scores, decisions, and the two plugin points `Scorer` and `Planner`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from graph.model_graph import ModelGraph
from graph.plan import Plan
from graph.spec import NodeSpec
from graph.types import Call, NodeName

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a strategy says of some texts."""

    labels: tuple[NodeName, ...]
    probabilities: Array
    """(texts, nodes); each row sums to 1: which node, given that some node fits."""
    in_scope: Array
    """(texts,): calibrated probability that any node fits at all."""
    quality: Array | None = None
    """(texts, nodes): estimated quality of each node's answer, 0 to 1; nan where no correctness data tell. None
    without such data."""
    shortlisted: bool = False
    """Whether `labels` are only the nodes that come into question, of more than anyone looks at one by one."""


@dataclass(frozen=True, slots=True)
class Utility:
    """Why a candidate stands where it stands: what it is worth, less what it takes, each weighed by the policy."""

    quality: float = 0.0
    cost: float = 0.0
    latency: float = 0.0

    @property
    def total(self) -> float:
        """What candidates are ranked by."""
        return self.quality - self.cost - self.latency

    def to_json(self) -> dict[str, float]:
        """Return the native surface's form."""
        parts = {"quality": self.quality, "cost": self.cost, "latency": self.latency, "total": self.total}
        return {name: round(value, 6) for name, value in parts.items()}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that could take the call, and the calibrated probability that it is the right one."""

    node: NodeName
    probability: float
    utility: Utility = Utility()
    quality: float | None = None
    """Estimated quality of its answer to this request, where there are correctness data of the node."""

    def to_json(self) -> dict[str, Any]:
        """Return the native surface's form."""
        found: dict[str, Any] = {"node": self.node, "probability": round(self.probability, 6)}
        if self.quality is not None:
            found["quality"] = round(self.quality, 6)
        return found | {"utility": self.utility.to_json()}


@dataclass(frozen=True, slots=True)
class Excluded:
    """A node that cannot take the call, and why."""

    node: NodeName
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Which node takes a call, and how that came about."""

    node: NodeName | None
    """The chosen node; None when the request is out of scope and no node is the default."""
    probability: float
    """Calibrated probability that the first candidate is right (in scope and this node)."""
    out_of_scope: bool
    """Whether no expert fits; `node` is then the default node, if there is one."""
    candidates: tuple[Candidate, ...]
    """Best first."""
    excluded: tuple[Excluded, ...]
    query: str
    """The text to send on: the request's own, or the strategy's rewrite for the node."""
    strategy: str
    via: tuple[NodeName, ...] = ()
    """Nodes that the attachments pass first, along `feeds` edges: speech before a text expert."""
    elapsed_ms: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the native surface's form."""
        return {
            "node": self.node,
            "probability": round(self.probability, 6),
            "out_of_scope": self.out_of_scope,
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "excluded": [{"node": e.node, "reason": e.reason} for e in self.excluded],
            "query": self.query,
            "strategy": self.strategy,
            "via": list(self.via),
            "elapsed_ms": round(self.elapsed_ms, 3),
        }


class Scorer(Protocol):
    """Plugin point: a way to score nodes for requests. A strategy only scores; `decide` is shared."""

    @property
    def strategy(self) -> str:
        """Its name in decisions and traces."""

    @property
    def labels(self) -> tuple[NodeName, ...]:
        """The nodes it was fitted for."""

    def score(self, texts: Sequence[str]) -> Scores:
        """Score texts in one batch. CPU-bound and thread-safe; the caller keeps it off the event loop."""


@runtime_checkable
class Rewriter(Protocol):
    """What a scorer may be besides: it says how a node is best asked."""

    def rewrite(self, text: str, node: NodeName) -> str:
        """Return the request as the node should get it. CPU-bound and thread-safe; commonly far slower than scoring."""


class TrainedAhead(Scorer, Protocol):
    """A scorer that comes from an artefact, and can be asked about other nodes than those that it was trained on."""

    def for_nodes(self, specs: Sequence[NodeSpec]) -> Scorer:
        """Return a scorer of exactly these nodes, known or new. Blocks; seconds, where there are new ones."""

    def explain(self, texts: Sequence[str]) -> tuple[Scores, npt.NDArray[np.bool_]]:
        """Return the scores, and (texts,) True where a second stage was asked."""


class Encoder(Protocol):
    """Turns texts into unit vectors."""

    name: str

    def encode(self, texts: Sequence[str]) -> Array:
        """Return (texts, dimensions), each row of length 1. Thread-safe."""


class Planner(Protocol):
    """Plugin point: how a request becomes a plan."""

    name: str

    async def plan(self, call: Call, graph: ModelGraph) -> Plan:
        """Return a plan that the graph accepts; raise `NoNodeFits` when nothing can be done."""
