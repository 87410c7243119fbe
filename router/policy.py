"""`Policy`: what an operator prefers when several nodes could take a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from graph.preferences import Preferences
from graph.types import NodeName


@dataclass(frozen=True, slots=True)
class Policy:
    """Preferences of `decide`. The utility of a node is

    quality_weight * value - cost_weight * cost / dearest - latency_weight * latency / slowest,

    where value is the probability that the node is right, or its estimated quality where that is known, and dearest and
    slowest are taken over the nodes that can take the call. So a weight says how much probability of being right one
    would give up to go from the dearest (slowest) node to a free (instant) one; 0 ignores it.
    """

    min_probability: float = 0.5
    """Least probability that some node fits; below it the call is out of scope."""
    cost_weight: float = 0.0
    latency_weight: float = 0.0
    latency_ms: Mapping[NodeName, float] = field(default_factory=dict)
    """Typical latency of nodes, where known; a node that is not listed is taken to be instant."""
    quality_weight: float = 1.0
    budget: float | None = None
    """Most that a node may cost per million tokens, in and out together; dearer ones are left out."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_probability <= 1.0:
            raise ValueError(f"min_probability must lie between 0 and 1; got {self.min_probability}")
        for name in ("quality_weight", "cost_weight", "latency_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")

    def preferring(self, preferences: Preferences | None) -> Policy:
        """Return the policy of one call: the caller's weights in place of the operator's."""
        if preferences is None:
            return self
        return replace(
            self,
            quality_weight=preferences.quality,
            cost_weight=preferences.cost,
            latency_weight=preferences.latency,
            budget=preferences.budget,
        )
