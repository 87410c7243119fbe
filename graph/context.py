"""`CallContext`: what belongs to a request rather than to its content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graph.budget import Budget
from graph.caller import Caller
from graph.preferences import Preferences


@dataclass(frozen=True, slots=True)
class CallContext:
    """What belongs to the request rather than to its content."""

    request_id: str = ""
    deadline: float | None = None
    """Seconds since the epoch, after which nobody waits for the answer any more."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """W3C trace context (`traceparent`, `tracestate`) of the caller's span."""
    attempts: int | None = None
    """Most attempts that may still be made for this call, over all nodes; None leaves it to the nodes' limits."""
    prefer: Preferences | None = None
    """What the caller prefers of the choice of a node; None leaves it to the operator's policy."""
    budget: Budget | None = None
    """What may still be spent on this call: a node that asks others stays within it."""
    within: tuple[str, ...] = ()
    """Nodes of kind `plan` whose tasks this call is for, the outermost first."""
    caller: Caller | None = None
    """Who asks; None is the operator, for whom there are no limits."""

    @property
    def nodes(self) -> frozenset[str] | None:
        """The nodes that exist for the caller; None: every one."""
        return self.caller.nodes if self.caller is not None else None
