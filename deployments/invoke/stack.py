"""Composes the policies into the one `Invoke` that the service uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from deployments.invoke.breaker import CircuitBreaker
from deployments.invoke.budget import HEDGES, RETRIES, Budget
from deployments.invoke.bulkhead import Bulkhead, OnQueued
from deployments.invoke.cascade import Judged, escalating
from deployments.invoke.fallback import falling_back
from deployments.invoke.hedge import hedged
from deployments.invoke.limits import limited
from deployments.invoke.once import tried_once
from deployments.invoke.retry import retrying
from graph.model_graph import ModelGraph
from graph.node import Invoke
from graph.spec import NodeSpec
from graph.types import Call, NodeName


@dataclass(frozen=True)
class Policies:
    """What the stack needs to know of the service around it."""

    graph: Callable[[], ModelGraph]
    usable: Callable[[NodeName, Call], bool]
    """Whether a node is ready and can take the call."""
    on_fallback: Callable[[NodeName, NodeName], None]
    max_attempts: int
    lookup: Callable[[NodeName], NodeSpec] | None = None
    """The spec at a node's name or at a version's own place; by default the graph's."""
    on_queued: OnQueued = lambda node, waiting, seconds: None
    on_judged: Judged = lambda node, failed_check: None
    on_trial: Callable[[Invoke], Invoke] = lambda invoke: invoke
    """Wrapper that lets newer versions of nodes take their share of the calls."""
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    observers: Sequence[Callable[[Invoke], Invoke]] = ()
    """Wrappers that see each node's call as a whole, outermost first: tracing, metrics."""


@dataclass(frozen=True)
class Stack:
    """The policies composed."""

    invoke: Invoke
    forget: Callable[[NodeName], None]
    """Drop what is known of a node that was removed."""


def compose(place: Invoke, policies: Policies) -> Stack:
    """Return once( cascade( fallback( once( trial( observers( bulkhead( breaker( retry( hedge( limits( place ) ) ) … ).

    Observers stand inside the fallback, so that each node that was asked has a span of its own, and outside retry,
    so that attempts at one node are one span.
    """
    lookup = policies.lookup or (lambda name: policies.graph()[name])
    bulkhead = Bulkhead(lookup, policies.on_queued)
    retries, hedges = Budget(RETRIES), Budget(HEDGES)
    invoke = hedged(limited(place, lookup), lookup, hedges, bulkhead.take_place)
    invoke = retrying(invoke, lookup, retries)
    invoke = bulkhead.wrap(policies.breaker.wrap(invoke))
    for observe in reversed(policies.observers):
        invoke = observe(invoke)
    invoke = policies.on_trial(invoke)
    invoke = falling_back(
        tried_once(invoke, lookup),
        policies.graph,
        policies.usable,
        max_attempts=policies.max_attempts,
        on_fallback=policies.on_fallback,
    )
    invoke = escalating(
        invoke,
        policies.graph,
        policies.usable,
        max_attempts=policies.max_attempts,
        on_judged=policies.on_judged,
    )

    def forget(node: NodeName) -> None:
        for part in (policies.breaker, bulkhead, retries, hedges):
            part.forget(node)

    return Stack(tried_once(invoke, lookup), forget)
