"""What the tests of upstream faults share: the nodes, and a gateway in front of the upstream that plays them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from gateway_service import Service

from benchmarks.fault_upstream import FaultUpstream
from graph.spec import NodeSpec

QUESTION: Final = "Is this lease enforceable?"
QUICK: Final[dict[str, dict[str, float]]] = {
    "f06": {"first_token_s": 0.3},
    "f07": {"first_token_s": 0.3},
    "f09": {"first_token_s": 0.6, "idle_s": 0.3},
}
"""Limits that let a silent upstream be noticed soon; where it answers they are generous."""


def nodes_for(fault: str, url: str, fallback: str, limits: dict[str, Any]) -> list[NodeSpec]:
    """The faulty node, its fallbacks, and one that nothing befalls."""
    common: dict[str, Any] = {"kind": "openai", "endpoint": url, "context_window": 4096}
    faulty = common | {
        "name": fault,
        "model": fault,
        "description": "Contracts and leases.",
        "examples": [QUESTION, "Review the lease", "May the tenant end the lease?"],
        "edges": {"fallback": ["small", "backup"] if fault == "f12" else ["backup"]},
        "limits": QUICK.get(fault, {}) | limits,
    }
    others = [
        {"name": "backup", "model": fallback, "description": "Anything else.", "context_window": 32768},
        {"name": "steady", "model": "steady", "description": "Cooking.", "examples": ["How do I boil an egg?"]},
        {"name": "small", "model": "small", "description": "Sports.", "examples": ["Who won the match?"]},
    ]
    return [NodeSpec(**faulty), *(NodeSpec(**common | other) for other in others)]


Play = Callable[..., Awaitable["FaultyService"]]


@dataclass(frozen=True)
class FaultyService:
    """A gateway and its upstream."""

    service: Service
    upstream: FaultUpstream

    def at_work(self) -> dict[str, int]:
        """Calls that each node is still answering, and places that are taken; empty when nothing is."""
        gateway = self.service.gateway
        calls = {name: local._calls for name, local in gateway._placement._local.items()}
        return {name: count for name, count in calls.items() if count} | (
            {"upstream": self.upstream.busy} if self.upstream.busy else {}
        )
